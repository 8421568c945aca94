"""Trials that end with an error of Ray that Tune does not know: each fails alone.

Tune knows two of Ray's errors, the death of a process and what a task raised, and would end the
sweep at any other. Such a one is that of a process which Ray killed where the memory of its node is
short, and that of an exception which cannot be unpickled here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from ray.air.execution._internal import RayActorManager
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from orchestrator.execution.failures import OutOfHostMemoryError

KNOWN: Final = (RayActorError, RayTaskError)


@contextlib.contextmanager
def errors_fail_trials() -> Iterator[None]:
    """Let Tune tell a trial of every error of Ray."""
    tell = RayActorManager._actor_task_failed

    def tell_known(
        self: RayActorManager, tracked_actor_task: TrackedActorTask, exception: Exception
    ) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = OutOfHostMemoryError(error_msg=str(exception))
        elif isinstance(exception, RayError) and not isinstance(exception, KNOWN):
            exception = RayTaskError("trial", str(exception), exception)  # type: ignore[no-untyped-call]
        tell(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = tell_known  # type: ignore[method-assign]
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = tell  # type: ignore[method-assign]
