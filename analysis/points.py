"""The points file: its schema, writing it, and reading a sweep from wherever it lies."""

from __future__ import annotations

import io
import json
import posixpath
import re
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from search_spaces.spec import JOINED

SCHEMA_VERSION: Final = 1
"""Version of the points file, in the Parquet metadata under `bridgesweep.schema`."""
VERSION_KEY: Final = b"bridgesweep.schema"
POINTS, POINTS_CSV, SAMPLES, MANIFEST = (
    "points.parquet",
    "points.csv",
    "samples.parquet",
    "sweep.json",
)


class AnalysisError(Exception):
    """Input that cannot be analysed; the message is one line for the person who gave it."""


def _column(name: str, kind: pa.DataType, unit: str, what: str, null: bool = False) -> pa.Field:
    return pa.field(name, kind, null, metadata={"unit": unit, "description": what})


COLUMNS: Final[pa.Schema] = pa.schema(
    [
        _column("sweep", pa.string(), "", "name of the sweep"),
        _column("point_key", pa.string(), "", "stable key of the operating point"),
        _column("codec", pa.string(), "", "codec; null for uncompressed", True),
        _column("lmbda", pa.float64(), "CompressAI: bpp + lambda 255^2 MSE", "lambda", True),
        _column("scenario", pa.string(), "", "d1, d2, d3 or a baseline"),
        _column("seed", pa.int64(), "", "seed of the training"),
        _column("mllm", pa.string(), "", "the multimodal LLM"),
        _column("task", pa.string(), "", "captioning, vqa, rec, fewshot, ..."),
        _column("dataset", pa.string(), "", "data set of the test samples"),
        _column("split", pa.string(), "", "split of the test samples"),
        _column("metric", pa.string(), "", "name of the metric"),
        _column("value", pa.float64(), "the metric's own; accuracies are fractions", "mean"),
        _column("value_low", pa.float64(), "as value", "95 % interval, low", True),
        _column("value_high", pa.float64(), "as value", "95 % interval, high", True),
        _column("n_samples", pa.int64(), "samples", "test samples behind the value"),
        _column("bpp", pa.float64(), "bit/pixel", "real bits written per pixel given to the codec"),
        _column("bpp_estimated", pa.float64(), "bit/pixel", "the entropy model's estimate", True),
        _column("psnr", pa.float64(), "dB", "of the decoded image; null where there is none", True),
        _column("run_id", pa.string(), "", "MLflow run of the operating point", True),
    ],
    metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()},
)
"""Columns of the points file, one row per rate-accuracy point; units in the fields' metadata."""
VARIANT: Final[pa.Field] = _column(
    "variant", pa.string(), "", "variant of the space, or several joined by +; null for all", True
)
"""One more column where the space has variants; in a `Sweep` always there, empty for null."""
_DISTILL = "mean squared error of the encoder's {} against the teacher's, on the test images"
OPTIONAL: Final[dict[str, pa.Field]] = {
    VARIANT.name: VARIANT,
    "quality": _column("quality", pa.int64(), "the format's own", "of a classical codec", True),
    "distill_pooled": _column(
        "distill_pooled", pa.float64(), "", _DISTILL.format("pooled feature"), True
    ),
    "distill_tokens": _column("distill_tokens", pa.float64(), "", _DISTILL.format("tokens"), True),
}
"""Columns that only some sweeps have."""

_KEY: Final = ["point_key", "mllm", "task", "dataset", "split", "metric"]


