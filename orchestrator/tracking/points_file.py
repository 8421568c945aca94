"""The points file of a sweep, and the files beside it in the sweep's directory.

complete points --> points.parquet, points.csv, samples.parquet, examples/, sweep.json
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.plan.jobs import Plan
from orchestrator.storage.files import StoreError
from orchestrator.storage.provenance import ACCUMULATION_FACTOR
from orchestrator.storage.store import JsonObject, Manifest, Store
from orchestrator.tracking.measured import LOSSES, SAMPLES, Measured
from orchestrator.tracking.mlflow_runs import Tracker
from search_spaces import OperatingPoint, Space
from search_spaces.scenarios import looks
from search_spaces.settings.secrets import without_secrets

BENCHMARK: Final = "benchmark.json"
"""Of a benchmark's stage: what it consists of, and what was left out."""
_CONTENT: Final = b"bridgesweep.content"
"""Entry of the metadata of the samples' file: which evaluations it has, and under which names."""
_SAMPLES_FORMAT: Final = 2
"""Of the samples' file: files of an earlier one are written again."""
_PARQUET: Final = b"PAR1"
"""How a Parquet file begins, and ends after its metadata and their length in four bytes."""
_PARQUET_END: Final = 8
_LABELS: Final = ("point_key", "mllm", "dataset", "task")


@dataclass(frozen=True)
class MissingPoint:
    """A wanted operating point that is not complete.

    Attributes:
        log: path of the log that explains it; empty if there is none.
    """

    point: OperatingPoint
    reason: str
    log: str


def write_sweep(
    plan: Plan,
    store: Store,
    name: str,
    complete: Mapping[str, Measured],
    missing: Mapping[str, MissingPoint],
    tracker: Tracker | None,
    tracking_uri: str,
    experiment: str,
    owner: str,
    timing: Mapping[str, object],
    left_out: Sequence[str],
) -> str:
    """Write the points file, the samples, the examples and `sweep.json`.

    Args:
        name: the sweep's.
        complete: complete points by key.
        missing: missing points by key.
        tracker: knows the runs in MLflow; None while that is away.
        experiment: name of MLflow's experiment.
        owner: name of the user that made this run of the sweep.
        timing: `recording.request.Timing`.
        left_out: lines of `skipped`.

    Returns:
        The sweep's directory or URI.
    """
    run_ids = tracker.run_ids() if tracker is not None else {}
    gone = {
        key: {**absent.point.fields, "reason": absent.reason, "log": absent.log}
        for key, absent in missing.items()
    }
    content = {
        "schema": 1,
        **sweep_content(plan, name, complete, gone),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "points": {
            key: {
                "spec": measured.spec,
                "provenance": measured.provenance,
                "seconds": measured.seconds,
                "info": measured.info,
                "run_id": run_ids.get(key),
                "examples": measured.examples,
            }
            for key, measured in complete.items()
        },
        "tracking_uri": without_secrets(tracking_uri),
        "experiment": experiment,
        "owner": owner,
        "parent_run_id": tracker.parent if tracker is not None else None,
        "timing": dict(timing),
        "skipped": list(left_out),
    }
    _write_tables(store, name, complete, run_ids)
    store.write(f"{name}/sweep.json", json.dumps(content, indent=1, allow_nan=False).encode())
    return f"{store.uri}/{name}"


def _write_tables(
    store: Store, name: str, complete: Mapping[str, Measured], run_ids: Mapping[str, str]
) -> None:
    """Write points, samples and new examples; nothing if no point is complete."""
    rows = point_rows(name, complete, run_ids)
    if not rows:
        return
    write_table(store, name, rows)
    _write_samples(store, name, complete)
    files = {path: file for measured in complete.values() for path, file in measured.files.items()}
    present = store.infos(f"{name}/examples")
    for path, file in files.items():
        target = f"{name}/{path}"
        if target not in present or present[target].size != file.stat().st_size:
            store.put_file(file, target)


def _write_samples(store: Store, name: str, complete: Mapping[str, Measured]) -> None:
    """Write the samples of all points, unless the file has them already."""

    def labels_of(measured: Measured) -> list[list[object]]:
        return [[row[name] for name in _LABELS] for row in measured.rows]

    stages = [
        ([about["stage"] for about in measured.manifests], labels_of(measured))
        for measured in complete.values()
    ]
    content = hashlib.sha256(json.dumps([_SAMPLES_FORMAT, stages]).encode()).hexdigest().encode()
    path = f"{name}/{SAMPLES}"
    if samples_content(store, path) == content:
        return
    tables = [measured.samples() for measured in complete.values()]
    table = pa.concat_tables(tables, promote_options="permissive")
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_CONTENT: content}), buffer)
    store.write(path, buffer.getvalue())


def samples_content(store: Store, path: str) -> bytes | None:
    """What a file of samples says that it has; None if there is none, or it says nothing.

    Its end is read before it is parsed, so that no error of Arrow is one of the storage.
    """
    size = store.size(path)
    try:
        last = store.fs.cat_file(store.path(path), start=max(0, size - _PARQUET_END), end=size)
        end = _PARQUET_END + int.from_bytes(last[:4], "little")
        if not _PARQUET_END < end <= size:
            return None
        footer = store.fs.cat_file(store.path(path), start=size - end, end=size)
    except (FileNotFoundError, StoreError):
        return None
    try:
        return (pq.read_schema(io.BytesIO(_PARQUET + footer)).metadata or {}).get(_CONTENT)
    except (pa.ArrowException, OSError):
        return None


