"""The tasks of a sweep: primary metrics, units, chance, and which direction is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.curves.curve import MEAN
from analysis.io.schema import FRACTION, FRACTIONS
from analysis.io.sweep import Sweep


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
    """

    name: str
    primary: str
    chance: float | None
    units: dict[str, str]
    lower_is_better: frozenset[str] = frozenset()


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
        out[str(name)] = Task(str(name), str(primary), spec.get("chance"), units, lower)
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


def no_mean(known: Mapping[str, Task]) -> str:
    """Why the tasks' primary metrics cannot be averaged; empty where they can.

    They need one unit, and more must be better in each.
    """
    lower = [f"{t.name} {t.primary}" for t in known.values() if t.primary in t.lower_is_better]
    units = list(dict.fromkeys(task.units[task.primary] for task in known.values()))
    if len(units) > 1:
        return f"the tasks' metrics have several units ({', '.join(units)})"
    return f"lower is better for {', '.join(lower)}" if lower else ""


def _unit(metric: str) -> str:
    return FRACTION if metric in FRACTIONS else metric
