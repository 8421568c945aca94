"""What was measured of an operating point, read from its stages in the storage.

stage of the point                   --> spec, training curve, manifest
stages of its evaluations            --> rate-accuracy points, samples, examples, manifests
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from orchestrator.plan.jobs import Plan
from orchestrator.storage.files import StoreError
from orchestrator.storage.provenance import ACCUMULATION_FACTOR
from orchestrator.storage.store import MANIFEST, JsonObject, Manifest, Store
from search_spaces import Measurement, OperatingPoint, Space, point_stage
from search_spaces.scenarios import scenario_of

log = logging.getLogger(__name__)
_SPEC: Final = {"data", "benchmarks", "mllms", "tasks", "evaluation", "teacher"}
CURVE_FILE: Final = "curve.jsonl"
"""Of a trained stage: a JSON object per row."""
_KEPT: Final = ("stage", "created", "inputs", "seconds", ACCUMULATION_FACTOR)
"""Entries of manifests, beside `files`, `code` and `hardware`."""
_EQUAL: Final[dict[str, JsonObject]] = {}
"""Objects of JSON data by their text: points have the same packages and machines."""
_SHAPES: Final = (
    *(ValueError, LookupError, TypeError, AttributeError, RecursionError),
    pa.ArrowException,
)
"""What is raised where a file has another content than this program writes."""
_CURVE_ROW: Final = TypeAdapter(dict[str, float])
SAMPLES: Final = "samples.parquet"
"""Of an evaluation, and of a sweep: a row per sample."""
LOSSES: Final = {
    "unreadable": ("image_id", "test images are unreadable"),
    "undecodable": ("image_id", "streams of test images do not decode"),
    "failed": ("sample_id", "samples have no answer"),
}
"""List in an evaluation's `info.json` -> what identifies its entries, and what has become of so
many."""
_PAGE: Final = re.compile(r"[A-Za-z0-9._-]+\.png")
_IMAGE: Final = re.compile(r"images/[0-9a-f]+\.png")
"""Names of the files of examples, as `trainables.evaluation.examples` gives them."""
SPLIT: Final = "test"
"""The split of the space's own data set that is evaluated."""


