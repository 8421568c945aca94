"""Waiting in tests for what other processes do."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    timeout: float,
    alive: Callable[[], bool] = lambda: True,
) -> T:
    """Call `condition` until it returns something true, which is returned.

    Args:
        timeout: seconds.
        alive: whether the process that is waited for can still make the condition true.
    """
    end = time.monotonic() + timeout
    while not (result := condition()):
        assert alive(), "the process ended before"
        assert time.monotonic() < end, f"not within {timeout} s"
        time.sleep(0.05)
    return result
