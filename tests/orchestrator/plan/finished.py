"""A storage that holds what a sweep of a space would have made, in seconds that a test chooses."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.execution.job_steps import Settings, provenance_of
from orchestrator.plan.jobs import Job, Plan
from orchestrator.storage.provenance import fingerprints
from orchestrator.storage.store import Store
from search_spaces import Space, Stage, load_space, operating_points

SPACE = ["teacher.model=hub/teacher", "mllms=[hub/mllm]"]
"""Settings of the smoke space; its models are on no disk."""


def space_of(*settings: str) -> Space:
    return load_space("smoke", [*SPACE, *settings])


def plan_of(space: Space, store: Store | None) -> Plan:
    return Plan(space, operating_points(space), fingerprints(space), store)


def finish(
    store: Store,
    space: Space,
    seconds: Callable[[Job, Stage], float] = lambda job, stage: 1.0,
    size: Callable[[Stage], int] = lambda stage: 10,
) -> None:
    """Commit every stage of a space.

    Args:
        seconds, size: of a stage, and of its only file in bytes.
    """
    plan = plan_of(space, None)
    settings = Settings(space, store.uri, plan.jobs, {"commit": "abc"})
    for job in plan.jobs.values():
        for stage in job.stages:
            out = store.new(stage.path)
            (out / "data").write_bytes(bytes(size(stage)))
            store.commit(stage.path, out, provenance_of(settings, job, stage, seconds(job, stage)))
