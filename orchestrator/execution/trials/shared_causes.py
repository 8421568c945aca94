"""Causes around the jobs that more than one of them fails for, such as a full disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.execution.environment import FULL_DISK
from orchestrator.execution.failures import JobFailure
from orchestrator.plan.jobs import Job
from orchestrator.scheduling.schedule import Schedule


@dataclass
class _Failed:
    """The jobs that failed for good of one cause.

    Attributes:
        hosts: where; empty names are those that nobody knows.
        groups: which jobs would meet the cause, as far as is known.
        stopped: of which groups none is started any more.
    """

    hosts: list[str] = field(default_factory=list)
    groups: list[tuple[str, ...]] = field(default_factory=list)
    stopped: set[tuple[str, ...]] = field(default_factory=set)


class SharedCauses:
    """Lets the schedule start no job that would fail as two others did.

    What two points of one scenario fail for, all points of that scenario would: a model that it
    alone reads. What points of two scenarios fail for, every point would; a full disk, every job.

    Args:
        schedule: of the sweep.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._failed: dict[str, _Failed] = {}
        """By cause."""

    def is_stopped(self, job: Job, environment: str | None) -> bool:
        """Whether a cause is known to meet a job again, so that no other try helps."""
        failed = self._failed.get(environment or "")
        return failed is not None and any(_is_in(job, group) for group in failed.stopped)

    def add(self, job: Job, failure: JobFailure, nodes: int) -> tuple[str, ...]:
        """Record a job that failed for good; after the second, start no job that would fail so.

        Args:
            failure: with what failed around the job.
            nodes: how many the cluster has.

        Returns:
            Keys of the jobs that are not started.
        """
        environment = failure.environment
        if environment is None:
            return ()
        failed = self._failed.setdefault(environment, _Failed())
        failed.hosts.append(failure.host)
        failed.groups.append(_group_of(job))
        if len(failed.hosts) == 1:
            return ()
        if len(set(failed.hosts)) == 1 and failure.host and nodes > 1:
            return ()  # it may be the disk or the installation of this node alone
        group = () if environment == FULL_DISK else _common(failed.groups)
        if group in failed.stopped:
            return ()
        failed.stopped.add(group)
        withdrawn = self._schedule.withdraw(lambda other: _is_in(other, group), environment)
        return tuple(other.key for other in withdrawn)


def _group_of(job: Job) -> tuple[str, ...]:
    """A job's kind, and the scenario of a point."""
    point = job.subject.point
    return (job.kind,) if point is None else (job.kind, point.scenario)


def _is_in(job: Job, group: tuple[str, ...]) -> bool:
    return _group_of(job)[: len(group)] == group


def _common(groups: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The smallest group with the last job and another one."""
    *others, last = groups
    return last if last in others else last[:1]
