"""The points file's schema: columns, types, units, version, and what is checked of a frame.

    python -m analysis.io.schema        prints it as a table

Parquet holds version and units in its metadata. For a CSV the last column, `schema`, repeats the
version, and `points.csv-metadata.json` beside it lists types and units in the W3C's format for
tabular data (CSV on the Web).
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from textwrap import shorten
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION: Final = 1
"""Version of the points file and of the manifest, `sweep.json`."""
VERSION_KEY: Final = b"bridgesweep.schema"
"""Where Parquet's metadata has it."""
VERSION_COLUMN: Final = "schema"
"""Where the CSV has it."""
FRACTION: Final = "fraction"
"""The unit of metrics that are fractions in [0, 1]."""
FRACTIONS: Final = ("exact_match", "accuracy", "accuracy@0.5")
"""Metrics that are fractions in [0, 1]; the first that a task has is its primary one."""


class AnalysisError(Exception):
    """Input that cannot be analysed; the message is one line for the person who gave it."""


def _column(
    name: str, kind: pa.DataType, unit: str, description: str, null: bool = False
) -> pa.Field:
    return pa.field(name, kind, null, metadata={"unit": unit, "description": description})


COLUMNS: Final[pa.Schema] = pa.schema(
    [
        _column("sweep", pa.string(), "", "name of the sweep"),
        _column("point_key", pa.string(), "", "stable key of the operating point"),
        _column("codec", pa.string(), "", "codec; null where nothing is coded", True),
        _column("lmbda", pa.float64(), "CompressAI: bpp + lambda 255^2 MSE", "lambda", True),
        _column("scenario", pa.string(), "", "the way from the image to the MLLM"),
        _column("seed", pa.int64(), "", "seed of the training"),
        _column("mllm", pa.string(), "", "the multimodal LLM"),
        _column("task", pa.string(), "", "captioning, vqa, rec, fewshot, ..."),
        _column("dataset", pa.string(), "", "data set of the test samples"),
        _column("split", pa.string(), "", "split of the test samples"),
        _column("metric", pa.string(), "", "name of the metric"),
        _column("value", pa.float64(), "the metric's own; accuracies are fractions", "mean"),
        _column("value_low", pa.float64(), "as value", "95 % interval, low", True),
        _column("value_high", pa.float64(), "as value", "95 % interval, high", True),
        _column("n_samples", pa.int64(), "samples", "test samples behind the value; 0: unknown"),
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
    "quality": _column("quality", pa.int64(), "the format's own", "of a standard's codec", True),
    "distill_pooled": _column(
        "distill_pooled", pa.float64(), "", _DISTILL.format("pooled feature"), True
    ),
    "distill_tokens": _column("distill_tokens", pa.float64(), "", _DISTILL.format("tokens"), True),
}
"""Columns that only some sweeps have."""

PARQUET: Final = b"PAR1"
"""What a Parquet file begins with."""
KEY: Final = ("point_key", "mllm", "task", "dataset", "split", "metric")
"""Columns that identify a rate-accuracy point of a sweep."""
KIND: Final = ("mllm", "task", "dataset", "metric")
"""Columns that identify what an operating point is measured on, and with whom."""
UNKNOWN: Final = "unknown"
"""In place of what other people's tables do not say."""
RESULTS: Final = "results"
"""Column of a table of rates (see `rates_table`), which no points file has."""
MEASURE: Final = ["mllm", "task", "metric"]
"""The same of a sweep that was read, of which each task has one data set: curves of one figure."""


def to_table(frame: pd.DataFrame) -> pa.Table:
    """The frame as a table with the points file's schema; further columns after the fixed ones.

    Raises:
        AnalysisError: missing columns, wrong types, missing values where none may be, values
            out of range, or two rows for one point; all mistakes in one message.
    """
    missing = [name for name in COLUMNS.names if name not in frame.columns]
    if missing:
        columns = shorten(", ".join(map(str, frame.columns)), 200, placeholder=" ...")
        raise AnalysisError(
            f"not points: missing columns {', '.join(missing)}; there are {columns} "
            "(see `python -m analysis.io.schema`); other tables need `bpp` and a metric"
        )
    problems: list[str] = []
    arrays: list[pa.Array] = []
    for column in COLUMNS:
        try:
            array = pa.Array.from_pandas(frame[column.name], type=column.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            problems.append(f"{column.name} is not {column.type} ({str(error).splitlines()[0]})")
            continue
        if array.null_count and not column.nullable:
            problems.append(f"{column.name} is empty in {array.null_count} rows")
        arrays.append(array)
    extra = [name for name in frame.columns if name not in COLUMNS.names]
    fields = [*COLUMNS]
    for name in extra:
        known = OPTIONAL.get(name)
        try:
            arrays.append(pa.Array.from_pandas(frame[name], type=known and known.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            kind = known.type if known else "of one type"
            problems.append(f"{name} is not {kind} ({str(error).splitlines()[0]})")
            continue
        fields.append(known or pa.field(str(name), arrays[-1].type))
    problems = problems or _out_of_range(frame)
    if problems:
        raise AnalysisError("points: " + "; ".join(problems))
    return pa.table(arrays, schema=pa.schema(fields, metadata=COLUMNS.metadata))


def _out_of_range(frame: pd.DataFrame) -> list[str]:
    problems = []
    rate = frame["bpp"].to_numpy(dtype=np.float64)
    value = frame["value"].to_numpy(dtype=np.float64)
    if not (np.isfinite(rate) & (rate > 0)).all():
        problems.append("bpp must be above 0 and finite")
    if not np.isfinite(value).all():
        problems.append("value must be finite")
    beyond = frame["metric"].isin(FRACTIONS).to_numpy() & ((value < 0) | (value > 1))
    if beyond.any():
        metric, worst = frame["metric"].to_numpy()[beyond][0], value[beyond][0]
        problems.append(f"{metric} is a fraction in 0 to 1; {worst:g} is not (is it a percentage?)")
    twice = frame[frame.duplicated(list(KEY))]
    if len(twice):
        example = " ".join(str(x) for x in twice[list(KEY)].iloc[0])
        problems.append(f"{len(twice)} rows are duplicates, the first is {example}")
    return problems


def check_points(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """The frame with the schema's types.

    Raises:
        AnalysisError: with `source` in front: no rows, or what `to_table` finds.
    """
    try:
        typed: pd.DataFrame = to_table(frame).to_pandas()
    except AnalysisError as error:
        raise AnalysisError(f"{source}: {error}") from None
    if typed.empty:
        raise AnalysisError(f"{source}: holds no points")
    return typed


def check_version(version: Any, source: str, content: str) -> None:
    """Refuse a newer schema than the one known here.

    Raises:
        AnalysisError: it is newer, or no number.
    """
    try:
        number = int(version)
    except (TypeError, ValueError):
        raise AnalysisError(f"{source}: {content} schema {version!r} is not a number") from None
    if number > SCHEMA_VERSION:
        raise AnalysisError(
            f"{source}: {content} schema {number} is newer than the {SCHEMA_VERSION} known here; "
            "update bridgesweep"
        )


def from_parquet(data: bytes, source: str) -> pd.DataFrame:
    """Points from the bytes of a Parquet file.

    Raises:
        AnalysisError: not Parquet, a newer schema, or what `check_points` finds.
    """
    if not data.startswith(PARQUET):
        raise AnalysisError(f"{source}: not a Parquet file, nor named .csv or .json")
    table = parquet_table(data, source)
    check_version((table.schema.metadata or {}).get(VERSION_KEY, b"1"), source, "points")
    return check_points(table.to_pandas(), source)


def parquet_table(data: bytes, source: str, categories: Sequence[str] = ()) -> pa.Table:
    """The table of a Parquet file's bytes, some of its columns as categories.

    Raises:
        AnalysisError: not Parquet, or damaged.
    """
    if not data.startswith(PARQUET):
        raise AnalysisError(f"{source}: not a Parquet file")
    try:
        # Alone: threads take longer for tables of this size, and may outlive a damaged file.
        return pq.read_table(io.BytesIO(data), read_dictionary=list(categories), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise AnalysisError(f"{source}: a damaged Parquet file ({reason})") from None


def read_csv(data: bytes, source: str) -> pd.DataFrame:
    """The rows of a CSV, the schema's text columns as text; not checked any further.

    Raises:
        AnalysisError: not a CSV, or a newer schema.
    """
    fields = (*COLUMNS, *OPTIONAL.values())
    names = [RESULTS, *(f.name for f in fields if f.type == pa.string())]
    strings: dict[str, Any] = dict.fromkeys(names, "str")
    try:
        frame = pd.read_csv(io.BytesIO(data), dtype=strings, float_precision="round_trip")
    except (ValueError, pd.errors.ParserError) as error:
        raise AnalysisError(f"{source}: not a CSV ({str(error).splitlines()[0]})") from None
    if VERSION_COLUMN in frame:
        for version in frame[VERSION_COLUMN].unique():
            check_version(version, source, "points")
        frame = frame.drop(columns=VERSION_COLUMN)
    return frame


def to_csv(table: pa.Table) -> bytes:
    """The table as CSV, the schema's version in the last column."""
    frame: pd.DataFrame = table.to_pandas()
    return frame.assign(**{VERSION_COLUMN: SCHEMA_VERSION}).to_csv(index=False).encode()


def csv_metadata(table: pa.Table, url: str) -> bytes:
    """Types, units and meaning of the CSV's columns, as CSV on the Web's JSON.

    Args:
        table: what the CSV holds.
        url: the CSV's name, relative to this file.
    """
    kinds = {pa.float64(): "double", pa.int64(): "integer", pa.bool_(): "boolean"}
    columns = []
    for column in table.schema:
        metadata = {k.decode(): v.decode() for k, v in (column.metadata or {}).items()}
        columns.append(
            {
                "name": column.name,
                "datatype": kinds.get(column.type, "string"),
                "required": not column.nullable,
                "dc:description": metadata.get("description", ""),
                "schema:unitText": metadata.get("unit", ""),
            }
        )
    version = {"name": VERSION_COLUMN, "datatype": "integer", "required": True}
    columns.append({**version, "dc:description": "version of this schema"})
    content = {
        "@context": "http://www.w3.org/ns/csvw",
        "url": url,
        "dc:conformsTo": f"{VERSION_KEY.decode()} {SCHEMA_VERSION}",
        "tableSchema": {"columns": columns},
    }
    return json.dumps(content, indent=1).encode()


def documented() -> str:
    """The schema as a Markdown table."""
    lines = [f"Schema {SCHEMA_VERSION}", "", "| column | type | unit | what |", "|---|---|---|---|"]
    for column in (*COLUMNS, *OPTIONAL.values()):
        unit, description = (column.metadata[name].decode() for name in (b"unit", b"description"))
        more = " (only some sweeps)" if column.name in OPTIONAL else ""
        null = " or null" if column.nullable else ""
        lines.append(f"| `{column.name}` | {column.type}{null} | {unit} | {description}{more} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(documented())
