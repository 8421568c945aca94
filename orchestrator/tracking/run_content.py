"""What a child run in MLflow says about an operating point.

Names are chosen for MLflow's own views of many runs. `bpp`, `log2_bpp` and `mean_accuracy` stand
for the whole point: the rate, the rate as an axis that `uncompressed` (24 bpp) does not stretch,
and the mean over tasks of the primary metrics, as in the curves. What belongs to a task begins with
its name and a slash, which is a section of charts. Runs have the colours that scenarios have in
the figures. Parameters are the settings under their paths; what a point does not have, a lambda for
instance, is left out, so that an axis of numbers stays one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.tracking.points_file import Measured
from search_spaces import OperatingPoint

VARIANT = "bridgesweep.variant"
FORMAT = "2"
"""Of what follows: runs of an earlier one are logged again."""


def metrics_of(one: Measured) -> list[Any]:
    """Everything measured, with the time at which the storage got it."""
    from mlflow.entities import Metric

    from analysis.io.read import metric_to_mlflow

    trained, evaluated = (int(1000 * one.manifests[n]["created"]) for n in (0, -1))
    metrics = []
    for reported in one.curve:
        metrics += [
            Metric(f"train/{name}", float(value), trained, int(reported["step"]))
            for name, value in reported.items()
            if name not in ("step", "steps")
        ]
    several = len({row["mllm"] for row in one.rows}) > 1
    own = one.spec["dataset"]

    def task_of(row: Mapping[str, Any]) -> str:
        """The task, with its data set where that is a benchmark."""
        task: str = row["task"]
        return task if row["dataset"] == own else f"{row['dataset']}.{task}"

    for name in ("bpp", "bpp_estimated", "psnr", "distill_pooled", "distill_tokens"):
        by_task = {(row["mllm"], task_of(row)): row[name] for row in one.rows}
        values = [value for value in by_task.values() if value is not None]
        if values:
            metrics.append(Metric(name, sum(values) / len(values), evaluated, 0))
            if name == "bpp":
                metrics.append(Metric("log2_bpp", math.log2(metrics[-1].value), evaluated, 0))
    for mllm, value in _mean_accuracy(one).items():
        prefix = f"{Path(mllm).name}/" if several else ""
        metrics.append(Metric(f"{prefix}mean_accuracy", value, evaluated, 0))
    for row in one.rows:
        prefix = f"{Path(row['mllm']).name}/" if several else ""
        base = f"{prefix}{task_of(row)}/{metric_to_mlflow(row['metric'])}"
        metrics.append(Metric(base, float(row["value"]), evaluated, 0))
        for end in ("low", "high"):
            bound = float(row[f"value_{end}"])
            if bound == bound:
                metrics.append(Metric(f"{base}/{end}", bound, evaluated, 0))
        for name in ("n_samples", "bpp"):
            metrics.append(Metric(f"{prefix}{task_of(row)}/{name}", float(row[name]), evaluated, 0))
    for name, value in one.seconds.items():
        metrics.append(Metric(f"seconds/{name}", float(value), evaluated, 0))
    unique = {(m.key, m.step): m for m in metrics}
    return list(unique.values())


def _mean_accuracy(one: Measured) -> dict[str, float]:
    """Mean over tasks of their primary metrics, by MLLM; none where they are no fractions all."""
    from trainables.tasks import TASKS

    tasks = {row["task"]: TASKS.get(row["task"]) for row in one.rows}
    primary = [row for row in one.rows if row["metric"] == tasks[row["task"]].primary]
    units = {
        m.unit for row in primary for m in tasks[row["task"]].metrics if m.name == row["metric"]
    }
    if units != {"fraction"}:
        return {}
    values: dict[str, list[float]] = {}
    for row in primary:
        values.setdefault(row["mllm"], []).append(float(row["value"]))
    return {mllm: sum(own) / len(own) for mllm, own in values.items()}


def params_of(one: Measured) -> dict[str, Any]:
    """What the point was trained with, flat; without what it does not have."""

    def flat(prefix: str, value: Any) -> dict[str, Any]:
        if isinstance(value, Mapping):
            return {
                name: inner
                for key, part in value.items()
                for name, inner in flat(f"{prefix}.{key}" if prefix else key, part).items()
            }
        return {prefix: value}

    # What evaluates a point or names it may change later, and a parameter must not: those are tags.
    changing = ("mllms", "tasks", "benchmarks", "evaluation", "variant")
    found = flat("", {k: v for k, v in one.spec.items() if k not in changing})
    return {name: value for name, value in found.items() if value is not None}


def name_tags(point: OperatingPoint) -> dict[str, str]:
    """How a point is called; the variant's name is no part of its key and so may change."""
    return {"mlflow.runName": point.label} | ({VARIANT: point.variant} if point.variant else {})


def tags_of(one: Measured) -> dict[str, str]:
    """What a person filters and sorts by, and where the point comes from."""
    made = one.manifests[0]
    packages = made["code"]["packages"]
    tags = {
        "bridgesweep.mllm": ",".join(sorted({row["mllm"] for row in one.rows})),
        "bridgesweep.dataset": one.spec["dataset"],
        "bridgesweep.split": ",".join(sorted({row["split"] for row in one.rows})),
        "bridgesweep.commit": str(made["code"]["commit"]),
        "bridgesweep.dirty": str(made["code"]["dirty"]),
        "bridgesweep.packages": ", ".join(f"{n} {v}" for n, v in packages.items()),
        "bridgesweep.hardware": json.dumps(made["hardware"]),
        "mlflow.runColor": _colour(one),
        **name_tags(one.point),
    }
    if made["code"]["commit"]:
        tags["mlflow.source.git.commit"] = made["code"]["commit"]
    return tags


def _colour(one: Measured) -> str:
    """The scenario's, a standard's codec its own, as in the figures of one learned codec."""
    from analysis.figures.style import Looks

    owner = (str(one.spec.get("codec") or ""), one.point.scenario)
    return Looks([owner]).owner(*owner).colour
