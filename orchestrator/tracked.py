"""What a child run in MLflow says about an operating point."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.collect import Measured
from search_spaces import OperatingPoint

VARIANT = "bridgesweep.variant"


def metrics_of(one: Measured) -> list[Any]:
    """Everything measured, with the time at which the storage got it."""
    from mlflow.entities import Metric

    from analysis.points import metric_to_mlflow

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


def params_of(one: Measured) -> dict[str, Any]:
    """What the point was trained with, flat."""

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
    return flat("", {k: v for k, v in one.spec.items() if k not in changing})


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
        **name_tags(one.point),
    }
    if made["code"]["commit"]:
        tags["mlflow.source.git.commit"] = made["code"]["commit"]
    return tags
