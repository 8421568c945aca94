"""Which job may run next: dependencies, priorities and room on the cluster. Imports no Ray.

    job of a kind in DATA  --next_pass-->  with all others that are ready, in one pass of Ray Data
    any other job          --next_job-->   in a lane of the cluster

A lane takes the ready job with the longest chain behind it: its cost and the costs of the jobs that
wait for it. So no wave waits for a straggler of the wave before. An operating point waits for the
*stages* that it reads, not for the evaluations of the points that made them.

A job that finds no room keeps its turn: jobs behind it that ask for a GPU wait, too, so that one
that asks for much is not passed for ever. A job without a GPU may pass one that waits for GPUs.

A question costs the same at ten jobs and at thousands: each change of a job moves it from one set
to another (open, ready, running, over), and only failures look at other jobs.
"""

from __future__ import annotations

import heapq
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from graphlib import TopologicalSorter

from orchestrator.plan.jobs import DATA, Job
from orchestrator.plan.lanes import Lanes
from orchestrator.plan.resources import Demand
from orchestrator.plan.room import Ask, Cluster, Group
from search_spaces.settings.secrets import printable


class Schedule:
    """The state of a sweep's jobs; safe to use from several threads.

    Args:
        jobs: by key.
        demand_of: what a job for a lane asks for.
        cluster: what there is.
        made: keys of stages that are complete, though evaluations of their jobs may be left.

    Attributes:
        done: keys of finished jobs.
        running: keys of running jobs.
        failed: key -> reason, of jobs that failed for good or can never run.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        demand_of: Callable[[Job], Demand],
        cluster: Cluster,
        made: Iterable[str] = (),
    ) -> None:
        self.jobs = dict(jobs)
        needs = {key: job.needs for key, job in jobs.items()}
        self._sorted = [jobs[key] for key in TopologicalSorter(needs).static_order()]
        self._place = {key: place for place, key in enumerate(self.jobs)}
        self._depth = {job.key: depth for depth, job in enumerate(self._sorted)}
        self._made: set[str] = set()
        demands = {key: demand_of(job) for key, job in jobs.items() if job.kind not in DATA}
        self._lanes = Lanes(demands, cluster, self._made)
        self.done: set[str] = set()
        self.running: set[str] = set()
        self.failed: dict[str, str] = {}
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
        self._queues: dict[Group, list[tuple[float, int, str]]] = defaultdict(list)
        """Per demand a heap of ready jobs for a lane, the longest chain first; those that left are
        skipped."""
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
            waits_for_gpus = False
            for _, _, key, group in sorted(self._next_of_each_demand()):
                has_gpus = group[0].gpu > 0
                if has_gpus and waits_for_gpus:
                    continue
                if self._lanes.that_fit(group):
                    return self.jobs[key]
                if not has_gpus:
                    return None
                # What no node can hold any more must not hold up the rest.
                waits_for_gpus = waits_for_gpus or self._lanes.could_fit(group)
            return None

    def _next_of_each_demand(self) -> Iterator[tuple[float, int, str, Group]]:
        for group, queue in self._queues.items():
            while queue and not self._is_queued(queue[0][2], group):
                heapq.heappop(queue)
            if queue:
                yield (*queue[0], group)

    def _is_queued(self, key: str, group: Group) -> bool:
        """Whether an entry of a queue still says what is so: its job may have started again."""
        return key in self._lane_jobs.ready and self._lanes.demand(key) == group

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

    def actors_beside_lanes(self, actor: Ask, and_ready: bool = False) -> int:
        """How many actors of passes have room that no lane uses; their CPUs are set aside anyway.

        Args:
            and_ready: nor will use for jobs that are ready.
        """
        with self._lock:
            return self._lanes.actors_beside(actor, and_ready)

    def reserve(self, actor: Ask, count: int) -> None:
        """Set room aside for the actors of the passes of Ray Data, in all."""
        with self._lock:
            self._lanes.reserve(actor, count)

    def gpus_in_use(self) -> float:
        """GPUs of jobs in lanes and of passes."""
        with self._lock:
            return self._lanes.gpus_in_use

    def free_lanes(self) -> int:
        """How many more jobs have room, at most: of the demand that fits most often."""
        with self._lock:
            return self._lanes.free()

    def processes_that_could_run(self) -> list[Group]:
        """The processes in lanes, and those of ready jobs if there were room."""
        with self._lock:
            return list((self._lanes.busy + self._lanes.ready).items())

    def evaluators_beside_training(self, evaluator: Ask) -> int:
        """How many evaluators have room beside the jobs that train."""
        with self._lock:
            return self._lanes.evaluators_beside(evaluator)

    @property
    def cluster(self) -> Cluster:
        """What there is; may be replaced as nodes come and go."""
        return self._lanes.cluster

    @cluster.setter
    def cluster(self, cluster: Cluster) -> None:
        with self._lock:
            self._lanes.cluster = cluster

    def open_lane_jobs(self) -> int:
        """How many jobs for a lane have not started and still may."""
        with self._lock:
            return len(self._lane_jobs.open)

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
        self._count(key, 1)
        if key in self._lanes:
            self._queue(key)

    def _queue(self, key: str) -> None:
        queue = self._queues[self._lanes.demand(key)]
        heapq.heappush(queue, (-self._chain[key], self._place[key], key))

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
