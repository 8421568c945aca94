"""Trials whose processes Ray kills where the memory of their node is short: each fails alone.

Tune knows the death of a process by one of Ray's errors, and Ray tells this one by another: Tune
would end the sweep.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ray.air.execution._internal import RayActorManager
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError, RayActorError


@contextlib.contextmanager
def kills_fail_trials() -> Iterator[None]:
    """Let Tune tell a trial that its process died, also where Ray killed it to free memory."""
    tell = RayActorManager._actor_task_failed

    def tell_death(
        self: RayActorManager, tracked_actor_task: TrackedActorTask, exception: Exception
    ) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        tell(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = tell_death  # type: ignore[method-assign]
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = tell  # type: ignore[method-assign]
