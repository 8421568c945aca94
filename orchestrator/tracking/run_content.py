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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow.parquet as pq

from orchestrator.storage.disk import read_regular
from orchestrator.storage.store import Manifest
from orchestrator.tracking.curves import CurveRow
from orchestrator.tracking.measured import SAMPLES, Measured, point_spec
from search_spaces import OperatingPoint, Space, Stage

if TYPE_CHECKING:  # MLflow takes seconds
    from mlflow.entities import Metric

VARIANT: Final = "bridgesweep.variant"
CURVE: Final = "train/"
"""Begins the names of the metrics of a training curve."""
FORMAT: Final = "3"
"""Of what follows: runs of an earlier one are logged again."""


@dataclass(frozen=True)
class RunSubject:
    """What a child run is about, as far as it is clear before anything is trained.

    Attributes:
        kind: `point` or `codec`.
        key: of its stage, or of the point.
        tags: its name and colour, and its variant.
        params: by dotted path.
    """

    kind: str
    key: str
    tags: Mapping[str, str]
    params: Mapping[str, object]


def subject_of(space: Space, stage: Stage, key: str | None = None) -> RunSubject:
    """The subject of a stage that has a run: of an operating point or of a base codec.

    Args:
        key: of the point (`Plan.key`); None for that of the stage.
    """
    point, codec = stage.subject.point, stage.subject.codec
    if point is not None:
        return point_subject(key or stage.key, point, point_spec(space, point))
    assert codec is not None
    rate = f" lambda={stage.subject.lmbda:g}" if stage.subject.lmbda is not None else ""
    name = f"{codec.label} codec{'' if codec.is_variable_rate else rate}"
    settings = codec.model_dump(mode="json", exclude={"lambdas"})
    params = {"codec": codec.label, "lmbda": stage.subject.lmbda, "base_codec": settings}
    return RunSubject("codec", stage.key, {"mlflow.runName": name}, _by_path(params))


def point_subject(key: str, point: OperatingPoint, spec: Mapping[str, object]) -> RunSubject:
    """The subject of an operating point's run.

    Args:
        key: of the point.
        spec: `measured.point_spec`.
    """
    tags = {"mlflow.runColor": _colour(point, spec), **name_tags(point)}
    return RunSubject("point", key, tags, params_of(spec))


def curve_rows(curve: Iterable[Mapping[str, float]], manifest: Manifest) -> list[CurveRow]:
    """The rows of a finished curve, at times evenly spread over the time of the training.

    Args:
        curve: of the file: `step`, `steps` and metrics of each row.
        manifest: of the trained stage.
    """
    rows = []
    for reported in curve:
        step, steps = int(reported["step"]), int(reported["steps"])
        left_s = manifest["seconds"] * (1 - step / max(steps, 1))
        metrics = {name: reported[name] for name in reported if name not in ("step", "steps")}
        rows.append(CurveRow(step, steps, metrics, int(1000 * (manifest["created"] - left_s))))
    return rows


def curve_metrics(rows: Iterable[CurveRow]) -> list[Metric]:
    """Rows of a curve as metrics `train/<name>`."""
    from mlflow.entities import Metric

    return [
        Metric(f"{CURVE}{name}", float(value), row.time_ms, row.step)
        for row in rows
        for name, value in row.metrics.items()
    ]


