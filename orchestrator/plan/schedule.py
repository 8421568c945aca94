"""Which job may run next: dependencies, priorities and room on the cluster. Imports no Ray.

    job of a kind in DATA  --next_pass-->  with all others that are ready, in one pass of Ray Data
    any other job          --next_job-->   in a lane of the cluster

A lane takes the ready job with the longest chain behind it: its cost and the costs of the jobs that
wait for it. So no wave waits for a straggler of the wave before. An operating point waits for the
*stages* that it reads, not for the evaluations of the points that made them.

A question costs the same at ten jobs and at thousands: each change of a job moves it from one set
to another (open, ready, running, over), and only failures look at other jobs.
"""

from __future__ import annotations

import heapq
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter

from orchestrator.plan.jobs import DATA, Job
from orchestrator.plan.resources import Ask
from search_spaces.settings.secrets import printable


class Schedule:
    """The state of a sweep's jobs; safe to use from several threads.

    Args:
        jobs: by key.
        ask: what a lane takes.
        capacity: what the cluster has.
        made: keys of stages that are complete, though evaluations of their jobs may be left.

    Attributes:
        done: keys of finished jobs.
        running: keys of running jobs.
        failed: key -> reason, of jobs that failed for good or can never run.
    """

    def __init__(
        self, jobs: Mapping[str, Job], ask: Ask, capacity: Ask, made: Iterable[str] = ()
    ) -> None:
        self.jobs = dict(jobs)
        needs = {key: job.needs for key, job in jobs.items()}
        self._sorted = [jobs[key] for key in TopologicalSorter(needs).static_order()]
        self._place = {key: place for place, key in enumerate(self.jobs)}
        self._depth = {job.key: depth for depth, job in enumerate(self._sorted)}
        self.ask = ask
        self.capacity = capacity
        self.done: set[str] = set()
        self.running: set[str] = set()
        self.failed: dict[str, str] = {}
        self._made: set[str] = set()
        self._gpus_of_passes = 0.0
        self._fitting = (Ask(0), 0)
        """Room for lanes, and how many lanes fit into it."""
        self._lock = threading.RLock()
        self._chain = self._chains()
        self._dependents: dict[str, list[str]] = defaultdict(list)
        for job in self._sorted:
            for need in set(job.needs):
                self._dependents[need].append(job.key)
        self._unmade = {key: len(set(job.needs)) for key, job in self.jobs.items()}
        """Key -> how many of the stages that the job reads are not made yet."""
        self._lane_jobs = _Pool()
        self._data_jobs = _Pool()
        self._queue: list[tuple[float, int, str]] = []
        """Heap of ready jobs for a lane, the longest chain first; those that left are skipped."""
        self._busy_lanes = 0
        for key in self.jobs:
            self._open(key)
        for key in self.jobs.keys() & set(made):
            self.stage_made(key)

    def next_job(self) -> Job | None:
        """Start the next job in a lane; None if none is ready or no lane is free."""
        with self._lock:
            job = self.peek()
            if job is not None:
                self._start(job.key)
            return job

    def peek(self) -> Job | None:
        """The job that `next_job` would start."""
        with self._lock:
            if self.free_lanes() < 1:
                return None
            while self._queue and self._queue[0][2] not in self._lane_jobs.ready:
                heapq.heappop(self._queue)
            return self.jobs[self._queue[0][2]] if self._queue else None

    def next_pass(self) -> list[Job]:
        """Start the jobs that Ray Data should run now; empty if it should wait.

        Each pass starts processes that must import a lot, so a pass waits for all jobs that could
        still join it, unless a lane would idle meanwhile.
        """
        with self._lock:
            ready = sorted(self._data_jobs.ready, key=self._place.__getitem__)
            if not ready:
                return []
            are_coming = len(self._data_jobs.open) > len(ready)
            if are_coming and (self.free_lanes() < 1 or self.peek() is not None):
                return []
            for key in ready:
                self._start(key)
            return [self.jobs[key] for key in ready]

    def gpus_beside_lanes(self, and_ready: bool = False) -> float:
        """GPUs that no lane uses.

        Args:
            and_ready: nor will use for jobs that are ready.
        """
        with self._lock:
            lanes = self.lanes_that_could_run() if and_ready else self._busy_lanes
            return self.capacity.gpu - self.ask.gpu * lanes

    def reserve_gpus(self, gpus: float) -> None:
        """Set so many GPUs aside for the passes of Ray Data, in all."""
        with self._lock:
            self._gpus_of_passes = gpus

    def free_lanes(self) -> int:
        """How many more jobs have room."""
        with self._lock:
            room = Ask(self.capacity.cpu, self.capacity.gpu - self._gpus_of_passes)
            if self._fitting[0] != room:
                self._fitting = room, self.ask.lanes(room, 2 * len(self.jobs))
            fitting = min(self._fitting[1], self._busy_lanes + len(self.jobs))
            return max(0, fitting - self._busy_lanes)

    def lanes_that_could_run(self) -> int:
        """Lanes that are in use, and those that ready jobs would use if there were room."""
        with self._lock:
            return self._busy_lanes + len(self._lane_jobs.ready)

    def lanes_to_evaluate(self) -> int:
        """Lanes free for evaluation: idle, or whose job has finished training."""
        with self._lock:
            made = sum(self.jobs[k].kind not in DATA and k in self._made for k in self.running)
            return self.free_lanes() + made

    def open_lane_jobs(self) -> int:
        """How many jobs for a lane have not started and still may."""
        with self._lock:
            return len(self._lane_jobs.open)

    def stage_made(self, key: str) -> None:
        """Record that a job's stage is complete, though the job may go on with evaluations."""
        with self._lock:
            if key in self._made:
                return
            self._made.add(key)
            for dependent in self._dependents[key]:
                self._unmade[dependent] -= 1
                pool = self._pool(dependent)
                if not self._unmade[dependent] and dependent in pool.open:
                    self._make_ready(dependent)

    def finish(self, key: str) -> None:
        """Record that a job is done."""
        with self._lock:
            self._leave(key)
            self.done.add(key)
            self.stage_made(key)

    def retry(self, key: str) -> None:
        """Let a job run again."""
        with self._lock:
            self._leave(key)
            if key not in self.done and key not in self.failed:
                self._open(key)

    def give_up(self, key: str, reason: str, shared_reason: str | None = None) -> list[Job]:
        """Record that a job failed for good; returns the jobs that can now never run.

        Args:
            shared_reason: of these jobs; None for the failure of the job that they need.
        """
        with self._lock:
            self._fail(key, printable(reason))
            lost: list[Job] = []
            for dependent in self._behind(key):
                job = self.jobs[dependent]
                culprit = next((need for need in job.needs if self._is_lost(need)), None)
                if culprit is not None and self._is_open(job):
                    cause = self.failed[culprit]
                    root = cause if cause.startswith("because ") else None
                    because = root or f"because {self.jobs[culprit].label} failed"
                    self._fail(job.key, shared_reason or because)
                    lost.append(job)
            return lost

    def withdraw(self, kind: str | None, reason: str) -> list[Job]:
        """Record that jobs which have not started would fail, too, for a reason that is known.

        Args:
            kind: of the jobs; None for all.

        Returns:
            These jobs, and those that can now never run.
        """
        with self._lock:
            withdrawn: list[Job] = []
            for job in self._sorted:
                is_meant = kind in (None, job.kind) or any(map(self._is_lost, job.needs))
                if is_meant and self._is_open(job):
                    self._fail(job.key, reason)
                    withdrawn.append(job)
            return withdrawn

    @property
    def over(self) -> bool:
        """Whether every job is done or has failed."""
        with self._lock:
            return len(self.done) + len(self.failed) == len(self.jobs)

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
        if self.jobs[key].kind not in DATA:
            heapq.heappush(self._queue, (-self._chain[key], self._place[key], key))

    def _start(self, key: str) -> None:
        self._leave(key)
        self.running.add(key)
        self._busy_lanes += self.jobs[key].kind not in DATA

    def _leave(self, key: str) -> None:
        """Take a job out of whichever set it is in, except those of jobs that are over."""
        pool = self._pool(key)
        pool.open.discard(key)
        pool.ready.discard(key)
        if key in self.running:
            self.running.remove(key)
            self._busy_lanes -= self.jobs[key].kind not in DATA

    def _fail(self, key: str, reason: str) -> None:
        self._leave(key)
        self.failed[key] = reason

    def _is_lost(self, key: str) -> bool:
        return key in self.failed and key not in self._made

    def _behind(self, key: str) -> Iterable[str]:
        """The jobs that wait for a job, directly or not, each behind those that it needs."""
        behind: set[str] = set()
        pending = [key]
        while pending:
            new = set(self._dependents[pending.pop()]) - behind
            behind |= new
            pending += new
        return sorted(behind, key=self._depth.__getitem__)

    def _chains(self) -> dict[str, float]:
        """Per job its cost and that of the longest chain of jobs that wait for it."""
        chains = {key: job.cost for key, job in self.jobs.items()}
        for job in reversed(self._sorted):
            for need in job.needs:
                chains[need] = max(chains[need], self.jobs[need].cost + chains[job.key])
        return chains


class _Pool:
    """Keys of the jobs that have not started and still may; those that are ready are in both."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.ready: set[str] = set()
