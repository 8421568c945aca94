"""Which job may run next: dependencies, priorities and room on the cluster. Imports no Ray.

    job of a kind in DATA  --next_pass-->  with all others that are ready, in one pass of Ray Data
    any other job          --next_job-->   in a lane of the cluster

A lane takes the ready job with the longest chain behind it: its cost and the costs of the jobs that
wait for it. So no wave waits for a straggler of the wave before. An operating point waits for the
*stages* that it reads, not for the evaluations of the points that made them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
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

    Attributes:
        done: keys of finished jobs.
        running: keys of running jobs.
        failed: key -> reason, of jobs that failed for good or can never run.
    """

    def __init__(self, jobs: Mapping[str, Job], ask: Ask, capacity: Ask) -> None:
        self.jobs = dict(jobs)
        needs = {key: job.needs for key, job in jobs.items()}
        self._sorted = [jobs[key] for key in TopologicalSorter(needs).static_order()]
        self.ask = ask
        self.capacity = capacity
        self.done: set[str] = set()
        self.running: set[str] = set()
        self.failed: dict[str, str] = {}
        self._made: set[str] = set()
        self._gpus_of_passes = 0.0
        self._lock = threading.RLock()
        self._chain = self._chains()

    def next_job(self) -> Job | None:
        """Start the next job in a lane; None if none is ready or no lane is free."""
        with self._lock:
            job = self.peek()
            if job is not None:
                self.running.add(job.key)
            return job

    def peek(self) -> Job | None:
        """The job that `next_job` would start."""
        with self._lock:
            if self.free_lanes() < 1:
                return None
            ready = [job for job in self._ready() if job.kind not in DATA]
            return max(ready, key=lambda job: self._chain[job.key], default=None)

    def next_pass(self) -> list[Job]:
        """Start the jobs that Ray Data should run now; empty if it should wait.

        Each pass starts processes that must import a lot, so a pass waits for all jobs that could
        still join it, unless a lane would idle meanwhile.
        """
        with self._lock:
            ready = [job for job in self._ready() if job.kind in DATA]
            if not ready:
                return []
            coming = [
                job
                for job in self.jobs.values()
                if job.kind in DATA and self._is_open(job) and job not in ready
            ]
            if coming and (self.free_lanes() < 1 or self.peek() is not None):
                return []
            self.running.update(job.key for job in ready)
            return ready

    def gpus_beside_lanes(self, and_ready: bool = False) -> float:
        """GPUs that no lane uses.

        Args:
            and_ready: nor will use for jobs that are ready.
        """
        with self._lock:
            lanes = self.lanes_that_could_run() if and_ready else self._busy_lanes()
            return self.capacity.gpu - self.ask.gpu * lanes

    def reserve_gpus(self, gpus: float) -> None:
        """Set so many GPUs aside for the passes of Ray Data, in all."""
        with self._lock:
            self._gpus_of_passes = gpus

    def gpus_in_use(self) -> float:
        """GPUs of lanes with a job, and those of the passes of Ray Data."""
        with self._lock:
            return self.ask.gpu * self._busy_lanes() + self._gpus_of_passes

    def free_lanes(self) -> int:
        """How many more jobs have room."""
        with self._lock:
            busy = self._busy_lanes()
            room = Ask(self.capacity.cpu, self.capacity.gpu - self._gpus_of_passes)
            return max(0, self.ask.lanes(room, busy + len(self.jobs)) - busy)

    def lanes_that_could_run(self) -> int:
        """Lanes that are in use, and those that ready jobs would use if there were room."""
        with self._lock:
            ready = sum(job.kind not in DATA for job in self._ready())
            return self._busy_lanes() + ready

    def lanes_to_evaluate(self) -> int:
        """Lanes free for evaluation: idle, or whose job has finished training."""
        with self._lock:
            made = sum(self.jobs[k].kind not in DATA and k in self._made for k in self.running)
            return self.free_lanes() + made

    def open_lane_jobs(self) -> int:
        """How many jobs for a lane have not started and still may."""
        with self._lock:
            return sum(job.kind not in DATA and self._is_open(job) for job in self.jobs.values())

    def stage_made(self, key: str) -> None:
        """Record that a job's stage is complete, though the job may go on with evaluations."""
        with self._lock:
            self._made.add(key)

    def finish(self, key: str) -> None:
        """Record that a job is done."""
        with self._lock:
            self.running.discard(key)
            self.done.add(key)
            self._made.add(key)

    def retry(self, key: str) -> None:
        """Let a job run again."""
        with self._lock:
            self.running.discard(key)

    def give_up(self, key: str, reason: str, shared_reason: str | None = None) -> list[Job]:
        """Record that a job failed for good; returns the jobs that can now never run.

        Args:
            shared_reason: of these jobs; None for the failure of the job that they need.
        """
        with self._lock:
            self.running.discard(key)
            self.failed[key] = printable(reason)
            lost: list[Job] = []
            for job in self._sorted:
                culprit = next((need for need in job.needs if self._is_lost(need)), None)
                if culprit is not None and self._is_open(job):
                    cause = self.failed[culprit]
                    root = cause if cause.startswith("because ") else None
                    because = root or f"because {self.jobs[culprit].label} failed"
                    self.failed[job.key] = shared_reason or because
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
                    self.failed[job.key] = reason
                    withdrawn.append(job)
            return withdrawn

    @property
    def over(self) -> bool:
        """Whether every job is done or has failed."""
        with self._lock:
            return len(self.done) + len(self.failed) == len(self.jobs)

    def _busy_lanes(self) -> int:
        return sum(self.jobs[key].kind not in DATA for key in self.running)

    def _is_lost(self, key: str) -> bool:
        return key in self.failed and key not in self._made

    def _is_open(self, job: Job) -> bool:
        return not (job.key in self.running or job.key in self.done or job.key in self.failed)

    def _ready(self) -> list[Job]:
        return [
            job
            for job in self.jobs.values()
            if self._is_open(job) and all(need in self._made for need in job.needs)
        ]

    def _chains(self) -> dict[str, float]:
        """Per job its cost and that of the longest chain of jobs that wait for it."""
        chains = {key: job.cost for key, job in self.jobs.items()}
        for job in reversed(self._sorted):
            for need in job.needs:
                chains[need] = max(chains[need], self.jobs[need].cost + chains[job.key])
        return chains
