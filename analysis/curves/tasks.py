"""The tasks of a sweep: primary metrics, units, chance, and which direction is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.curves.curve import MEAN
from analysis.io.schema import FRACTION, FRACTIONS, AnalysisError
from analysis.io.sweep import Sweep

ABOVE_CHANCE: Final = "above chance"
"""Ends the name of a metric that is normalised by chance."""


@dataclass(frozen=True)
class Task:
    """A task as the sweep describes it.

    Attributes:
        name: of the task.
        primary: its primary metric.
        chance: value of the primary metric that guessing gives, where that is known.
        units: of its metrics.
        lower_is_better: metrics for which lower values are better. Their curves are drawn; their
            comparisons have no number, and a note gives that reason.
        lows: the lowest value of each metric; -inf where that is unknown.
    """

    name: str
    primary: str
    chance: float | None
    units: dict[str, str]
    lower_is_better: frozenset[str] = frozenset()
    lows: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Floor:
    """The accuracy of a model that can do nothing of a task.

    Attributes:
        value: in the metric's unit.
        words: the same in a note.
    """

    value: float
    words: str


def tasks(sweep: Sweep) -> dict[str, Task]:
    """The tasks of a sweep by name, in the manifest's order.

    Without a manifest the primary metric is the first of exact_match, accuracy, accuracy@0.5
    that the task has, or its first metric.
    """
    described: dict[str, Any] = sweep.manifest.get("tasks", {})
    measured = sweep.points.groupby("task", sort=False)["metric"].unique()
    out: dict[str, Task] = {}
    for name in [
        *(n for n in described if n in measured.index),
        *(n for n in measured.index if n not in described),
    ]:
        spec = described.get(name, {})
        metrics = [str(m) for m in measured[name]]
        known = [m for m in FRACTIONS if m in metrics]
        primary = spec.get("primary") or (known or metrics)[0]
        metric_specs = {m: spec.get("metrics", {}).get(m, {}) for m in metrics}
        units = {m: str(metric_specs[m].get("unit", _unit(m))) for m in metrics}
        lower = frozenset(m for m in metrics if metric_specs[m].get("higher_is_better") is False)
        lows = {m: sweep.range_of(str(name), m)[0] for m in metrics}
        out[str(name)] = Task(str(name), str(primary), spec.get("chance"), units, lower, lows)
    return out


def less_is_better(known: Mapping[str, Task], task: str, metric: str) -> bool:
    """Whether less of a task's metric is better; never of the mean over tasks."""
    return task in known and metric in known[task].lower_is_better


def chance_of(known: Mapping[str, Task], task: str, metric: str) -> float | None:
    """Value of a metric that guessing gives, of the mean over tasks too; None where unknown."""
    if task == MEAN:
        chances = [t.chance for t in known.values() if t.chance is not None]
        return sum(chances) / len(chances) if len(chances) == len(known) else None
    return known[task].chance if metric == known[task].primary else None


def floor_of(known: Mapping[str, Task], task: str, metric: str) -> Floor | None:
    """What guessing gives, where that is known, else the lowest value that the metric can have.

    Of the mean over tasks it is the mean of these values: that of the chances where all are known,
    else that of the lowest values. None where neither is known.
    """
    chance = chance_of(known, task, metric)
    if chance is not None:
        return Floor(chance, f"chance ({chance:.3g})")
    parts = [(t, t.primary) for t in known.values()] if task == MEAN else [(known[task], metric)]
    lowest = [part.lows.get(name, -np.inf) for part, name in parts]
    low = float(np.mean(lowest))
    return Floor(low, f"{low:.3g}") if np.isfinite(low) else None


def mean_label(known: Mapping[str, Task]) -> str:
    """What an axis of the mean over tasks shows, where the primary metrics are fractions."""
    label = "mean accuracy over tasks"
    is_normalised = all(task.primary.endswith(ABOVE_CHANCE) for task in known.values())
    return f"{label}, {ABOVE_CHANCE}" if is_normalised else label


