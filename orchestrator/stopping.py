"""Signals that stop a sweep: Ctrl-C, what schedulers and `timeout` send, a terminal that closes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

STOPPED: Final = 130
"""Exit code of a sweep that a signal has stopped."""
STOP_AGAIN_S = 10.0
SAME_SIGNAL_S = 1.0
SHOWN_AFTER_S = 1.0
"""Seconds after which somebody who waits for the end is told that it comes."""
STOP_HARD_S = 45.0
"""Seconds that a sweep has to stop; Ray ends a process without a head after 60, with no line."""
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


@contextlib.contextmanager
def stopped_by_signals(command: str) -> Iterator[None]:
    """Let signals stop the sweep; the process ends even if its main thread does not hear them.

    Python runs handlers in the main thread, which may wait for a lost cluster in Ray's own code.
    """
    for number in _STOP_SIGNALS:
        is_kept_off = number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
        if not is_kept_off:  # by nohup
            signal.signal(number, interrupt)
    heard, written = socket.socketpair()
    written.setblocking(False)
    is_over = threading.Event()

    def end_if_deaf() -> None:
        while (byte := heard.recv(1)) and byte[0] not in _STOP_SIGNALS:
            pass
        if byte and not is_over.wait(SHOWN_AFTER_S):
            say("\nstopping ...")
        if byte and not is_over.wait(STOP_HARD_S):
            say(stopped(command))
            os._exit(STOPPED)

    def say(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            print(text, file=sys.__stdout__, flush=True)

    signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=end_if_deaf, name="signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        is_over.set()
        written.close()


def stopped(command: str) -> str:
    """What a sweep says that a signal has stopped."""
    return f"\nstopped; the same command continues:\n  {command}"


def interrupt(number: int, frame: FrameType | None) -> None:
    """Stop; and again after a while, as a callback that runs just now may swallow the exception.

    `timeout` and some schedulers send a signal to a process and then to its group: it comes twice.
    """
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    if left > STOP_AGAIN_S - SAME_SIGNAL_S:
        return
    signal.setitimer(signal.ITIMER_REAL, STOP_AGAIN_S)
    raise KeyboardInterrupt


def ignore_signals() -> None:
    """Let no signal disturb the last lines."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
