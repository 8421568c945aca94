"""The metrics, parameters and tags of an operating point's run in MLflow.

Names are chosen for MLflow's own views of many runs. `bpp`, `log2_bpp` and `mean_accuracy` describe
the whole point: the rate, the rate as an axis that `uncompressed` (24 bpp) does not stretch, and
the mean over tasks of the primary metrics, as in the curves. A metric of a task begins with the
task's name and a slash, which is a section of charts. Runs have the colours that scenarios have in
the figures. Parameters are the settings by dotted path; a setting that is None, such as the lambda
of a point without one, is left out, so that an axis of numbers has nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.tracking.measured import Measured
from search_spaces import OperatingPoint

if TYPE_CHECKING:  # MLflow takes seconds
    from mlflow.entities import Metric

VARIANT = "bridgesweep.variant"
FORMAT = "2"
"""Of what follows: runs of an earlier one are logged again."""


def metrics_of(measured: Measured) -> list[Metric]:
    """Everything measured, with the time at which the storage got it."""
    from mlflow.entities import Metric

    from analysis.io.read import metric_to_mlflow

    trained, evaluated = (int(1000 * measured.manifests[n]["created"]) for n in (0, -1))
    metrics = []
    for reported in measured.curve:
        metrics += [
            Metric(f"train/{name}", float(value), trained, int(reported["step"]))
            for name, value in reported.items()
            if name not in ("step", "steps")
        ]
    several = len({row["mllm"] for row in measured.rows}) > 1
    dataset = measured.spec["dataset"]

    def task_of(row: Mapping[str, object]) -> str:
        """The task, with its data set where that is a benchmark."""
        task = str(row["task"])
        return task if row["dataset"] == dataset else f"{row['dataset']}.{task}"

    for name in ("bpp", "bpp_estimated", "psnr", "distill_pooled", "distill_tokens"):
        by_task = {(row["mllm"], task_of(row)): row[name] for row in measured.rows}
        values = [value for value in by_task.values() if value is not None]
        if values:
            metrics.append(Metric(name, sum(values) / len(values), evaluated, 0))
            if name == "bpp":
                metrics.append(Metric("log2_bpp", math.log2(metrics[-1].value), evaluated, 0))
    for mllm, value in _mean_accuracy(measured).items():
        prefix = f"{Path(mllm).name}/" if several else ""
        metrics.append(Metric(f"{prefix}mean_accuracy", value, evaluated, 0))
    for row in measured.rows:
        prefix = f"{Path(row['mllm']).name}/" if several else ""
        base = f"{prefix}{task_of(row)}/{metric_to_mlflow(row['metric'])}"
        metrics.append(Metric(base, float(row["value"]), evaluated, 0))
        for end in ("low", "high"):
            bound = float(row[f"value_{end}"])
            if bound == bound:
                metrics.append(Metric(f"{base}/{end}", bound, evaluated, 0))
        for name in ("n_samples", "bpp"):
            metrics.append(Metric(f"{prefix}{task_of(row)}/{name}", float(row[name]), evaluated, 0))
    for name, value in measured.seconds.items():
        metrics.append(Metric(f"seconds/{name}", float(value), evaluated, 0))
    unique = {(m.key, m.step): m for m in metrics}
    return list(unique.values())


def _mean_accuracy(measured: Measured) -> dict[str, float]:
    """Mean over tasks of their primary metrics, by MLLM; none where they are no fractions all."""
    from trainables.tasks import TASKS

    tasks = {row["task"]: TASKS.get(row["task"]) for row in measured.rows}
    primary = [row for row in measured.rows if row["metric"] == tasks[row["task"]].primary]
    units = {
        m.unit for row in primary for m in tasks[row["task"]].metrics if m.name == row["metric"]
    }
    if units != {"fraction"}:
        return {}
    values: dict[str, list[float]] = {}
    for row in primary:
        values.setdefault(row["mllm"], []).append(float(row["value"]))
    return {mllm: sum(numbers) / len(numbers) for mllm, numbers in values.items()}


def params_of(measured: Measured) -> dict[str, object]:
    """The settings that the point was trained with, by dotted path; without those that are None."""

    def flat(prefix: str, value: object) -> dict[str, object]:
        if isinstance(value, Mapping):
            return {
                name: inner
                for key, part in value.items()
                for name, inner in flat(f"{prefix}.{key}" if prefix else key, part).items()
            }
        return {prefix: value}

    # What evaluates a point or names it may change later, and a parameter must not: those are tags.
    changing = ("mllms", "tasks", "benchmarks", "evaluation", "variant")
    params = flat("", {k: v for k, v in measured.spec.items() if k not in changing})
    return {name: value for name, value in params.items() if value is not None}


def name_tags(point: OperatingPoint) -> dict[str, str]:
    """The tags that name a point; the variant's name is not part of its key and so may change."""
    return {"mlflow.runName": point.label} | ({VARIANT: point.variant} if point.variant else {})


def tags_of(measured: Measured) -> dict[str, str]:
    """The tags: what a person filters and sorts by, and the provenance in short."""
    made = measured.manifests[0]
    packages = made["code"]["packages"]
    tags = {
        "bridgesweep.mllm": ",".join(sorted({row["mllm"] for row in measured.rows})),
        "bridgesweep.dataset": measured.spec["dataset"],
        "bridgesweep.split": ",".join(sorted({row["split"] for row in measured.rows})),
        "bridgesweep.commit": str(made["code"]["commit"]),
        "bridgesweep.dirty": str(made["code"]["dirty"]),
        "bridgesweep.packages": ", ".join(f"{n} {v}" for n, v in packages.items()),
        "bridgesweep.hardware": json.dumps(made["hardware"]),
        "mlflow.runColor": _colour(measured),
        **name_tags(measured.point),
    }
    if made["code"]["commit"]:
        tags["mlflow.source.git.commit"] = made["code"]["commit"]
    return tags


def _colour(measured: Measured) -> str:
    """The scenario's, a standard's codec its own, as in the figures of one learned codec."""
    from analysis.figures.looks import Looks

    owner = (str(measured.spec.get("codec") or ""), measured.point.scenario)
    return Looks([owner]).owner(*owner).colour