def no_mean(known: Mapping[str, Task]) -> str:
    """Why the tasks' primary metrics cannot be averaged; empty where they can.

    They need one unit, and more must be better in each.
    """
    lower = [f"{t.name} {t.primary}" for t in known.values() if t.primary in t.lower_is_better]
    units = list(dict.fromkeys(task.units[task.primary] for task in known.values()))
    if len(units) > 1:
        return f"the tasks' metrics have several units ({', '.join(units)})"
    return f"lower is better for {', '.join(lower)}" if lower else ""


def main_rows(comparison: pd.DataFrame, known: Mapping[str, Task]) -> tuple[str, pd.DataFrame]:
    """What a sweep is summed up by: the mean over tasks, or where there is none the first task.

    Args:
        comparison: what `compare` gave.
        known: the sweep's tasks by name.

    Returns:
        The task, and its rows of the primary metric that have a BD-rate: anchor by anchor, first
        those of the ranking, by its BD-rates; then those that share too few accuracies for it.
    """
    task = MEAN if (comparison["task"] == MEAN).any() else next(iter(known), "")
    rows = comparison[(comparison["task"] == task) & comparison["bd_rate"].notna()]
    rows = rows[rows["metric"] == known[task].primary] if task in known else rows
    order = ["mllm", "anchor_codec", "ranked_bd_rate", "bd_rate"]
    return task, rows.sort_values(order, na_position="last", kind="stable")


def above_chance(sweep: Sweep, stated: Mapping[str, float] | None = None) -> Sweep:
    """The sweep with primary metrics normalised by chance: guessing is 0, all answers right are 1.

    A mean over tasks then counts what each task shows above guessing, (a - c) / (1 - c), as
    Cohen's kappa does (1960), rather than most what is hard to guess. Curves of a single task
    compare as before, as only their axis changes.

    Args:
        sweep: the sweep.
        stated: task -> value that guessing gives, for tasks that do not say so or say another.

    Raises:
        AnalysisError: a primary metric that is no fraction, a chance that is unknown or outside
            [0, 1), or a task that the sweep does not have.
    """
    known, stated = tasks(sweep), dict(stated or {})
    chances = {name: stated.get(name, task.chance) for name, task in known.items()}
    names = ", ".join(known)
    problems = [f"{task}: not among the tasks {names}" for task in stated if task not in known]
    for name, task in known.items():
        chance = chances[name]
        if task.units[task.primary] != FRACTION:
            problems.append(f"{name}: {task.primary} is no fraction")
        elif chance is None:
            problems.append(f"{name}: its chance is not known; state it, as {name}=0.25")
        elif not 0 <= chance < 1:
            problems.append(f"{name}={chance:g}: chance must be at least 0 and less than 1")
    if problems:
        raise AnalysisError(f"above chance: {'; '.join(problems)}")
    points, samples = sweep.points, sweep.samples
    described = dict(sweep.manifest.get("tasks", {}))
    for name, task in known.items():
        chance = float(chances[name] or 0)
        metric = f"{task.primary} {ABOVE_CHANCE}"
        columns = ["value", "value_low", "value_high"]
        points = _normalised(points, columns, task, metric, chance)
        if samples is not None:
            samples = _normalised(samples, ["value"], task, metric, chance)
        metrics = dict(described.get(name, {}).get("metrics", {}))
        metrics[metric] = {"unit": FRACTION, "low": -chance / (1 - chance), "high": 1.0}
        described[name] = {"primary": metric, "chance": 0.0, "metrics": metrics}
    return replace(
        sweep, points=points, samples=samples, manifest={**sweep.manifest, "tasks": described}
    )


def _normalised(
    frame: pd.DataFrame, columns: list[str], task: Task, metric: str, chance: float
) -> pd.DataFrame:
    """A frame in which a task's primary metric is normalised by chance."""
    rows = (frame["task"] == task.name) & (frame["metric"] == task.primary)
    numbers = frame[columns]
    return frame.assign(
        metric=frame["metric"].astype("str").mask(rows, metric),
        **numbers.where(~rows, (numbers - chance) / (1 - chance)),
    )


def _unit(metric: str) -> str:
    return FRACTION if metric in FRACTIONS else metric
