"""What a person sees while a sweep runs: a picture on a terminal, or lines in a log."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from orchestrator.driver.line_view import LineView
from orchestrator.driver.live_view import LiveView
from orchestrator.monitoring.job_states import JobStates
from orchestrator.monitoring.time_left import TimeLeft
from orchestrator.storage.disk import open_to_append
from search_spaces.settings.secrets import without_secrets

View = LineView | LiveView
"""Shows the events of a sweep; called from several threads."""


def open_view(name: str, verbose: bool, states: JobStates, left: TimeLeft) -> View:
    """The view that suits where the output goes; `verbose` never draws over log lines.

    Args:
        name: the sweep's.
        states: of the jobs.
        left: the time left.
    """
    if sys.stdout.isatty() and not verbose:
        return LiveView(name, states, left)
    return LineView(states, left)


class _LogFile(io.TextIOWrapper):
    """A log that loses what a full disk does not take, instead of an error in whoever prints."""

    def write(self, text: str) -> int:
        """Write; returns the number of letters."""
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Do what `write` does."""
        with contextlib.suppress(OSError):
            super().flush()


@contextlib.contextmanager
def libraries_to(log: Path) -> Iterator[None]:
    """Send to a file what is printed meanwhile, past Python too (Ray's C++ and its processes do).

    A view that was opened before still writes to the terminal. An error that ends the context is
    in the file, too: a line of it is all that a person sees.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    opened = os.fdopen(open_to_append(log), "ab", buffering=0)
    with _LogFile(opened, encoding="utf-8", write_through=True) as file:
        terminal = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                try:
                    yield
                except Exception:
                    print(without_secrets(traceback.format_exc()), file=file)
                    raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
