"""The graph of jobs: who waits for whom, and how much work waits behind each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter

from orchestrator.plan.jobs import Job


class JobGraph:
    """The needs of jobs, followed in both directions.

    Args:
        jobs: by key; their needs are among them.

    Attributes:
        ordered: the jobs, each behind those that it needs.
        chains: key -> cost of the job and of the longest chain of jobs that wait for it.
    """

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        needs = {key: job.needs for key, job in jobs.items()}
        self.ordered = [jobs[key] for key in TopologicalSorter(needs).static_order()]
        self._jobs = dict(jobs)
        self._depth = {job.key: depth for depth, job in enumerate(self.ordered)}
        self._dependents: dict[str, list[str]] = defaultdict(list)
        for job in self.ordered:
            for need in set(job.needs):
                self._dependents[need].append(job.key)
        self.chains = {key: job.cost for key, job in jobs.items()}
        for job in reversed(self.ordered):
            for need in job.needs:
                longer = jobs[need].cost + self.chains[job.key]
                self.chains[need] = max(self.chains[need], longer)

    def dependents(self, key: str) -> tuple[str, ...]:
        """Keys of the jobs that need a job directly."""
        return tuple(self._dependents.get(key, ()))

    def behind(self, key: str) -> list[str]:
        """Keys of the jobs that wait for a job, directly or not, each behind those it needs."""
        behind: set[str] = set()
        pending = [key]
        while pending:
            new = set(self.dependents(pending.pop())) - behind
            behind |= new
            pending += new
        return sorted(behind, key=self._depth.__getitem__)

    def needed_by(self, keys: Iterable[str]) -> set[str]:
        """Keys of the jobs that some jobs need, directly or not."""
        needed: set[str] = set()
        pending = list(keys)
        while pending:
            new = set(self._jobs[pending.pop()].needs) - needed
            needed |= new
            pending += new
        return needed
