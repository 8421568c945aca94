"""Announced ends of nodes: a checkpoint at the notice, and then again until the node is gone.

    nodes that drain --node_notice in a trial, Ray Train's watcher for its workers--> Reminder
    --> Context.must_checkpoint

Spot machines are announced 30 to 120 s before their end, `ray drain-node` says how long.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import ray
from ray._private.state import state

from orchestrator.execution.looking import looking

LOOK_S: Final = 5.0
"""Seconds between two looks for a notice."""
AGAIN_S: Final = 20.0
"""Seconds between two checkpoints while a node drains."""


class Reminder:
    """Says when a draining node makes a checkpoint due."""

    def __init__(self) -> None:
        self._latest = -math.inf

    def is_due(self, is_draining: bool) -> bool:
        """Whether a checkpoint is due now; True at the notice and every `AGAIN_S` after it."""
        now = time.monotonic()
        if not is_draining or now - self._latest < AGAIN_S:
            return False
        self._latest = now
        return True


@contextlib.contextmanager
def node_notice() -> Iterator[Callable[[], bool]]:
    """Look in a thread whether the node of this process drains; without Ray it never does.

    Yields:
        A function that answers at once.
    """
    if not ray.is_initialized():
        yield lambda: False
        return
    node = ray.get_runtime_context().get_node_id()
    is_draining = threading.Event()

    def look() -> None:
        if not is_draining.is_set() and node in state.get_draining_nodes():
            is_draining.set()

    with looking(look, LOOK_S, "notice of a drain"):
        yield is_draining.is_set
