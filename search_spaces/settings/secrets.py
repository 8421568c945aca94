"""Secrets and control characters, kept out of messages, logs and files."""

from __future__ import annotations

import re
import sys
from typing import Final

# A password may hold what should be escaped: SQLAlchemy takes anything up to the last `@`.
_LOGIN: Final = re.compile(
    r"(?P<scheme>(?<![\w+.-])[\w+.-]+)://(?P<login>[^/?#\s'\"]*:[^\s\"]*|[^/?#\s'\"]*)@",
    re.IGNORECASE,
)
_QUERY: Final = re.compile(r"(?P<before>://[^\s?#'\"]*)\?[^\s#'\"]+")
# The rest of a name may stand before them, as in AWS_SECRET_ACCESS_KEY.
_NAMES: Final = (
    r"password|passwd|passphrase|pwd(?!=/)|secret|credentials?"
    r"|(?:api|access|account|secret|private|shared|encryption)[_-]?key(?:[_-]?id)?"
)
# A tokenizer's token is none.
_TOKEN: Final = (
    r"(?<!(?:pad|eos|bos|cls|sep|unk|per)[_-])(?<!(?:mask|stop)[_-])"
    r"(?<!(?:class|image|video|patch)[_-])token"
)
_COUNT: Final = r"-?\d{1,6}(?:\.\d+)?(?:e[+-]?\d{1,3})?(?![\w.=/+-])"
"""A number behind `token`: of tokens, and none of these is so short."""
_SIGNATURE: Final = r"(?<![\w.-])(?:x-amz-)?(?:signature|sig)"
_IS: Final = r"(?:\\?['\"])?[ \t]*[:=][ \t]*"
_SCHEME: Final = r"(?:basic|bearer|digest|token|negotiate|aws4-hmac-sha256)"
_VALUE: Final = r"(?:(?P<quote>\\?['\"])(?:(?!(?P=quote)).)+|[^&\s'\"]+)"
_PATH: Final = r"(?<![^\s(])(?:~|\.{1,2})?/[\w./-]*(?:passwd|token|secret):(?=\s)"
"""A file such as /etc/passwd, before what is wrong with it; what follows may hold a secret."""
_NAMED: Final = re.compile(
    rf"(?P<path>{_PATH})|(?:(?P<before>(?<![\w.-])[\w.-]*?(?:(?:{_NAMES}){_IS}|{_SIGNATURE}{_IS}"
    rf"|{_TOKEN}{_IS}(?!{_COUNT})"
    rf")|(?<![\w.-])--[\w-]*?(?:{_NAMES}|token)[ \t]+"
    rf"|\bauthorization{_IS}(?:\\?['\"])?(?:{_SCHEME}[ \t]+)?|\bbearer[ \t]+(?!tokens?(?:\s|$)))"
    rf"{_VALUE})",
    re.IGNORECASE,
)
_KNOWN: Final = re.compile(
    r"(?P<before>\b(?:hooks\.slack\.com|webhook\.office\.com|discord(?:app)?\.com/api"
    r"/webhooks|api\.telegram\.org)/)[^\s'\"?#]+"
    r"|(?<![A-Za-z0-9_])(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}"
    r"|xox[a-z]-[\w-]{8,}|glpat-[\w-]{16,}|dapi[0-9a-f]{32}|(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)(?!\w)"
)
"""What shows by its form that it is secret: addresses of chats' webhooks, tokens of services."""
NO_SECRET: Final = (
    "must hold no password, token or query, as it is written to logs and files: give them by the "
    "environment (such as AWS_ACCESS_KEY_ID)"
)
"""What is wrong with a setting of which `has_secret` says so."""
_WITH_CONTAINER: Final = ("abfs", "abfss", "az", "wasb", "wasbs")
"""Schemes of `CONTAINER@ACCOUNT`, which is no login."""


def has_secret(uri: str) -> bool:
    """Whether a URI carries a login or a query, which may sign it."""
    return without_secrets(uri) != uri


def without_secrets(text: str) -> str:
    """A text with all in it that looks like a secret replaced by `***`.

    These are logins and queries of URIs, values behind names such as `password`, and what has the
    form of a known service's token. A word too much is the smaller mistake.
    """
    text = _QUERY.sub(r"\g<before>?***", _LOGIN.sub(_without_login, text))
    text = _KNOWN.sub(lambda match: f"{match['before'] or ''}***", text)
    return _NAMED.sub(_without_value, text)


def printable(text: str) -> str:
    """A text from elsewhere as one line that cannot steer a terminal.

    Control characters, those that turn the direction of writing, and other invisible ones are shown
    as Python writes them in a string: `\\x1b`, `\\u202e`.
    """
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown)


def printable_lines(text: str) -> str:
    """Lines, each as `printable` makes it."""
    return "\n".join(map(printable, text.split("\n")))


def print_error(message: str) -> None:
    """Print what is wrong, a line each, as commands do; without secrets, whoever wrote it."""
    for line in message.splitlines():
        print(f"error: {printable(without_secrets(line))}", file=sys.stderr)


def _without_value(match: re.Match[str]) -> str:
    return match["path"] or f"{match['before']}{match['quote'] or ''}***"


def _without_login(match: re.Match[str]) -> str:
    is_container = match["scheme"].lower() in _WITH_CONTAINER and ":" not in match["login"]
    return match[0] if is_container else f"{match['scheme']}://***@"
