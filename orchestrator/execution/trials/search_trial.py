"""A trial of a search: the points' own trainings under chosen settings, one after the other.

    chosen settings --> jobs of the points --back end of the sweep--> stages
                                    +--step by step: mean validation loss--> Ray Tune

So each point of a trial has a key and a stage like any other operating point; nothing is evaluated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from orchestrator.execution.fit_nodes import wait_until_fit
from orchestrator.execution.job_run import Backend
from orchestrator.execution.job_steps import Json, Settings
from orchestrator.plan.jobs import Job, Plan
from orchestrator.plan.resources import resources_of
from orchestrator.storage.store import Store
from search_spaces import OperatingPoint, Space, operating_points
from search_spaces.scenarios import scenario_of
from search_spaces.specs.training import Optimiser

Chosen = Mapping[str, object]
"""Dotted path of a setting -> value."""
Report = Callable[[dict[str, float]], None]
"""Called with `step` and `val_loss`."""


def searched_points(points: Iterable[OperatingPoint]) -> tuple[OperatingPoint, ...]:
    """The points whose settings are searched: those of some points that are trained."""
    return tuple(p for p in points if scenario_of(p.scenario).trains and p.released is None)


def jobs_of(
    space: Space, fingerprints: Mapping[str, str], labels: Collection[str], chosen: Chosen
) -> list[Job]:
    """The jobs that train the searched points under the chosen settings, without evaluation.

    Args:
        fingerprints: `provenance.fingerprints` of the space.
        labels: of the searched points, which no setting changes.
    """
    changed = space.changed(chosen)
    points = [p for p in searched_points(operating_points(changed)) if p.label in labels]
    plan = Plan(changed, points, fingerprints, None)
    return [replace(plan.jobs[plan.key(point)], passes=()) for point in points]


def training_of(space: Space, point: OperatingPoint) -> Optimiser:
    """How a searched point is trained."""
    training = scenario_of(point.scenario).training(space, point)
    assert training is not None
    return training


def trial_key(jobs: Sequence[Job]) -> str:
    """What names a trial: the key of its point, or a hash of those of its points."""
    if len(jobs) == 1:
        return jobs[0].key
    return hashlib.sha256(",".join(job.key for job in jobs).encode()).hexdigest()[:16]


def rounded(config: Mapping[str, object]) -> dict[str, object]:
    """Settings with four significant digits, as a person would write them."""
    return {
        path: float(f"{value:.4g}") if isinstance(value, float) else value
        for path, value in config.items()
    }


def info_of(store: Store, job: Job) -> dict[str, float]:
    """`steps` and `val_loss` of a trained point: the loss of the weights that were kept."""
    info = json.loads((store.fetch(job.stage.path) / "info.json").read_text(encoding="utf-8"))
    return {name: info[name] for name in ("steps", "val_loss")}


@dataclass(frozen=True)
class Trained:
    """The points of a trial that are trained.

    Attributes:
        steps: of their trainings, in all.
        losses: the validation loss of each.
    """

    steps: int = 0
    losses: tuple[float, ...] = ()

    @property
    def val_loss(self) -> float:
        """The mean validation loss."""
        return sum(self.losses) / len(self.losses)

    def followed_by(self, info: Mapping[str, float]) -> Trained:
        """With one more point.

        Args:
            info: its `steps` and `val_loss`.
        """
        return Trained(self.steps + int(info["steps"]), (*self.losses, info["val_loss"]))

    def row(self, report: Json) -> dict[str, float] | None:
        """What a trial reports at a step of its next point; None where that did not validate.

        So at each step all trials of a search have the mean over the same points.

        Args:
            report: of the point's training, as `Progress` takes it.
        """
        step, metrics = report.get("step"), report.get("metrics")
        if not isinstance(step, int) or not isinstance(metrics, dict) or "val_loss" not in metrics:
            return None
        so_far = self.followed_by({"steps": step, "val_loss": metrics["val_loss"]})
        return {"step": so_far.steps, "val_loss": so_far.val_loss}


def train_trial(
    settings: Settings,
    fingerprints: Mapping[str, str],
    labels: Collection[str],
    chosen: Chosen,
    report: Report,
) -> None:
    """Train the points under the chosen settings: in a trial's process, or in workers of Ray Train.

    Args:
        settings: of the sweep that made the points' inputs.
        fingerprints: `provenance.fingerprints` of its space.
        labels: of the searched points.
        report: called at every validation in this process, and once more at the end, one step
            later, with the mean loss of the weights that were kept.
    """
    wait_until_fit(settings)
    jobs = jobs_of(settings.space, fingerprints, labels, chosen)
    space = settings.space.changed(chosen)
    changed = replace(settings, space=space, jobs={job.key: job for job in jobs})
    store, trained = changed.store, Trained()
    for job in jobs:
        progress = partial(_pass_on, trained, report)
        with store.work(job.key) as (work, lease):
            if not store.has(job.stage.path):
                _backend(changed, job, trained).train(job, work, lease, progress)
            store.remove_work(job.key)
        # Planned steps, also of a training that stood still before: so step counts of all trials
        # lie in the same trainings.
        assert job.subject.point is not None
        planned = {"steps": training_of(space, job.subject.point).steps}
        trained = trained.followed_by({**info_of(store, job), **planned})
    report({"step": trained.steps + 1, "val_loss": trained.val_loss})


def _pass_on(trained: Trained, report: Report, metrics: Json) -> None:
    row = trained.row(metrics)
    if row is not None:
        report(row)


def _backend(settings: Settings, job: Job, trained: Trained) -> Backend:
    """The back end that the resources of the job's kind ask for."""
    # Both import torch.
    if resources_of(settings.space, job).workers_per_point:
        from orchestrator.execution.backends.train import TrainBackend
        from orchestrator.execution.trials.search_reports import SearchReports

        return TrainBackend(settings, partial(SearchReports, trained.row))
    from orchestrator.execution.backends.local import LocalBackend

    return LocalBackend(settings)
