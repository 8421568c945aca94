"""Trials that wait, and how the driver ends them: by a key in Ray's head, for which each looks.

    Runner --end_wait--> the head's key-value store <--look-- a waiting trial's process

A report to Tune instead would cost the driver milliseconds for each look of each idle lane.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_exists, _internal_kv_put

from orchestrator.execution.driver_keys import driver_key
from orchestrator.execution.job_steps import Settings
from orchestrator.plan.jobs import DATA
from orchestrator.plan.resources import resources_of, trial_resources

LOOK_S: Final = 0.5
"""Seconds between two looks of a trial that waits."""


def end_wait(trial_id: str) -> None:
    """End a trial that waits within `LOOK_S`; called in the driver."""
    _internal_kv_put(_key(trial_id), b"1")


def wait_for_end(trial_id: str) -> None:
    """Block until the driver ends this trial; called in its process."""
    key = _key(trial_id)
    while not _internal_kv_exists(key):
        time.sleep(LOOK_S)
    _internal_kv_del(key)


def _key(trial_id: str) -> str:
    return driver_key("waiting", trial_id)


def can_wait(settings: Settings) -> bool:
    """Whether a process may wait for any of the jobs: all ask for the same, and for no GPU.

    An idle process would hold its GPU, which a Ray Data pass may be waiting for.
    """
    space, jobs = settings.space, settings.jobs.values()
    in_lanes = [job for job in jobs if job.kind not in DATA]
    if any(resources_of(space, job).workers_per_point for job in in_lanes):
        return False
    asks = [trial_resources(space, job) for job in in_lanes]
    return all(ask == asks[0] and "GPU" not in ask for ask in asks)


class WaitingTrials:
    """The trials that keep their processes warm for jobs to come.

    Args:
        end: called with the id of a trial that is to end.
    """

    def __init__(self, end: Callable[[str], None]) -> None:
        self._end = end
        self._is_warm: dict[str, bool] = {}
        """Id -> whether its process has started and imported what it needs."""
        self._ending: set[str] = set()

    def __contains__(self, trial_id: str) -> bool:
        """Whether a trial waits, or is about to end."""
        return trial_id in self._is_warm

    def __len__(self) -> int:
        """How many wait; those that are about to end do not count."""
        return len(self._is_warm) - len(self._ending)

    def add(self, trial_id: str) -> None:
        """Record a trial that will start and wait."""
        self._is_warm[trial_id] = False

    def warm(self, trial_id: str) -> None:
        """Record that a trial's process is warm; only then it may be ended.

        The end of one that has not started would free no lane.
        """
        self._is_warm[trial_id] = True

    def remove(self, trial_id: str) -> None:
        """Record that a trial has ended."""
        self._is_warm.pop(trial_id, None)
        self._ending.discard(trial_id)

    def keep(self, count: int) -> None:
        """End warm trials until no more than `count` wait."""
        surplus = len(self) - count
        if surplus < 1:
            return
        warm = [i for i, is_warm in self._is_warm.items() if is_warm and i not in self._ending]
        for trial_id in warm[:surplus]:
            self._ending.add(trial_id)
            self._end(trial_id)
