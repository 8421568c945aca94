"""Tells a person outside about a sweep: a POST of small JSON to a webhook, or a command of theirs.

Sent when the sweep ends and when it needs a person. It happens in a thread with a time limit; what
fails is noted, and never fails the sweep.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPMessage
from typing import IO, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from search_spaces.settings.secrets import printable, without_secrets

TIMEOUT_S: Final = 8.0
"""For one notification; after Ctrl-C, the program ends 10 s later at the latest."""
MASK: Final = "***"
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PREFIX: Final = "BRIDGESWEEP_"
_KEEPING_POST: Final = (307, 308)
_MOVED: Final = (301, 302, 303, *_KEEPING_POST)
log = logging.getLogger(__name__)
Facts = Mapping[str, str | int | float | None]


def check_notify(target: str) -> str | None:
    """The mistake in a `--notify`, or None; nothing is sent and no command is run.

    Args:
        target: URL of a webhook, or a command of the shell.
    """
    if target.endswith(MASK):
        return f"--notify {target}: {MASK} stands for what is never printed; give it again"
    if _URL.match(target):
        try:
            url = urlsplit(target)
            is_valid = url.scheme.lower() in ("http", "https") and bool(url.hostname)
            is_valid = is_valid and url.port != 0  # raises where it is no number
            is_valid = is_valid and " " not in target and printable(target) == target
        except ValueError:
            is_valid = False
        return None if is_valid else f"--notify {shown(target)}: no http(s)://HOST[:PORT]/PATH"
    done = subprocess.run(
        ["/bin/sh", "-n", "-c", target], capture_output=True, text=True, check=False
    )
    words = target.split()
    if done.returncode != 0 or not words:
        return f"--notify {MASK}: neither an http(s) URL nor a command that the shell can read"
    # The shell runs assignments, keywords and builtins, too.
    found = subprocess.run(
        ["/bin/sh", "-c", f"command -v -- {shlex.quote(words[0])}"],
        capture_output=True,
        check=False,
    )
    if found.returncode != 0 and "=" not in words[0] and words[0][0].isalnum():
        return f"--notify {MASK}: there is no command {words[0]!r} on this machine"
    return None


def shown(target: str) -> str:
    """A `--notify` without what may be secret: all but the host of a URL, all of a command."""
    if not _URL.match(target):
        return MASK
    try:
        url = urlsplit(target)
        return f"{url.scheme}://{url.hostname}/{MASK}"
    except ValueError:
        return MASK


class NotSentError(RuntimeError):
    """A command failed; the message holds nothing of it."""


class Notifier:
    """Sends notifications, each in a thread.

    Args:
        target: of `--notify`, checked; None sends nothing.
        note: called with a line when one could not be sent; the log has it, too.
    """

    def __init__(self, target: str | None, note: Callable[[str], None]) -> None:
        self._target, self._note = target, note
        self._threads: list[threading.Thread] = []

    def send(self, facts: Facts) -> None:
        """Send facts: as JSON, or to a command as variables `BRIDGESWEEP_<NAME>`.

        Args:
            facts: `text` (a sentence), `event`, ...; without secrets.
        """
        if self._target is None:
            return
        thread = threading.Thread(
            target=self._send, args=(self._target, facts), name="notify", daemon=True
        )
        thread.start()
        self._threads.append(thread)

    def close(self) -> None:
        """Wait until everything is sent or its time is over."""
        for thread in self._threads:
            thread.join(TIMEOUT_S + 1.0)

    def _send(self, target: str, facts: Facts) -> None:
        try:
            if _URL.match(target):
                _post(target, facts)
            else:
                _run(target, facts)
        except HTTPError as error:
            way = ", a redirect: give the address that it leads to" * (error.code in _MOVED)
            self._fail(f"{shown(target)} answers {error.code}{way}")
        except NotSentError as error:
            self._fail(str(error))
        except Exception as error:  # whatever a server does; messages may hold parts of the URL
            reason = f": {error.reason}" if isinstance(error, URLError) else ""
            about = f"{type(error).__name__}{reason}"
            self._fail(f"{shown(target)}: {about}")

    def _fail(self, reason: str) -> None:
        line = f"the notification was not sent: {reason}"
        log.warning("%s", line)
        self._note(line)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows the redirects that keep a POST; of others, urllib would make a GET without facts."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        is_safe = newurl.startswith("https:") or (req.type == "http" and newurl.startswith("http:"))
        if code not in _KEEPING_POST or not is_safe:
            return None
        return urllib.request.Request(newurl, req.data, req.headers, method="POST")


def _post(url: str, facts: Facts) -> None:
    body = json.dumps(dict(facts), allow_nan=False).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT_S) as response:
        response.read(1)


def _run(command: str, facts: Facts) -> None:
    variables = {
        f"{_PREFIX}{name.upper()}": "" if value is None else str(value)
        for name, value in facts.items()
    }
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        # With what the shell has started.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise NotSentError(f"the command did not end within {TIMEOUT_S:g} s") from None
    if code != 0:
        raise NotSentError(f"the command ended with exit code {code}")


def command_text(words: Sequence[str], notify: str | None) -> str:
    """The command as it can be typed again, without secrets.

    Args:
        words: of the command line.
        notify: of `--notify`: all of it may be secret.
    """
    if notify is not None:
        words = [*words]
        for place, word in enumerate(words):
            option, equals, _ = word.partition("=")
            if equals and _is_notify(option):
                words[place] = f"{option}={shown(notify)}"
            elif place and _is_notify(words[place - 1]):
                words[place] = shown(notify)
    return without_secrets(shlex.join(["python", "-m", "orchestrator.sweep", *words]))


def _is_notify(option: str) -> bool:
    """Whether a word is `--notify` or an abbreviation that only it has."""
    return len(option) > len("--n") and "--notify".startswith(option)
