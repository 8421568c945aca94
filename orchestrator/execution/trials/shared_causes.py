"""Causes around the jobs that more than one of them fails for, such as a full disk."""

from __future__ import annotations

from orchestrator.execution.environment import FULL_DISK
from orchestrator.plan.job_events import JobEvent, JobListener
from orchestrator.plan.jobs import Job
from orchestrator.scheduling.schedule import Schedule


class SharedCauses:
    """Lets the schedule start no job that would fail as two others did.

    Args:
        schedule: of the sweep.
        listener: called with the jobs that are not started.
    """

    def __init__(self, schedule: Schedule, listener: JobListener) -> None:
        self._schedule, self._listener = schedule, listener
        self._hosts: dict[str, str] = {}
        """Key of a job -> host name of its last trial that reported; Tune adds it."""
        self._first_keys: dict[str, str] = {}
        """Cause -> the first job that failed for good of it."""
        self._stopped: set[str] = set()

    def reported(self, key: str, host: str) -> None:
        """Record where the trial of a job runs."""
        self._hosts[key] = host

    def is_stopped(self, environment: str | None) -> bool:
        """Whether a cause is known to meet every job, so that no other try helps."""
        return environment in self._stopped

    def add(self, job: Job, environment: str, nodes: int) -> None:
        """Record a job that failed for good; after the second, start no job that would fail so.

        Args:
            environment: what failed around the job.
            nodes: how many the cluster has.
        """
        first_key = self._first_keys.setdefault(environment, job.key)
        if first_key == job.key:
            return
        hosts = self._hosts.get(first_key), self._hosts.get(job.key)
        if hosts[0] and hosts[0] == hosts[1] and nodes > 1:
            return  # it may be the disk or the installation of this node alone
        self._stopped.add(environment)
        kind = None if environment == FULL_DISK else job.kind
        keys = tuple(withdrawn.key for withdrawn in self._schedule.withdraw(kind, environment))
        if keys:
            self._listener(JobEvent("withdrawn", job.key, environment, others=keys))