def metrics_of(measured: Measured) -> list[Metric]:
    """Everything measured but the curve, with the time at which the storage got it."""
    from mlflow.entities import Metric

    from analysis.io.read import metric_to_mlflow

    evaluated = int(1000 * measured.manifests[-1]["created"])
    several = len({row["mllm"] for row in measured.rows}) > 1

    def prefix_of(mllm: str) -> str:
        return f"{Path(mllm).name}/" if several else ""

    def task_of(row: Mapping[str, object]) -> str:
        """The task, with its data set where that is a benchmark."""
        is_benchmark = row["dataset"] != measured.spec["dataset"]
        return f"{row['dataset']}.{row['task']}" if is_benchmark else str(row["task"])

    values: dict[str, float] = {}
    for name in ("bpp", "bpp_estimated", "psnr", "distill_pooled", "distill_tokens"):
        by_task = {(row["mllm"], task_of(row)): row[name] for row in measured.rows}
        known = [value for value in by_task.values() if value is not None]
        if known:
            values[name] = sum(known) / len(known)
    if "bpp" in values:
        values["log2_bpp"] = math.log2(values["bpp"])
    for mllm, value in _mean_accuracy(measured).items():
        values[f"{prefix_of(mllm)}mean_accuracy"] = value
    for row in measured.rows:
        task = prefix_of(row["mllm"]) + task_of(row)
        base = f"{task}/{metric_to_mlflow(row['metric'])}"
        values[base] = row["value"]
        bounds = {f"{base}/{end}": row[f"value_{end}"] for end in ("low", "high")}
        values |= {name: bound for name, bound in bounds.items() if not math.isnan(bound)}
        values |= {f"{task}/{name}": row[name] for name in ("n_samples", "bpp")}
    values |= {f"seconds/{name}": value for name, value in measured.seconds.items()}
    return [Metric(name, float(value), evaluated, 0) for name, value in values.items()]


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


def params_of(spec: Mapping[str, object]) -> dict[str, object]:
    """The settings that a point is trained with, by dotted path; without those that are None.

    Args:
        spec: `measured.point_spec`.
    """
    # What evaluates a point or names it may change later, and a parameter must not: those are tags.
    changing = ("mllms", "tasks", "benchmarks", "evaluation", "variant")
    return _by_path({name: value for name, value in spec.items() if name not in changing})


def _by_path(settings: Mapping[str, object]) -> dict[str, object]:
    """Nested settings by dotted path; without those that are None."""
    params: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            params |= {f"{name}.{path}": inner for path, inner in _by_path(value).items()}
        elif value is not None:
            params[name] = value
    return params


def name_tags(point: OperatingPoint) -> dict[str, str]:
    """The tags that name a point; the variant's name is not part of its key and so may change."""
    return {"mlflow.runName": point.label} | ({VARIANT: point.variant} if point.variant else {})


def tags_of(measured: Measured) -> dict[str, str]:
    """The tags of a measured point: what a person filters and sorts by, and the provenance."""
    return {
        "bridgesweep.mllm": ",".join(sorted({row["mllm"] for row in measured.rows})),
        "bridgesweep.dataset": measured.spec["dataset"],
        "bridgesweep.split": ",".join(sorted({row["split"] for row in measured.rows})),
        **provenance_tags(measured.manifests[0]),
    }


def provenance_tags(manifest: Manifest) -> dict[str, str]:
    """The provenance of a trained stage, in short."""
    code = manifest["code"]
    tags = {
        "bridgesweep.commit": str(code["commit"]),
        "bridgesweep.dirty": str(code["dirty"]),
        "bridgesweep.packages": ", ".join(f"{n} {v}" for n, v in code["packages"].items()),
        "bridgesweep.hardware": json.dumps(manifest["hardware"]),
    }
    if code["commit"]:
        tags["mlflow.source.git.commit"] = code["commit"]
    return tags


def _colour(point: OperatingPoint, spec: Mapping[str, object]) -> str:
    """The scenario's, a standard's codec its own, as in the figures of one learned codec."""
    from analysis.figures.common.looks import Looks

    owner = (str(spec.get("codec") or ""), point.scenario)
    return Looks([owner]).owner(*owner).colour


def write_artifacts(measured: Measured, directory: Path) -> None:
    """Write the artifacts of a point's run: spec, provenance, samples, examples.

    Raises:
        StoreError: a file of an example is a link by now.
    """
    (directory / "spec.json").write_text(json.dumps(measured.spec, indent=1), encoding="utf-8")
    provenance = json.dumps(measured.provenance, indent=1)
    (directory / "provenance.json").write_text(provenance, encoding="utf-8")
    pq.write_table(measured.samples(), directory / SAMPLES)
    for page in (example["page"] for example in measured.examples):
        target = directory / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(read_regular(measured.files[page]))
