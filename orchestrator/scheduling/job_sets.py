"""The sets that jobs move between: open, ready, running, done, failed, cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from orchestrator.plan.jobs import DATA, Job
from orchestrator.plan.lanes import Lanes
from orchestrator.plan.resources import Demand
from orchestrator.plan.room import Cluster, Group
from orchestrator.scheduling.job_graph import JobGraph
from orchestrator.scheduling.shared_lanes import SharedLanes
from orchestrator.scheduling.turns import Turns
from search_spaces.settings.secrets import printable


@dataclass(frozen=True)
class Added:
    """What came of jobs that were added.

    Attributes:
        lost: those that can never run, as what they need has failed.
        reopened: keys of jobs that were cancelled and are to be done again.
    """

    lost: tuple[Job, ...]
    reopened: frozenset[str]


class JobSets(SharedLanes):
    """The state of jobs, and the room that those in lanes take; safe to use from several threads.

    Args:
        jobs: by key.
        demand_of: what a job for a lane asks for.
        cluster: what there is.
        made: keys of stages that are complete, though evaluations of their jobs may be left.

    Attributes:
        jobs: all of them, those that were added later, too.
        done: keys of finished jobs.
        running: keys of running jobs.
        failed: key -> reason, of jobs that failed for good or can never run.
        cancelled: keys of jobs that a person has cancelled, and that do not run any more.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        demand_of: Callable[[Job], Demand],
        cluster: Cluster,
        made: Iterable[str] = (),
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self._demand_of = demand_of
        self._made = set(made)
        super().__init__(Lanes({}, cluster, self._made), threading.RLock())
        self.done: set[str] = set()
        self.running: set[str] = set()
        self.failed: dict[str, str] = {}
        self.cancelled: set[str] = set()
        self._ending: set[str] = set()
        """Keys of running jobs that a person has cancelled."""
        self._preferred: set[str] = set()
        self._graph = JobGraph({})
        self._place: dict[str, int] = {}
        self._unmade: dict[str, int] = {}
        """Key -> how many of the stages that the job reads are not made yet."""
        self._lane_jobs = _Pool()
        self._data_jobs = _Pool()
        self._turns = Turns(self._is_ready_for)
        self.add(jobs)

    def add(self, jobs: Mapping[str, Job]) -> Added:
        """Add jobs, or replace jobs that do not run by others that make more of the same point.

        Cancelled ones among them, and cancelled jobs that they need, are to be done again.

        Args:
            jobs: by key; what they need is among them, or was added before.
        """
        with self._lock:
            assert self.running.isdisjoint(jobs)
            cancelled_before = set(self.cancelled)
            for key in self.jobs.keys() & jobs.keys():
                self._leave(key)
                self.done.discard(key)
                self.cancelled.discard(key)
            # Others may be walking over the jobs.
            self.jobs = {**self.jobs, **jobs}
            self._graph = JobGraph(self.jobs)
            in_lanes = [job for job in jobs.values() if job.kind not in DATA]
            self._lanes.add({job.key: self._demand_of(job) for job in in_lanes})
            for key, job in jobs.items():
                self._place.setdefault(key, len(self._place))
                self._unmade[key] = len(set(job.needs) - self._made)
            dropped_before = self.cancelled & self._graph.needed_by(jobs)
            self.cancelled -= dropped_before
            opened = {*jobs, *dropped_before}
            for key in opened:
                self._open(key)
            self._rank_again()
            lost = self._drop_hopeless(job for job in self._graph.ordered if job.key in opened)
            return Added(tuple(lost), frozenset(cancelled_before - self.cancelled))

    def stage_made(self, key: str) -> None:
        """Record that a job's stage is complete, though the job may go on with evaluations."""
        with self._lock:
            if key in self._made:
                return
            # What it asks for changes with this.
            self._count(key, -1)
            self._made.add(key)
            self._count(key, 1)
            if key in self._lane_jobs.ready:
                self._queue(key)
            for dependent in self._graph.dependents(key):
                self._unmade[dependent] -= 1
                pool = self._pool(dependent)
                if not self._unmade[dependent] and dependent in pool.open:
                    self._make_ready(dependent)

    def finish(self, key: str) -> None:
        """Record that a job is done, also one that was cancelled when it was about to be."""
        with self._lock:
            self._leave(key)
            self._ending.discard(key)
            self.done.add(key)
            self.stage_made(key)

    def retry(self, key: str) -> None:
        """Let a job run again; one that a person has ended is cancelled, unless others need it."""
        with self._lock:
            self._leave(key)
            if key in self._ending:
                self._ending.discard(key)
                if any(self._is_open(self.jobs[k]) for k in self._graph.dependents(key)):
                    self._open(key)
                else:
                    self.cancelled.add(key)
            elif key not in self.done and key not in self.failed:
                self._open(key)

    def give_up(self, key: str, reason: str, shared_reason: str | None = None) -> list[Job]:
        """Record that a job failed for good; returns the jobs that can now never run.

        Args:
            shared_reason: of these jobs; None for the failure of the job that they need.
        """
        with self._lock:
            self._fail(key, printable(reason))
            behind = (self.jobs[dependent] for dependent in self._graph.behind(key))
            return self._drop_hopeless(behind, shared_reason)

    def _drop_hopeless(self, jobs: Iterable[Job], shared_reason: str | None = None) -> list[Job]:
        """Record which jobs can never run.

        Args:
            jobs: each behind those that it needs.
            shared_reason: of their failure; None for the failure of the job that they need.
        """
        dropped: list[Job] = []
        for job in jobs:
            culprit = next((need for need in job.needs if self._is_lost(need)), None)
            if culprit is not None and self._is_open(job):
                cause = self.failed[culprit]
                root = cause if cause.startswith("because ") else None
                because = root or f"because {self.jobs[culprit].label} failed"
                self._fail(job.key, shared_reason or because)
                dropped.append(job)
        return dropped

    def withdraw(self, meets: Callable[[Job], bool], reason: str) -> list[Job]:
        """Record that jobs which have not started would fail, too, for a reason that is known.

        Args:
            meets: says which jobs.

        Returns:
            These jobs, and those that can now never run.
        """
        with self._lock:
            withdrawn: list[Job] = []
            for job in self._graph.ordered:
                is_meant = meets(job) or any(map(self._is_lost, job.needs))
                if is_meant and self._is_open(job):
                    self._fail(job.key, reason)
                    withdrawn.append(job)
            return withdrawn

    @property
    def over(self) -> bool:
        """Whether every job is done, has failed or is cancelled."""
        with self._lock:
            over = len(self.done) + len(self.failed) + len(self.cancelled)
            return over == len(self.jobs)

    # The sets

    def _pool(self, key: str) -> _Pool:
        return self._data_jobs if self.jobs[key].kind in DATA else self._lane_jobs

    def _is_open(self, job: Job) -> bool:
        return job.key in self._pool(job.key).open

    def _open(self, key: str) -> None:
        self._pool(key).open.add(key)
        if not self._unmade[key]:
            self._make_ready(key)

    def _make_ready(self, key: str) -> None:
        self._pool(key).ready.add(key)
        self._count(key, 1)
        if key in self._lanes:
            self._queue(key)

    def _queue(self, key: str) -> None:
        rank = key not in self._preferred, -self._graph.chains[key], self._place[key]
        self._turns.add(key, self._lanes.demand(key), rank)

    def _rank_again(self) -> None:
        """Queue all ready jobs anew: what waits behind them, or their priority, has changed."""
        self._turns.clear()
        for key in self._lane_jobs.ready:
            self._queue(key)

    def _is_ready_for(self, key: str, group: Group) -> bool:
        """Whether a job is ready for a lane with a demand; it may have started again."""
        return key in self._lane_jobs.ready and self._lanes.demand(key) == group

    def _start(self, key: str) -> None:
        self._leave(key)
        self.running.add(key)
        self._count(key, 1)

    def _leave(self, key: str) -> None:
        """Take a job out of whichever set it is in, except those of jobs that are over."""
        self._count(key, -1)
        pool = self._pool(key)
        pool.open.discard(key)
        pool.ready.discard(key)
        self.running.discard(key)

    def _count(self, key: str, times: int) -> None:
        """Count a job for a lane in the sum that it belongs to, or take it out of it."""
        if key not in self._lanes:
            return
        if key in self.running:
            self._lanes.start(key, times)
        elif key in self._lane_jobs.ready:
            self._lanes.queue(key, times)

    def _fail(self, key: str, reason: str) -> None:
        self._leave(key)
        self._ending.discard(key)
        self.failed[key] = reason

    def _is_lost(self, key: str) -> bool:
        return key in self.failed and key not in self._made

    def _is_cancelled(self, key: str) -> bool:
        return (key in self.cancelled or key in self._ending) and key not in self._made


class _Pool:
    """Keys of the jobs that have not started and still may; those that are ready are in both."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.ready: set[str] = set()
