"""Simulates how jobs pass through the lanes, in the order of the schedule."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter


@dataclass(frozen=True)
class Work:
    """A job, or a part of one, that is not over.

    Attributes:
        key: what others name it by.
        needs: keys of what must be readable before it starts.
        seconds: that it still takes once it runs.
        after: of these, those behind the moment from which others can read its stage.
        cost: what starts first has the highest sum of costs in the longest chain behind it.
        in_lane: whether it takes a lane.
        is_running: whether it has started.
    """

    key: str
    needs: tuple[str, ...]
    seconds: float
    after: float = 0.0
    cost: float = 0.0
    in_lane: bool = True
    is_running: bool = False


def seconds_to_the_end(left: Iterable[Work], lanes: int) -> float:
    """Seconds until the last piece of work ends.

    A free lane takes the ready piece with the longest chain behind it. A need that is not among the
    pieces is met.

    Args:
        left: all that is left.
        lanes: pieces at a time, at least 1.
    """
    simulation = _Simulation({work.key: work for work in left}, lanes)
    while simulation.step():
        pass
    return simulation.now


class _Simulation:
    def __init__(self, left: dict[str, Work], lanes: int) -> None:
        self.now = 0.0
        self._left = left
        self._waiting_for: dict[str, list[str]] = defaultdict(list)
        self._unmet: dict[str, int] = {}
        for key, work in left.items():
            needs = [need for need in work.needs if need in left and not work.is_running]
            self._unmet[key] = len(needs)
            for need in needs:
                self._waiting_for[need].append(key)
        self._chains = self._chain_lengths()
        self._events: list[tuple[float, int, str]] = []
        """Seconds, 0: a stage can be read or 1: a piece is over, its key."""
        self._ready: list[tuple[float, str]] = []
        in_lanes = sum(work.is_running and work.in_lane for work in left.values())
        self._free = max(lanes, in_lanes, 1) - in_lanes
        for key, work in left.items():
            if work.is_running:
                self._start(key)
            elif not self._unmet[key]:
                self._be_ready(key)
        self._fill()

    def step(self) -> bool:
        """Go on to the next event; False if there is none."""
        if not self._events:
            return False
        self.now, is_over, key = heapq.heappop(self._events)
        if is_over:
            self._free += self._left[key].in_lane
        else:
            for waiting in self._waiting_for[key]:
                self._unmet[waiting] -= 1
                if not self._unmet[waiting]:
                    self._be_ready(waiting)
        self._fill()
        return True

    def _be_ready(self, key: str) -> None:
        if self._left[key].in_lane:
            heapq.heappush(self._ready, (-self._chains[key], key))
        else:
            self._start(key)

    def _fill(self) -> None:
        while self._free and self._ready:
            self._free -= 1
            self._start(heapq.heappop(self._ready)[1])

    def _start(self, key: str) -> None:
        work = self._left[key]
        heapq.heappush(self._events, (self.now + work.seconds - work.after, 0, key))
        heapq.heappush(self._events, (self.now + work.seconds, 1, key))

    def _chain_lengths(self) -> dict[str, float]:
        """Per piece its cost and that of the longest chain of pieces that wait for it."""
        chains = {key: work.cost for key, work in self._left.items()}
        needs = {key: set(work.needs) & chains.keys() for key, work in self._left.items()}
        for key in reversed([*TopologicalSorter(needs).static_order()]):
            for need in needs[key]:
                chains[need] = max(chains[need], self._left[need].cost + chains[key])
        return chains
