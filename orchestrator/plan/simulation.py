"""Simulates how the jobs that are left pass through the lanes, in the order of the schedule."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from orchestrator.plan.jobs import DATA, Job


@dataclass(frozen=True)
class Left:
    """A job that is not over.

    Attributes:
        seconds: that it still takes once it runs.
        after: of these, those behind the moment from which others can read its stage.
    """

    job: Job
    seconds: float
    after: float
    is_running: bool


def seconds_to_the_end(left: Sequence[Left], lanes: int) -> float:
    """Seconds until the last of the jobs ends.

    A free lane takes the ready job with the longest chain behind it; the jobs of passes over data
    take none. A need that is not among the jobs is met.
    """
    simulation = _Simulation(left, lanes)
    while simulation.step():
        pass
    return simulation.now


class _Simulation:
    def __init__(self, left: Sequence[Left], lanes: int) -> None:
        self.now = 0.0
        self._left = {item.job.key: item for item in left}
        self._waiting_for: dict[str, list[str]] = defaultdict(list)
        self._unmet: dict[str, int] = {}
        for key, item in self._left.items():
            needs = [need for need in item.job.needs if need in self._left]
            self._unmet[key] = 0 if item.is_running else len(needs)
            for need in needs if not item.is_running else ():
                self._waiting_for[need].append(key)
        self._chains = self._chain_lengths()
        self._events: list[tuple[float, int, str]] = []
        """Seconds, 0: a stage can be read or 1: a job is over, key of the job."""
        self._ready: list[tuple[float, str]] = []
        in_lanes = [x for x in left if x.is_running and x.job.kind not in DATA]
        self._free = max(lanes, len(in_lanes), 1) - len(in_lanes)
        for key, item in self._left.items():
            if item.is_running:
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
            self._free += self._left[key].job.kind not in DATA
        else:
            for waiting in self._waiting_for[key]:
                self._unmet[waiting] -= 1
                if not self._unmet[waiting]:
                    self._be_ready(waiting)
        self._fill()
        return True

    def _be_ready(self, key: str) -> None:
        if self._left[key].job.kind in DATA:
            self._start(key)
        else:
            heapq.heappush(self._ready, (-self._chains[key], key))

    def _fill(self) -> None:
        while self._free and self._ready:
            self._free -= 1
            self._start(heapq.heappop(self._ready)[1])

    def _start(self, key: str) -> None:
        item = self._left[key]
        heapq.heappush(self._events, (self.now + item.seconds - item.after, 0, key))
        heapq.heappush(self._events, (self.now + item.seconds, 1, key))

    def _chain_lengths(self) -> dict[str, float]:
        """Per job its planned cost and that of the longest chain of jobs that wait for it."""
        chains = {key: item.job.cost for key, item in self._left.items()}
        needs = {key: set(self._left[key].job.needs) & chains.keys() for key in chains}
        for key in reversed([*TopologicalSorter(needs).static_order()]):
            for need in needs[key]:
                chains[need] = max(chains[need], self._left[need].job.cost + chains[key])
        return chains