@dataclass(frozen=True)
class Measured:
    """An operating point with all that was measured of it.

    At full size its samples and its curve are megabytes: they are read when they are needed.

    Attributes:
        key: of the point.
        spec: its settings, as JSON data.
        rows: its rate-accuracy points: columns of the points file without `sweep` and `run_id`.
        samples: reads a row per sample: `point_key`, `mllm`, `dataset`, `task`, `metric`,
            `sample_id`, `value`, ...
        examples: `trainables.evaluation.examples` with `dataset` and `mllm`, as in `sweep.json`;
            their files by paths below the sweep's directory.
        files: these files: path below the sweep's directory -> path on this machine.
        curve: reads the rows of the training curve.
        info: `info.json` of the training.
        manifests: of the point's stage and its evaluations, without what nobody asks for behind
            the reading; the source of `provenance`.
        lost: what its evaluations left out: `unreadable` and `undecodable` images and `failed`
            samples, by data set and id.
    """

    key: str
    point: OperatingPoint
    spec: JsonObject
    rows: list[JsonObject]
    samples: Callable[[], pa.Table]
    examples: list[JsonObject]
    files: dict[str, Path]
    curve: Callable[[], list[dict[str, float]]]
    info: JsonObject
    manifests: list[Manifest]
    lost: dict[str, set[tuple[str, str]]] = field(
        default_factory=lambda: {n: set() for n in LOSSES}
    )

    @property
    def provenance(self) -> JsonObject:
        """Code, packages, hardware and checksums of everything the point was made from."""
        trained = self.manifests[0]
        return {
            "code": trained["code"],
            "hardware": trained["hardware"],
            "created": trained["created"],
            "stages": {m["stage"]: _checksums(m) for m in self.manifests},
            "inputs": trained["inputs"],
        }

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of computing: `train` and `evaluate`."""
        return {
            "train": self.manifests[0]["seconds"],
            "evaluate": sum(m["seconds"] for m in self.manifests[1:]),
        }


def read_measured(plan: Plan, store: Store, point: OperatingPoint) -> Measured:
    """Read a complete operating point from the storage, without its weights.

    Raises:
        StoreError: a stage of it is damaged; the line says what to delete to make it again.
    """
    stage, key = point_stage(plan.stages, point), plan.key(point)
    evaluations = plan.evaluations(point)
    labels = [
        {"point_key": key, **point.fields, **_labels(plan.space, measurement)}
        for measurement, _ in evaluations
    ]

    def samples() -> pa.Table:
        labelled = zip(evaluations, labels, strict=True)
        tables = [_read_samples(store.fetch(made.path), names) for (_, made), names in labelled]
        return pa.concat_tables(tables, promote_options="permissive")

    with _reading(store, stage.path):
        trained = _lean(store.manifest(stage.path))
        measured = Measured(
            key=key,
            point=point,
            spec=point_spec(plan.space, point),
            rows=[],
            samples=samples,
            examples=[],
            files={},
            curve=partial(read_curve, store, trained),
            info=json.loads(store.stage_file(trained, "info.json")),
            manifests=[trained],
        )
    for number, (_, evaluation) in enumerate(evaluations):
        evaluation_dir = store.fetch(evaluation.path)
        with _reading(store, evaluation.path):
            manifest = _manifest_in(evaluation_dir)
            measured.manifests.append(_lean(manifest))
            # Named by its stage, an evaluation's page never changes.
            pages = f"examples/{evaluation.key}/"
            _read_evaluation(evaluation_dir, labels[number], pages, manifest["files"], measured)
    return measured


def _lean(manifest: Manifest) -> Manifest:
    """What is kept of a manifest: of thousands of points, what is equal only once."""
    files = {name: file for name, file in manifest["files"].items() if not _is_example(name)}
    kept = {name: manifest[name] for name in _KEPT if name in manifest}
    shared = {name: _one_of_equal(manifest[name]) for name in ("code", "hardware")}
    return {**kept, **shared, "files": files}


def _one_of_equal(value: JsonObject) -> JsonObject:
    """The same object for all equal ones."""
    return _EQUAL.setdefault(json.dumps(value, sort_keys=True), value)


def _is_example(name: str) -> bool:
    """Whether a file of an evaluation is a picture, from which nothing is made."""
    return name.startswith("examples/")


@contextlib.contextmanager
def _reading(store: Store, stage: str) -> Iterator[None]:
    """Tell what to delete where a stage has its checksums, and yet another content."""
    try:
        yield
    except _SHAPES as error:
        log.warning("%s cannot be read", stage, exc_info=True)
        place, kind = f"{store.uri}/{stage}", type(error).__name__
        raise StoreError(f"{place} cannot be read ({kind}); delete it to make it again") from error


def read_curve(store: Store, manifest: Manifest) -> list[dict[str, float]]:
    """The rows of a training curve: `step`, `steps` and metrics; none where nothing was trained.

    Args:
        manifest: of the trained stage.
    """
    if CURVE_FILE not in manifest["files"]:
        return []
    with _reading(store, manifest["stage"]):
        text = store.stage_file(manifest, CURVE_FILE).decode()
        return [_CURVE_ROW.validate_json(line) for line in text.splitlines()]


def _manifest_in(directory: Path) -> Manifest:
    """The manifest of a stage that was fetched."""
    manifest: Manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def point_spec(space: Space, point: OperatingPoint) -> JsonObject:
    """The settings of an operating point, as JSON data."""
    space = space.of(point.variant)
    spec: JsonObject = {**point.fields, "dataset": space.data.label}
    spec |= space.model_dump(mode="json", include=_SPEC)
    if point.codec is not None:
        spec["base_codec"] = point.codec.model_dump(mode="json", exclude={"lambdas"})
    return spec | scenario_of(point.scenario).record(space, point)


def _labels(space: Space, measurement: Measurement) -> dict[str, str]:
    """What identifies an evaluation among those of its point: `mllm`, `dataset`, `split`."""
    benchmark = measurement.benchmark
    return {
        "mllm": measurement.label,
        "dataset": space.data.label if benchmark is None else benchmark.label,
        "split": SPLIT if benchmark is None else benchmark.shown_split,
    }


def _read_evaluation(
    directory: Path, labels: JsonObject, pages: str, stored: Collection[str], measured: Measured
) -> None:
    """Add the rows, losses, examples and files of a task's evaluation.

    Args:
        labels: columns that identify it, `mllm` and `dataset` among them.
        pages: prefix of the paths of drawn pages below the sweep's directory.
        stored: the files of the evaluation, by their paths below it.
        measured: the point, to which they are added.
    """
    # Thousands of small files: pandas would take five times as long.
    samples = pq.ParquetFile(directory / SAMPLES).read(["task", "metric", "value", "image_id"])
    tasks = samples["task"].to_numpy()
    summary: dict[str, JsonObject] = json.loads(
        (directory / "summary.json").read_text(encoding="utf-8")
    )
    for task, measures in summary.items():
        shared = labels | {
            "task": task,
            "n_samples": int(measures["n_samples"]),
            "bpp": measures["bpp"],
            "bpp_estimated": measures["bpp_estimated"],
            "psnr": measures["psnr"],
            "distill_pooled": measures["pooled"],
            "distill_tokens": measures["tokens"],
        }
        intervals = _intervals(task, samples.filter(tasks == task), measures)
        for metric, (value, low, high) in intervals.items():
            bounds = {"value": value, "value_low": low, "value_high": high}
            measured.rows.append({**shared, "metric": metric, **bounds})
    names = {"dataset": labels["dataset"], "mllm": labels["mllm"]}
    info: JsonObject = json.loads((directory / "info.json").read_text(encoding="utf-8"))
    for loss, (identity, _) in LOSSES.items():
        measured.lost[loss] |= {(labels["dataset"], entry[identity]) for entry in info[loss]}
    for example, files in _examples(directory / "examples", pages, stored):
        _add_example(measured, {**names, **example}, files)


def _read_samples(directory: Path, labels: JsonObject) -> pa.Table:
    """The samples of an evaluation, with what identifies it."""
    table = pq.ParquetFile(directory / SAMPLES).read()
    # The stage of an evaluation does not depend on the names that a space gives.
    names = {name: labels[name] for name in ("point_key", "mllm", "dataset")}
    columns = {name: pa.repeat(label, len(table)) for name, label in names.items()}
    rest = {name: table[name] for name in table.column_names if name not in columns}
    return pa.table(columns | rest)


def _add_example(measured: Measured, example: JsonObject, files: Mapping[str, Path]) -> None:
    """Add a task's example. Of tasks that show the same images there is one, with one page."""
    identity = _shown(example)
    for shown in measured.examples:
        if _shown(shown) == identity:
            shown["samples"] += example["samples"]
            shown["boxes"] |= example["boxes"]
            return
    measured.examples.append(example)
    measured.files.update(files)


