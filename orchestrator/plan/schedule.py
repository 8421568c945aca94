"""Which job may run next: dependencies, priorities and room on the cluster. No Ray in here.

The next trial is the ready one with the most work behind it (its own cost and the longest chain
that waits for it), so no wave waits for a straggler of the one before. A point waits for the
*stage* it reads, not for the evaluation of the point that made it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.plan.jobs import DATA, Job


@dataclass(frozen=True)
class Ask:
    """Logical resources."""

    cpu: float
    gpu: float = 0.0

    def times(self, n: float) -> Ask:
        """n of it."""
        return Ask(self.cpu * n, self.gpu * n)

    def fits(self, room: Ask) -> bool:
        """Whether it fits into what is free (up to float error)."""
        return self.cpu <= room.cpu + 1e-6 and self.gpu <= room.gpu + 1e-6


class Schedule:
    """The state of a sweep's jobs; safe to use from several threads.

    Args:
        jobs: by key.
        ask: what a trial asks for.
        capacity: what the cluster has.
    """

    def __init__(self, jobs: Mapping[str, Job], ask: Ask, capacity: Ask) -> None:
        self.jobs = dict(jobs)
        self.ask = ask
        self.capacity = capacity
        self.done: set[str] = set()
        self.running: set[str] = set()
        self.failed: dict[str, str] = {}
        self._made: set[str] = set()
        self._gpu_of_passes = 0.0
        self._lock = threading.RLock()
        self._rank = self._ranks()

    def next_trial(self) -> Job | None:
        """The trial to start now; None if none is ready or nothing has room. It then runs."""
        with self._lock:
            job = self.peek()
            if job is not None:
                self.running.add(job.key)
            return job

    def peek(self) -> Job | None:
        """What `next_trial` would give."""
        with self._lock:
            if self.free_lanes() < 1:
                return None
            ready = [job for job in self._ready() if job.kind not in DATA]
            return max(ready, key=lambda job: self._rank[job.key], default=None)

    def next_pass(self) -> list[Job]:
        """The stages that Ray Data should make now; empty if it should wait. They then run.

        Each pass starts processes that must import a lot, so one pass waits for all that could
        still join it, unless a part of the cluster would idle meanwhile.
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

    def reserve_gpus(self, gpus: float) -> bool:
        """Set GPUs aside for a pass of Ray Data; False if they are not free."""
        with self._lock:
            busy = self.ask.gpu * self._trials_running()
            if busy + self._gpu_of_passes + gpus > self.capacity.gpu + 1e-6:
                return False
            self._gpu_of_passes += gpus
            return True

    def release_gpus(self, gpus: float) -> None:
        """Give back what `reserve_gpus` set aside."""
        with self._lock:
            self._gpu_of_passes -= gpus

    def free_lanes(self) -> int:
        """How many more trials have room."""
        n = self._trials_running()
        lanes = 0
        while Ask(
            self.ask.cpu * (n + lanes + 1), self.ask.gpu * (n + lanes + 1) + self._gpu_of_passes
        ).fits(self.capacity) and lanes < len(self.jobs):
            lanes += 1
        return lanes

    def lanes_to_evaluate(self) -> int:
        """Lanes in which nothing trains: free ones, and those of trials whose stage is made."""
        with self._lock:
            done = sum(self.jobs[k].kind not in DATA and k in self._made for k in self.running)
            return self.free_lanes() + done

    def trials_left(self) -> int:
        """Trials that have not started and still may."""
        with self._lock:
            return sum(job.kind not in DATA and self._is_open(job) for job in self.jobs.values())

    def stage_made(self, key: str) -> None:
        """A job's stage is there, though the job may go on (with its evaluation)."""
        with self._lock:
            self._made.add(key)

    def finish(self, key: str) -> None:
        """A job is done."""
        with self._lock:
            self.running.discard(key)
            self.done.add(key)
            self._made.add(key)

    def retry(self, key: str) -> None:
        """A job failed and shall run again."""
        with self._lock:
            self.running.discard(key)

    def fail(self, key: str, reason: str) -> list[Job]:
        """A job failed for good; returns the jobs that can now never run."""
        with self._lock:
            self.running.discard(key)
            self.failed[key] = reason
            lost: list[Job] = []
            changed = True
            while changed:
                changed = False
                for job in self.jobs.values():
                    if not self._is_open(job):
                        continue
                    culprit = next((n for n in job.needs if self._is_lost(n)), None)
                    if culprit is not None:
                        why = self.failed[culprit]
                        root = why if why.startswith("because ") else None
                        self.failed[job.key] = root or f"because {self.jobs[culprit].label} failed"
                        lost.append(job)
                        changed = True
            return lost

    @property
    def over(self) -> bool:
        """Whether every job is done or has failed."""
        with self._lock:
            return len(self.done) + len(self.failed) == len(self.jobs)

    def _trials_running(self) -> int:
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

    def _ranks(self) -> dict[str, float]:
        behind: dict[str, float] = {}
        waiting: dict[str, list[str]] = {}
        for job in self.jobs.values():
            for need in job.needs:
                waiting.setdefault(need, []).append(job.key)

        def rank(key: str) -> float:
            if key not in behind:
                behind[key] = self.jobs[key].cost + max(map(rank, waiting.get(key, [])), default=0)
            return behind[key]

        return {key: rank(key) for key in self.jobs}
