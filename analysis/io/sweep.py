"""A sweep in memory: a frame of points, a frame of test samples, the manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.types import is_numeric_dtype
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from analysis.io.scenarios import Scenarios, read_looks
from analysis.io.schema import (
    FRACTION,
    FRACTIONS,
    UNKNOWN,
    VARIANT,
    AnalysisError,
    check_version,
    parquet_table,
)
from search_spaces.specs.points import JOINED

SAMPLES, MANIFEST = "samples.parquet", "sweep.json"
EXAMPLE: Final = str(Path(__file__).parents[1] / "example")
"""A real sweep that ships with the package, for notebooks and first steps; see its README."""
SAMPLE_COLUMNS: Final = ("point_key", "mllm", "task", "metric", "sample_id", "value", "bpp")
TEXTS: Final = (
    *("point_key", "mllm", "task", "metric", "sample_id", "image_id"),
    *("dataset", "prompt", "answer", "reference"),
)
"""Columns of the samples that hold text; a file need not have all."""
IMAGE: Final = "image_id"
"""Column of the samples: the image that a sample asks about, of several the last. Samples of one
image are no independent draws. In files without the column, and where it is empty, a sample of the
demo's scenes has the image that its id begins with; any other sample has an image of its own."""
CATEGORIES: Final = ("point_key", "sample_id", IMAGE)
"""Columns of the samples that are read as categories: points times samples are many rows."""
_SCENE: Final = r"^((?:train|val|test)-\d{6})-"
"""The image's id in a sample's, in the demo's scenes."""


_Box = Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]


class _ImageShape(BaseModel):
    id: str
    input: str
    decoded: str | None
    bpp: FiniteFloat
    psnr: FiniteFloat | None


class _BoxesShape(BaseModel):
    wanted: _Box | None
    answered: _Box | None


class _ExampleShape(BaseModel):
    """An entry of a point's `examples`; what it means is said in qualitative/examples.py."""

    dataset: str
    mllm: str
    images: Annotated[list[_ImageShape], Field(min_length=1)]
    samples: list[str]
    boxes: dict[str, _BoxesShape]


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep.

    Attributes:
        points: the points file, columns as in `schema.COLUMNS` and `variant`.
        samples: per test sample `point_key, mllm, task, metric, sample_id, value, bpp, ...` and
            `image_id` (see `IMAGE`), or None where only points are known (then comparisons have no
            intervals).
        manifest: `sweep.json`, or {} where there is none.
        directory: where the files lie (a path or fsspec URI), for the example images; None when
            read from MLflow, which keeps no such files, or from several places.
        compared_with: scenario that somebody chose to compare curves with; empty: `anchor` is the
            sweep's own.
    """

    points: pd.DataFrame
    samples: pd.DataFrame | None
    manifest: dict[str, Any] = field(default_factory=dict)
    directory: str | None = None
    compared_with: str = ""

    def __post_init__(self) -> None:
        """Points of a space without variants have no such column, samples of earlier versions no
        image; a task that is measured on several data sets becomes one task for each, named after
        both.

        Raises:
            AnalysisError: a task is measured on several splits of a data set.
        """
        self._check_splits()
        variant = self.points[VARIANT.name].fillna("") if VARIANT.name in self.points else ""
        object.__setattr__(self, "points", self.points.assign(**{VARIANT.name: variant}))
        sets = self.points.groupby("task", sort=False)["dataset"].nunique()
        several = set(sets.index[sets > 1])
        if several:
            self._split_tasks(several)
        if self.samples is not None:
            object.__setattr__(self, "samples", _with_images(self.samples))

    def _check_splits(self) -> None:
        """Samples do not say their split, and a mean over splits is no mean over trainings."""
        for (task, dataset), rows in self.points.groupby(["task", "dataset"], sort=False):
            splits = sorted({*rows["split"].dropna().astype("str")} - {UNKNOWN})
            if len(splits) > 1:
                raise AnalysisError(
                    f"{task} is measured on several splits of {dataset} ({', '.join(splits)}), "
                    "which no curve may mix; keep the points and samples of one split"
                )

    def _split_tasks(self, several: set[str]) -> None:
        described = self.manifest.get("tasks", {})
        pairs = self.points[["task", "dataset"]].drop_duplicates().itertuples(index=False)
        tasks = {
            f"{task} {dataset}" if task in several else task: described[task]
            for task, dataset in pairs
            if task in described
        }
        object.__setattr__(self, "manifest", {**self.manifest, "tasks": tasks})
        for name in ("points", "samples"):
            frame = getattr(self, name)
            if frame is not None:
                object.__setattr__(self, name, frame.assign(task=_with_set(frame, several)))

    @property
    def name(self) -> str:
        """The sweep's name."""
        return str(self.manifest.get("sweep") or self.points["sweep"].iloc[0])

    @cached_property
    def scenarios(self) -> Scenarios:
        """The looks of the sweep's scenarios."""
        return Scenarios.described_by(self.manifest)

    @property
    def anchor(self) -> str:
        """The scenario that curves are compared with unless one is named."""
        if self.compared_with:
            return self.compared_with
        expected = [str(point["scenario"]) for point in self.manifest.get("expected", [])]
        return self.scenarios.anchor([*self.points["scenario"].unique(), *expected])

    @property
    def bound(self) -> str:
        """The scenario that is a level across each figure; empty where there is none."""
        return self.scenarios.bound(self.points["scenario"].unique())

    @property
    def bound_points(self) -> pd.DataFrame:
        """The points of the bound."""
        return self.points[self.points["scenario"].map(self.scenarios.is_bound).astype(bool)]

    @property
    def curve_points(self) -> pd.DataFrame:
        """All other points."""
        return self.points[~self.points["scenario"].map(self.scenarios.is_bound).astype(bool)]

    def range_of_fraction(self, task: str, metric: str) -> tuple[float, float] | None:
        """The lowest and highest value that a fraction can have; None of other metrics."""
        described = self._described(task, metric)
        if str(described.get("unit", FRACTION if metric in FRACTIONS else "")) != FRACTION:
            return None
        return float(described.get("low", 0.0)), float(described.get("high", 1.0))

    def range_of(self, task: str, metric: str) -> tuple[float, float]:
        """The lowest and highest value that a metric can have; infinite where it does not say."""
        if fraction := self.range_of_fraction(task, metric):
            return fraction
        ends = map(self._described(task, metric).get, ("low", "high"))
        low, high = (np.nan if end is None else float(end) for end in ends)
        return (-np.inf if np.isnan(low) else low), (np.inf if np.isnan(high) else high)

    def _described(self, task: str, metric: str) -> dict[str, Any]:
        """What the manifest says of a metric."""
        metrics = self.manifest.get("tasks", {}).get(task, {}).get("metrics", {})
        return dict(metrics.get(metric, {}))

    @property
    def variants(self) -> dict[str, dict[str, Any]]:
        """The space's variants in its order: name -> what each sets, as far as that is known."""
        described: dict[str, Any] = self.manifest.get("space", {}).get("variants") or {}
        joined_names = [name for name in self.points["variant"].unique() if name]
        names = dict.fromkeys(name for joined in joined_names for name in joined.split(JOINED))
        return described or {name: {} for name in names}


