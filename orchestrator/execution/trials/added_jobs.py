"""Jobs that were added to a running sweep, on their way to the trials that run them.

    driver --publish--> the head's key-value store <--settings_of-- a trial's process

Tune gives each trial the settings with which the driver started; a trial asks for its job alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Final

from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from orchestrator.execution.driver_keys import driver_key
from orchestrator.execution.job_steps import Settings

ADDED: Final = "job"
"""Kind of the keys."""


def publish(settings: Settings, keys: Iterable[str]) -> None:
    """Give jobs to the trials that will run them; called in the driver.

    Args:
        settings: of the larger sweep.
        keys: of its new jobs, and of those that have changed.
    """
    for key in keys:
        content = pickle.dumps(settings.only(settings.jobs[key]))
        _internal_kv_put(driver_key(ADDED, key), content)


def settings_of(settings: Settings, key: str) -> Settings:
    """The settings for a job, which may have been added meanwhile; called in a trial's process.

    Args:
        settings: with which the driver started.
        key: of the job.
    """
    content = _internal_kv_get(driver_key(ADDED, key))
    # The bytes come from the driver of this sweep, like all that Ray passes on.
    added: Settings | None = pickle.loads(content) if content else None
    return settings if added is None else added