@dataclass(frozen=True)
class Sweep:
    """What a sweep left behind.

    Attributes:
        points: the points file, columns as in `COLUMNS` and `variant`.
        samples: per test sample `point_key, mllm, task, metric, sample_id, value, bpp, ...`, or
            None where only points are known (then comparisons have no intervals).
        manifest: `sweep.json`, or {} where there is none.
        directory: where the files lie (a path or fsspec URI), for the example images; None when
            read from MLflow.
    """

    points: pd.DataFrame
    samples: pd.DataFrame | None
    manifest: dict[str, Any] = field(default_factory=dict)
    directory: str | None = None

    def __post_init__(self) -> None:
        """Points of a space without variants have no such column; a task that is measured on
        several data sets becomes one task for each, named after both."""
        variant = self.points[VARIANT.name].fillna("") if VARIANT.name in self.points else ""
        object.__setattr__(self, "points", self.points.assign(**{VARIANT.name: variant}))
        sets = self.points.groupby("task", sort=False)["dataset"].nunique()
        several = set(sets.index[sets > 1])
        if several:
            self._split_tasks(several)

    def _split_tasks(self, several: set[str]) -> None:
        said = self.manifest.get("tasks", {})
        pairs = self.points[["task", "dataset"]].drop_duplicates().itertuples(index=False)
        tasks = {
            f"{task} {dataset}" if task in several else task: said[task]
            for task, dataset in pairs
            if task in said
        }
        object.__setattr__(self, "manifest", {**self.manifest, "tasks": tasks})
        for name in ("points", "samples"):
            frame = getattr(self, name)
            if frame is not None:
                named = frame["task"].where(
                    ~frame["task"].isin(several), frame["task"] + " " + frame["dataset"]
                )
                object.__setattr__(self, name, frame.assign(task=named))

    @property
    def name(self) -> str:
        """The sweep's name."""
        return str(self.manifest.get("sweep") or self.points["sweep"].iloc[0])

    @property
    def variants(self) -> dict[str, dict[str, Any]]:
        """The space's variants in its order: name -> what each sets, as far as that is known."""
        said: dict[str, Any] = self.manifest.get("space", {}).get("variants") or {}
        seen = [name for name in self.points["variant"].unique() if name]
        found = dict.fromkeys(name for joined in seen for name in joined.split(JOINED))
        return said or {name: {} for name in found}


def metric_to_mlflow(name: str) -> str:
    """The name under which MLflow keeps a metric: `accuracy@0.5` -> `accuracy_at_0.5`.

    MLflow allows alphanumerics, `_ - . : /` and spaces in metric names, but no `@`.

    Raises:
        ValueError: the name holds `_at_` itself, so that it could not be read back.
    """
    if "_at_" in name:
        raise ValueError(f"metric {name!r}: '_at_' stands for '@' in MLflow; use another name")
    return name.replace("@", "_at_")


def metric_from_mlflow(name: str) -> str:
    """The inverse of `metric_to_mlflow`."""
    return name.replace("_at_", "@")


def write_points(frame: pd.DataFrame, directory: str) -> None:
    """Write `points.parquet` and `points.csv`; neither is ever seen half-written.

    Args:
        frame: one row per rate-accuracy point with at least the columns of `COLUMNS`; further
            columns are kept, after these.
        directory: where to, a local directory or an fsspec URI; made if it is not there.

    Raises:
        AnalysisError: missing columns, wrong types, missing values where none may be, values
            out of range, or two rows for one point; all mistakes in one message.
    """
    table = to_table(frame)
    parquet = io.BytesIO()
    pq.write_table(table, parquet)
    write_bytes(join(directory, POINTS), parquet.getvalue())
    write_bytes(join(directory, POINTS_CSV), table.to_pandas().to_csv(index=False).encode())


