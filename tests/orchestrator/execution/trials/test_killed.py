"""What Tune does where a trial ends with an error that it does not know; without Ray."""

from __future__ import annotations

import pytest
from ray.air.execution import PlacementGroupResourceManager
from ray.air.execution._internal import RayActorManager, TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError, RayError, UnserializableException

from orchestrator.execution import failures
from orchestrator.execution.failures import Cause, cause_of
from orchestrator.execution.trials.killed import errors_fail_trials


@pytest.mark.parametrize(
    ("raised", "text", "cause"),
    [
        (
            OutOfMemoryError("22 GB of 23 GB are used"),
            "22 GB of 23 GB are used",
            Cause.OUT_OF_MEMORY,
        ),
        # An extension's exception whose class takes other arguments than it hands on.
        (UnserializableException("Bad: a, b"), "Bad: a, b", Cause.ERROR),
    ],
)
def test_an_error_that_tune_does_not_know_fails_its_trial_and_does_not_end_the_sweep(
    monkeypatch: pytest.MonkeyPatch, raised: RayError, text: str, cause: Cause
) -> None:
    errors: list[Exception] = []
    monkeypatch.setattr(RayActorManager, "_cleanup_actor", lambda manager, tracked_actor: None)
    monkeypatch.setattr(failures, "node_ids", lambda: frozenset({"node"}))
    task = TrackedActorTask(TrackedActor(1), on_error=lambda actor, error: errors.append(error))
    manager = RayActorManager(PlacementGroupResourceManager())
    with errors_fail_trials():
        manager._actor_task_failed(task, raised)
    (error,) = errors
    assert text in str(error)
    assert cause_of(error, frozenset({"node"})) is cause
