"""Whose turn is next among the jobs that are ready for a lane."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable

from orchestrator.plan.room import Group

Rank = tuple[bool, float, int]
"""Sorts jobs: prioritised ones first, then the longest chain, then the order of the plan."""


class Turns:
    """Per demand a heap of ready jobs; entries of jobs that left are skipped.

    Args:
        is_ready: whether a job is ready for a lane with a demand: its entry may be an old one.
    """

    def __init__(self, is_ready: Callable[[str, Group], bool]) -> None:
        self._is_ready = is_ready
        self._queues: dict[Group, list[tuple[Rank, str]]] = defaultdict(list)

    def add(self, key: str, group: Group, rank: Rank) -> None:
        """Add a job that has become ready."""
        heapq.heappush(self._queues[group], (rank, key))

    def clear(self) -> None:
        """Forget all jobs: their ranks have changed."""
        self._queues.clear()

    def first_of_each_demand(self) -> list[tuple[str, Group]]:
        """Keys of the first job of each demand, with the demand, by rank."""
        firsts = []
        for group, queue in self._queues.items():
            while queue and not self._is_ready(queue[0][1], group):
                heapq.heappop(queue)
            if queue:
                firsts.append((*queue[0], group))
        return [(key, group) for _, key, group in sorted(firsts)]