def to_table(frame: pd.DataFrame) -> pa.Table:
    """The frame as a table with the points file's schema; raises like `write_points`."""
    missing = [name for name in COLUMNS.names if name not in frame.columns]
    if missing:
        raise AnalysisError(f"not points: missing columns {', '.join(missing)}")
    problems: list[str] = []
    arrays: list[pa.Array] = []
    for column in COLUMNS:
        try:
            array = pa.Array.from_pandas(frame[column.name], type=column.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            problems.append(f"{column.name} is not {column.type} ({str(error).splitlines()[0]})")
            continue
        if array.null_count and not column.nullable:
            problems.append(f"{column.name} is empty in {array.null_count} rows")
        arrays.append(array)
    if not problems:
        rate = frame["bpp"].to_numpy(dtype=np.float64)
        if not (np.isfinite(rate) & (rate > 0)).all():
            problems.append("bpp must be above 0 and finite")
        if not np.isfinite(frame["value"].to_numpy(dtype=np.float64)).all():
            problems.append("value must be finite")
        twice = frame[frame.duplicated(_KEY)]
        if len(twice):
            example = " ".join(str(x) for x in twice[_KEY].iloc[0])
            problems.append(f"{len(twice)} rows stand twice, the first is {example}")
    if problems:
        raise AnalysisError("points: " + "; ".join(problems))
    extra = [name for name in frame.columns if name not in COLUMNS.names]
    fields = [*COLUMNS]
    for name in extra:
        known = OPTIONAL.get(name)
        arrays.append(pa.Array.from_pandas(frame[name], type=known and known.type))
        fields.append(known or pa.field(name, arrays[-1].type))
    return pa.table(arrays, schema=pa.schema(fields, metadata=COLUMNS.metadata))


def read_sweep(path_or_uri: str) -> Sweep:
    """Read a sweep from its directory, a points file, or MLflow.

    Args:
        path_or_uri: a sweep's directory; a storage directory that holds exactly one sweep; a
            `points.parquet` or `.csv` (all of these also as fsspec URIs); or MLflow as
            `mlflow:<tracking-uri>#<experiment>[/<sweep>]` or just a tracking URI
            (`sqlite:///...`, `http(s)://...`; experiment `bridgesweep`).

    Raises:
        AnalysisError: nothing there, not points, a newer schema, an empty experiment, several
            sweeps to choose from, or a server that does not answer.
    """
    if is_mlflow(path_or_uri):
        from analysis.mlflow_source import read_mlflow  # MLflow takes seconds to import

        return read_mlflow(path_or_uri)
    try:
        fs, path = fsspec.core.url_to_fs(path_or_uri)
    except (ValueError, ImportError) as error:  # unknown protocol, or its package is not installed
        raise AnalysisError(f"{path_or_uri}: {error}") from None
    if not fs.exists(path):
        raise AnalysisError(f"{path_or_uri}: no such file or directory")
    if not fs.isdir(path):
        return Sweep(_read_points(path_or_uri), None, {}, posixpath.dirname(path_or_uri) or ".")
    directory = path_or_uri
    if not _has_points(directory):
        inside = sorted(posixpath.basename(str(p).rstrip("/")) for p in fs.ls(path, detail=False))
        found = [name for name in inside if _has_points(join(directory, name))]
        if not found:
            raise AnalysisError(f"{path_or_uri}: no {POINTS} here, nor in a directory inside")
        if len(found) > 1:
            raise AnalysisError(
                f"{path_or_uri}: holds several sweeps; name one: {', '.join(found)}"
            )
        directory = join(directory, found[0])
    name = POINTS if _exists(join(directory, POINTS)) else POINTS_CSV
    samples = join(directory, SAMPLES)
    manifest = join(directory, MANIFEST)
    return Sweep(
        _read_points(join(directory, name)),
        read_samples(read_bytes(samples), samples) if _exists(samples) else None,
        read_manifest(read_bytes(manifest), manifest) if _exists(manifest) else {},
        directory,
    )


def without_secrets(text: str) -> str:
    """The text with user and password taken out of the URIs in it."""
    return re.sub(r"(://)[^/@\s]+@", r"\1***@", text)


def is_mlflow(path_or_uri: str) -> bool:
    """Whether `read_sweep` takes this for MLflow rather than for files."""
    if path_or_uri.startswith(("mlflow:", "sqlite:", "postgresql:", "mysql:", "databricks")):
        return True
    if path_or_uri.startswith(("http://", "https://")):
        return not path_or_uri.endswith((".parquet", ".csv"))
    return False


def check_points(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """The frame with the schema's types.

    Raises:
        AnalysisError: with `source` in front: no rows, or what `to_table` finds.
    """
    if frame.empty:
        raise AnalysisError(f"{source}: holds no points")
    try:
        typed: pd.DataFrame = to_table(frame).to_pandas()
    except AnalysisError as error:
        raise AnalysisError(f"{source}: {error}") from None
    return typed


def _read_points(path: str) -> pd.DataFrame:
    data = read_bytes(path)
    if path.endswith(".csv"):
        try:
            return check_points(_from_csv(data), path)
        except (ValueError, pd.errors.ParserError) as error:
            raise AnalysisError(f"{path}: not a CSV of points ({error})") from None
    try:
        table = pq.read_table(io.BytesIO(data))
    except pa.ArrowInvalid:
        raise AnalysisError(f"{path}: not a Parquet file, nor named .csv") from None
    version = int((table.schema.metadata or {}).get(VERSION_KEY, b"1"))
    if version > SCHEMA_VERSION:
        raise AnalysisError(
            f"{path}: points schema {version} is newer than the {SCHEMA_VERSION} known here; "
            "update bridgesweep"
        )
    return check_points(table.to_pandas(), path)


def _from_csv(data: bytes) -> pd.DataFrame:
    strings: dict[str, Any] = {f.name: "str" for f in (*COLUMNS, VARIANT) if f.type == pa.string()}
    return pd.read_csv(io.BytesIO(data), dtype=strings, float_precision="round_trip")


def read_samples(data: bytes, source: str) -> pd.DataFrame:
    """Per-sample values from the bytes of a `samples.parquet`.

    Raises:
        AnalysisError: not Parquet, or columns are missing.
    """
    needed = ["point_key", "mllm", "task", "metric", "sample_id", "value", "bpp"]
    try:
        table = pq.read_table(io.BytesIO(data))
    except pa.ArrowInvalid:
        raise AnalysisError(f"{source}: not a Parquet file") from None
    missing = [name for name in needed if name not in table.schema.names]
    if missing:
        raise AnalysisError(f"{source}: not samples: missing columns {', '.join(missing)}")
    samples: pd.DataFrame = table.to_pandas()
    return samples


def read_manifest(data: bytes, source: str) -> dict[str, Any]:
    """The manifest from the bytes of a `sweep.json`.

    Raises:
        AnalysisError: not a JSON object, or a newer schema.
    """
    try:
        manifest = json.loads(data)
    except ValueError:
        raise AnalysisError(f"{source}: not JSON") from None
    if not isinstance(manifest, dict):
        raise AnalysisError(f"{source}: not a manifest of a sweep")
    if int(manifest.get("schema", 1)) > SCHEMA_VERSION:
        raise AnalysisError(
            f"{source}: schema {manifest['schema']} is newer than the {SCHEMA_VERSION} known here; "
            "update bridgesweep"
        )
    return manifest


def join(directory: str, *names: str) -> str:
    """A path below a local directory or an fsspec URI."""
    return "/".join([directory.rstrip("/") or "/", *names])


def read_bytes(path: str) -> bytes:
    """All bytes of a local file or fsspec URI."""
    fs, inner = fsspec.core.url_to_fs(path)
    return bytes(fs.cat_file(inner))


def write_bytes(path: str, data: bytes) -> None:
    """Write a local file or fsspec URI whole: through a temporary name where files are local."""
    fs, inner = fsspec.core.url_to_fs(path)
    fs.makedirs(posixpath.dirname(inner), exist_ok=True)
    if "file" not in fs.protocol:  # object stores show a file only when it is complete
        fs.pipe_file(inner, data)
        return
    temporary = f"{inner}.{uuid.uuid4().hex}.tmp"
    fs.pipe_file(temporary, data)
    fs.mv(temporary, inner)


def _exists(path: str) -> bool:
    fs, inner = fsspec.core.url_to_fs(path)
    return bool(fs.exists(inner))


def _has_points(directory: str) -> bool:
    return any(_exists(join(directory, name)) for name in (POINTS, POINTS_CSV))