def skipped(plan: Plan, store: Store, complete: Mapping[str, Measured]) -> list[str]:
    """What the data of a sweep and its evaluations left out, a line each; empty if nothing.

    Args:
        complete: complete points by key.
    """
    lines = []
    data, benchmarks = plan.space.data, plan.space.benchmarks
    for split, stage in (
        ("training", plan.stages.train_images()),
        ("test", plan.stages.test_images()),
    ):
        manifest = manifest_or_nothing(store, stage.path)
        if count := manifest.get("unreadable", 0):
            images = f"{count} of {manifest['images'] + count} {split} images"
            lines.append(f"{data.label}: {images} are unreadable ({stage.path}/unreadable.json)")
    for benchmark in benchmarks:
        stage = plan.stages.benchmark(benchmark)
        about = manifest_or_nothing(store, stage.path)
        try:
            text = store.stage_file(about, BENCHMARK) if about else b'{"unreadable": []}'
            content = json.loads(text)
        except StoreError as error:
            lines.append(f"{benchmark.label}: {error}")
            continue
        if count := len(content["unreadable"]):
            images = f"{count} of {content['images'] + count} images"
            lines.append(f"{benchmark.label}: {images} are unreadable ({stage.path}/{BENCHMARK})")
    for measured in complete.values():
        losses = [
            f"{len(measured.lost[loss])} {description}"
            for loss, (_, description) in LOSSES.items()
            if measured.lost[loss]
        ]
        if losses:
            lines.append(f"{measured.point.label}: {', '.join(losses)}")
    return lines


def manifest_or_nothing(store: Store, stage: str) -> Manifest:
    """The manifest of a stage; empty where it is not complete, or damaged."""
    try:
        return store.manifest(stage) if store.has(stage) else {}
    except StoreError:
        return {}


def write_table(store: Store, name: str, rows: Sequence[JsonObject]) -> None:
    """Write `points.parquet` and `points.csv`; readers see each file whole.

    Args:
        name: the sweep's.
        rows: as of `point_rows`, at least one.

    Raises:
        StoreError: the sweep's directory is a link.
    """
    import pandas as pd

    from analysis.io.read import write_points

    store.refuse_links(store.path(name))
    write_points(pd.DataFrame(rows), f"{store.uri}/{name}")


def point_rows(
    name: str, complete: Mapping[str, Measured], run_ids: Mapping[str, str]
) -> list[JsonObject]:
    """The rows of the points file.

    Args:
        name: the sweep's.
        complete: complete points by key.
        run_ids: of their runs in MLflow, by key; points without one have an empty `run_id`.
    """
    return [
        {"sweep": name, **row, "run_id": run_ids.get(key)}
        for key, measured in complete.items()
        for row in measured.rows
    ]


def sweep_content(
    plan: Plan,
    name: str,
    complete: Mapping[str, Measured],
    missing: Mapping[str, Mapping[str, object]],
) -> JsonObject:
    """The part of `sweep.json` that figures are drawn with.

    Args:
        name: the sweep's.
        complete: complete points by key.
        missing: by key of a missing point its `OperatingPoint.fields` and `reason`, ...
    """
    points = (*plan.points, *(measured.point for measured in complete.values()))
    by_key = {plan.key(point): point for point in points}
    expected = {key: {"point_key": key, **point.fields} for key, point in by_key.items()}
    return {
        "sweep": name,
        "space": plan.space.model_dump(mode="json"),
        "expected": list(expected.values()),
        "missing": [{"point_key": key, **about} for key, about in missing.items()],
        "sliced": [
            m.point.label for m in complete.values() if ACCUMULATION_FACTOR in m.manifests[0]
        ],
        "tasks": _task_descriptions(plan.space),
        "answerers": _answerers(plan),
        "scenarios": _scenario_looks(plan.space),
    }


def _answerers(plan: Plan) -> dict[str, str | None]:
    """Name of each MLLM, and of each encoder that answers alone, in points -> its checksum."""
    names = plan.space.variants or ("",)
    spaces = [plan.stages.of(variant).space for variant in names]
    return {
        measurement.label: plan.stages.fingerprint(measurement.answerer)
        for space in spaces
        for measurement in space.measurements
    }


def _scenario_looks(space: Space) -> JsonObject:
    """How figures show the scenarios of a space and of its variants, as JSON data."""
    scenario_names = {
        name for variant in space.variants or ("",) for name in space.of(variant).scenario_names
    }
    return {
        name: look.model_dump(mode="json", exclude_defaults=True)
        for name, look in looks().items()
        if name in scenario_names
    }


def _task_descriptions(space: Space) -> JsonObject:
    """Per task its primary metric, chance level, and the metrics' units and ranges."""
    from trainables.tasks import TASKS  # imports torch

    names = dict.fromkeys(measurement.task for measurement in space.measurements)
    return {
        name: {
            "primary": task.primary,
            "chance": task.chance,
            "metrics": {
                metric.name: {
                    "unit": metric.unit,
                    "low": metric.low,
                    "high": metric.high,
                    "higher_is_better": metric.higher_is_better,
                }
                for metric in task.metrics
            },
        }
        for name, task in ((name, TASKS.get(name)) for name in names)
    }