def _with_images(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples with an image each (see `IMAGE`), from whichever row of a sample names it."""
    codes, ids = pd.factorize(samples["sample_id"])
    names = pd.Series(np.asarray(ids).astype(str))
    own = names.str.extract(_SCENE)[0].fillna(names)
    derived = pd.Categorical(own).take(codes)
    if IMAGE not in samples:
        return samples.assign(**{IMAGE: derived})
    given = samples[IMAGE]
    if given.isna().any():
        keys = [samples["task"].astype("str"), codes]
        given = given.astype("object").groupby(keys, sort=False).transform("first")
        given = given.fillna(pd.Series(derived, samples.index).astype("object"))
    return samples.assign(**{IMAGE: given.astype("category")})


def _with_set(frame: pd.DataFrame, several: set[str]) -> pd.Series[str]:
    """The tasks, with their data set's name where they have several."""
    task, dataset = frame["task"].astype("str"), frame["dataset"].astype("str")
    return task.where(~task.isin(several), task + " " + dataset)


def read_samples(data: bytes, source: str) -> pd.DataFrame:
    """Per-sample values from the bytes of a `samples.parquet`.

    Raises:
        AnalysisError: not Parquet or damaged, or columns are missing or of another type.
    """
    table = parquet_table(data, source, CATEGORIES)
    missing = [name for name in SAMPLE_COLUMNS if name not in table.schema.names]
    if missing:
        raise AnalysisError(f"{source}: not samples: missing columns {', '.join(missing)}")
    no_text = [
        name
        for name in TEXTS
        if name in table.schema.names and not _is_text(table.field(name).type)
    ]
    if no_text:
        raise AnalysisError(f"{source}: not samples: no text in {', '.join(no_text)}")
    samples: pd.DataFrame = table.to_pandas()
    text_columns = [name for name in ("value", "bpp") if not is_numeric_dtype(samples[name])]
    if text_columns:
        raise AnalysisError(f"{source}: not samples: no numbers in {', '.join(text_columns)}")
    return samples


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    )


def read_manifest(data: bytes, source: str) -> dict[str, Any]:
    """The manifest from the bytes of a `sweep.json`.

    Raises:
        AnalysisError: not a JSON object, a newer schema, or parts that are not what they must be.
    """
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError):
        raise AnalysisError(f"{source}: not JSON") from None
    if not isinstance(manifest, dict):
        raise AnalysisError(f"{source}: not a manifest of a sweep")
    check_version(manifest.get("schema", 1), source, "manifest")
    problems = [
        f"{name} must be {kind}" for name, kind, right in _PARTS if not right(manifest.get(name))
    ]
    if problems:
        raise AnalysisError(f"{source}: not a manifest of a sweep: {'; '.join(problems)}")
    read_looks(manifest.get("scenarios") or {}, source)
    for key, record in (manifest.get("points") or {}).items():
        _check_examples(record.get("examples"), f"{source}: points.{key}.examples")
    return manifest


def _check_examples(examples: Any, place: str) -> None:
    if not isinstance(examples, list | None):
        raise AnalysisError(f"{place}: not a list")
    for number, entry in enumerate(examples or []):
        if not isinstance(entry, dict):  # of a sweep that was made before they had a form
            continue
        try:
            _ExampleShape.model_validate(entry)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, (number, *first["loc"])))
            raise AnalysisError(f"{place}.{where}: {first['msg']}") from None


def _objects(value: Any) -> bool:
    return not value or (
        isinstance(value, dict) and all(isinstance(v, dict) for v in value.values())
    )


def _named_points(value: Any) -> bool:
    needed = {"point_key", "codec", "lmbda", "scenario", "seed"}
    return not value or (
        isinstance(value, list) and all(isinstance(v, dict) and needed <= set(v) for v in value)
    )


_LIST: Final = "a list of points, each with point_key, codec, lmbda, scenario and seed"
_PARTS: Final = (
    ("expected", _LIST, _named_points),
    ("missing", _LIST, _named_points),
    ("points", "an object of objects", _objects),
    ("tasks", "an object of objects", _objects),
    ("scenarios", "an object of objects", _objects),
    ("space", "an object", lambda value: not value or isinstance(value, dict)),
)
"""Optional parts of the manifest, and their required form."""