def _shown(example: JsonObject) -> tuple[str, str, tuple[str, ...]]:
    """Data set, answerer and images of an example."""
    image_ids = tuple(image["id"] for image in example["images"])
    return example["dataset"], example["mllm"], image_ids


def _intervals(
    task: str, samples: pa.Table, measures: JsonObject
) -> dict[str, tuple[float, float, float]]:
    """Value and bounds of a 95 % interval of each metric of a task.

    Args:
        samples: of the task; a metric's mean over them is bootstrapped, image by image.
        measures: the task's entry in `summary.json`, with the intervals of all other metrics.
    """
    from analysis.io.schema import FRACTION
    from analysis.sampling.intervals import bootstrap_mean
    from trainables.tasks import TASKS  # imports torch

    units = {metric.name: metric.unit for metric in TASKS.get(task).metrics}
    intervals = {}
    metrics, values, images = (samples[n].to_numpy() for n in ("metric", "value", "image_id"))
    for metric in dict.fromkeys(metrics):
        of_metric, is_fraction = metrics == metric, units[metric] == FRACTION
        low, high = bootstrap_mean(
            values[of_metric], images=images[of_metric], is_fraction=is_fraction
        )
        intervals[metric] = measures["metrics"][metric], low, high
    for metric, interval in measures["set_metrics"].items():
        intervals[metric] = interval["value"], interval["low"], interval["high"]
    return intervals


def _examples(
    directory: Path, pages: str, stored: Collection[str]
) -> Iterator[tuple[JsonObject, dict[str, Path]]]:
    """An evaluation's examples as in `sweep.json`, each with its files: path -> file.

    Args:
        directory: of the evaluation's examples.
        pages: prefix of the paths of drawn pages below the sweep's directory.
        stored: the files of the evaluation, by their paths below it.

    Raises:
        ValueError: it names another file.
    """

    def checked(shape: re.Pattern[str], name: str) -> str:
        if not shape.fullmatch(name) or f"examples/{name}" not in stored:
            raise ValueError(f"{name!r} is no file of the examples")
        return name

    for example in json.loads((directory / "examples.json").read_text(encoding="utf-8")):
        page = checked(_PAGE, example["page"])
        files = {pages + page: directory / page}
        images = []
        for image in example["images"]:
            # Named by their content, so what several points share is one file of the sweep.
            names = {
                kind: checked(_IMAGE, image[kind]) for kind in ("input", "decoded") if image[kind]
            }
            files |= {f"examples/{name}": directory / name for name in names.values()}
            images.append(image | {kind: f"examples/{name}" for kind, name in names.items()})
        yield example | {"page": pages + page, "images": images}, files


def _checksums(manifest: Mapping[str, JsonObject]) -> dict[str, str]:
    """Checksums of a stage's files, except of pictures."""
    return {name: file["sha256"] for name, file in manifest["files"].items()}
