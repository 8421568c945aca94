"""A trial of a search: the point's own training under chosen settings.

So a trial has a key and a stage like any other operating point; nothing is evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

from orchestrator.execution.job_steps import Json, Settings
from orchestrator.plan.jobs import Job, Plan
from search_spaces import OperatingPoint, Space, operating_points
from search_spaces.scenarios import scenario_of

Chosen = Mapping[str, object]
"""Dotted path of a setting -> value."""
Report = Callable[[dict[str, float]], None]
"""Called with `step` and `val_loss`."""


def searched_point(space: Space) -> OperatingPoint:
    """The point whose settings are searched: the only one that is trained."""
    return next(p for p in operating_points(space) if scenario_of(p.scenario).trains)


def job_of(space: Space, fingerprints: Mapping[str, str], chosen: Chosen) -> Job:
    """The job that trains the searched point under the chosen settings, without evaluation.

    Args:
        fingerprints: `provenance.fingerprints` of the space.
    """
    changed = space.changed(chosen)
    point = searched_point(changed)
    plan = Plan(changed, [point], fingerprints, None)
    return replace(plan.jobs[plan.key(point)], evaluations=())


def rounded(config: Mapping[str, object]) -> dict[str, object]:
    """Settings with four significant digits, as a person would write them."""
    return {
        path: float(f"{value:.4g}") if isinstance(value, float) else value
        for path, value in config.items()
    }


def train_trial(
    settings: Settings, fingerprints: Mapping[str, str], chosen: Chosen, report: Report
) -> None:
    """Train the point under the chosen settings, in a trial's process.

    Args:
        settings: of the sweep that made the point's inputs.
        fingerprints: `provenance.fingerprints` of its space.
        report: called at every validation, and once more at the end, one step later, with the loss
            of the weights that were kept.
    """
    from orchestrator.execution.local import LocalBackend  # imports torch

    job = job_of(settings.space, fingerprints, chosen)
    changed = replace(settings, space=settings.space.changed(chosen), jobs={job.key: job})
    store = changed.store

    def progress(metrics: Json) -> None:
        step, of_step = metrics.get("step"), metrics.get("metrics")
        if isinstance(step, int) and isinstance(of_step, dict) and "val_loss" in of_step:
            report({"step": step, "val_loss": of_step["val_loss"]})

    with store.work(job.key) as (work, lease):
        if not store.has(job.stage.path):
            LocalBackend(changed).train(job, work, lease, progress)
        store.remove_work(job.key)
    info = json.loads((store.fetch(job.stage.path) / "info.json").read_text(encoding="utf-8"))
    report({"step": info["steps"] + 1, "val_loss": info["val_loss"]})
