"""Which job may run next: dependencies, priorities and room on the cluster. Imports no Ray.

    job of a kind in DATA  --next_pass-->  with all others that are ready, in one pass of Ray Data
    any other job          --next_job-->   in a lane of the cluster

A lane takes the ready job with the longest chain behind it: its cost and the costs of the jobs that
wait for it. So no wave waits for a straggler of the wave before. An operating point waits for the
*stages* that it reads, not for the evaluations of the points that made them. Jobs that a person has
prioritised, and all that they need, come before others.

A job that finds no room keeps its turn: jobs behind it that ask for a GPU wait, too, so that one
that asks for much is not passed for ever. A job without a GPU may pass one that waits for GPUs.

A question costs the same at ten jobs and at thousands: each change of a job moves it from one set
to another (open, ready, running, over); only failures, and the requests of a person to add, cancel
or prioritise, look at other jobs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field

from orchestrator.plan.jobs import Job
from orchestrator.scheduling.job_sets import JobSets


class ScheduleClosedError(RuntimeError):
    """Every job of a schedule was over before others could be added."""


@dataclass(frozen=True)
class Cancelled:
    """The jobs that a cancellation concerns.

    Attributes:
        dropped: have not started, and will not.
        ending: run; whoever runs them ends them.
    """

    dropped: list[Job] = field(default_factory=list)
    ending: list[Job] = field(default_factory=list)


class Schedule(JobSets):
    """The state of a sweep's jobs, and whose turn is next; safe to use from several threads."""

    _is_closed = False

    def close_if_over(self) -> bool:
        """Whether every job is over; then none can be added any more."""
        with self._lock:
            self._is_closed = self.over
            return self._is_closed

    @contextlib.contextmanager
    def open_for_changes(self) -> Iterator[None]:
        """Keep jobs from starting and ending while the context lasts, which must be short.

        Raises:
            ScheduleClosedError: every job was over, and nobody starts jobs any more.
        """
        with self._lock:
            if self._is_closed:
                raise ScheduleClosedError
            yield

    def prioritise(self, keys: Iterable[str]) -> frozenset[str]:
        """Start some jobs, and all that they need, before others; returns those that wait."""
        with self._lock:
            keys = self.jobs.keys() & set(keys)
            self._preferred |= keys | self._graph.needed_by(keys)
            self._rank_again()
            return frozenset(key for key in keys if self._is_open(self.jobs[key]))

    def cancel(self, keys: Iterable[str], wanted: Set[str]) -> Cancelled:
        """Let jobs not run, nor those that need their stages, nor those that only they need.

        Jobs that are over stay as they are. A running job counts as running until `retry`,
        `finish` or `give_up` says that it does not run any more.

        Args:
            wanted: keys of jobs that are to be done even if no other job needs them.
        """
        with self._lock:
            cancelled = Cancelled()
            for key in sorted(self.jobs.keys() & set(keys), key=self._place.__getitem__):
                if key in self.running:
                    self._ending.add(key)
                    cancelled.ending.append(self.jobs[key])
                elif self._is_open(self.jobs[key]):
                    self._cancel(key, cancelled)
                waiting = [] if key in self._made else self._graph.behind(key)
                for dependent in waiting:
                    job = self.jobs[dependent]
                    if self._is_open(job) and any(map(self._is_cancelled, job.needs)):
                        self._cancel(dependent, cancelled)
            for job in reversed(self._graph.ordered):
                dependents = self._graph.dependents(job.key)
                is_needed = job.key in wanted or not self.cancelled.issuperset(dependents)
                if dependents and not is_needed and self._is_open(job):
                    self._cancel(job.key, cancelled)
            return cancelled

    def _cancel(self, key: str, cancelled: Cancelled) -> None:
        self._leave(key)
        self.cancelled.add(key)
        cancelled.dropped.append(self.jobs[key])

    @property
    def ending(self) -> frozenset[str]:
        """Keys of the running jobs that a person has cancelled."""
        with self._lock:
            return frozenset(self._ending)

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
            for key, group in self._turns.first_of_each_demand():
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

    def next_pass(self) -> list[Job]:
        """Start the jobs that Ray Data should run now; empty if it should wait.

        Each pass starts processes that must import a lot, so a pass waits for all jobs that could
        still join it, unless a lane would idle meanwhile or one of its jobs is prioritised.
        """
        with self._lock:
            ready = sorted(self._data_jobs.ready, key=self._place.__getitem__)
            if not ready:
                return []
            are_coming = len(self._data_jobs.open) > len(ready)
            is_urgent = not self._preferred.isdisjoint(ready)
            if are_coming and not is_urgent and (self.free_lanes() < 1 or self.peek() is not None):
                return []
            for key in ready:
                self._start(key)
            return [self.jobs[key] for key in ready]

    def open_lane_jobs(self) -> int:
        """How many jobs for a lane have not started and still may."""
        with self._lock:
            return len(self._lane_jobs.open)
