"""What Tune does where Ray kills the process of a trial to free memory; without Ray."""

from __future__ import annotations

import pytest
from ray.air.execution import PlacementGroupResourceManager
from ray.air.execution._internal import RayActorManager, TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError

from orchestrator.execution import failures
from orchestrator.execution.failures import Cause, cause_of
from orchestrator.execution.trials.killed import kills_fail_trials


def test_a_process_killed_to_free_memory_fails_its_trial_and_does_not_end_the_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors: list[Exception] = []
    monkeypatch.setattr(RayActorManager, "_cleanup_actor", lambda manager, tracked_actor: None)
    monkeypatch.setattr(failures, "node_ids", lambda: frozenset({"node"}))
    trial = TrackedActor(1, on_error=lambda actor, error: errors.append(error))
    manager = RayActorManager(PlacementGroupResourceManager())
    with kills_fail_trials():
        manager._actor_task_failed(
            TrackedActorTask(trial), OutOfMemoryError("22 GB of 23 GB are used")
        )
    (error,) = errors
    assert "22 GB of 23 GB are used" in str(error)
    assert cause_of(error, frozenset({"node"})) is Cause.PROCESS_DIED
