"""Write points, and read sweeps from files, MLflow and other formats.

    a sweep's directory, its points file        -> schema.py
    MLflow, by database or server               -> mlflow_source.py
    CompressAI's results, a CSV of (bpp, metric) -> other_results.py
    a CSV of rates and benchmarks' results      -> rates_table.py
    several of these at once                    -> merge.py

The result is a `Sweep`: plain pandas frames and the manifest.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterable
from typing import Final

import fsspec
import pandas as pd
import pyarrow.parquet as pq

from analysis.io.directions import Directions
from analysis.io.files import exists, join, read_bytes, write_bytes
from analysis.io.merge import merge
from analysis.io.names import metric_to_mlflow
from analysis.io.other_results import from_compressai, from_pairs, is_pairs
from analysis.io.rates_table import from_rates_table, is_rates_table
from analysis.io.schema import (
    AnalysisError,
    check_points,
    csv_metadata,
    from_parquet,
    read_csv,
    to_csv,
    to_table,
)
from analysis.io.sweep import MANIFEST, SAMPLES, Sweep, read_manifest, read_samples

__all__ = ["AnalysisError", "Sweep", "metric_to_mlflow", "read_sweep", "write_points"]

POINTS, POINTS_CSV, CSV_METADATA = "points.parquet", "points.csv", "points.csv-metadata.json"
_MLFLOW: Final = ("mlflow:", "sqlite:", "postgresql:", "mysql:", "mssql:", "databricks")


def write_points(frame: pd.DataFrame, directory: str) -> None:
    """Write `points.parquet`, `points.csv` and the CSV's metadata; each file appears complete.

    Args:
        frame: one row per rate-accuracy point with at least the columns of `schema.COLUMNS`;
            further columns are kept, after these.
        directory: where to, a local directory or an fsspec URI; made if it is not there.

    Raises:
        AnalysisError: missing columns, wrong types, missing values where none may be, values
            out of range, or two rows for one point; all mistakes in one message.
    """
    table = to_table(frame)
    parquet = io.BytesIO()
    pq.write_table(table, parquet)
    write_bytes(join(directory, POINTS), parquet.getvalue())
    write_bytes(join(directory, POINTS_CSV), to_csv(table))
    write_bytes(join(directory, CSV_METADATA), csv_metadata(table, POINTS_CSV))


def read_sweep(
    *paths_or_uris: str,
    apart: bool = False,
    higher_is_better: Iterable[str] = (),
    lower_is_better: Iterable[str] = (),
) -> Sweep:
    """Read a sweep, or several as one.

    Args:
        paths_or_uris: each one of: a sweep's directory; a storage directory that holds exactly one
            sweep; a `points.parquet` or `.csv`; a results `.json` in CompressAI's form; a `.csv`
            of `bpp` and metrics (see `other_results`), or of `bpp` and `results` of VLMEvalKit or
            lmms-eval (see `rates_table`; all of these also as fsspec URIs); or MLflow as
            `mlflow:<tracking-uri>#<experiment>[/<sweep>]` or just a tracking URI
            (`sqlite:///...`, `http(s)://...`; experiment `bridgesweep`).
        apart: with several, keep what they have in common apart, under the sweeps' names as
            variants. Otherwise it must be equal (see `merge.merge`).
        higher_is_better, lower_is_better: metrics of tables and results of others whose names do
            not say which (see `directions`).

    Raises:
        AnalysisError: no such file, not points, a newer schema, an empty experiment, several
            sweeps to choose from, a server that does not answer, clashing keys, or a metric of
            which more or less may be better.
    """
    if not paths_or_uris:
        raise AnalysisError("name at least one sweep: a directory, a points file or MLflow's URI")
    directions = Directions(frozenset(higher_is_better), frozenset(lower_is_better))
    sweeps = [_read(path_or_uri, directions) for path_or_uri in paths_or_uris]
    return sweeps[0] if len(sweeps) == 1 else merge(sweeps, apart)


def is_mlflow(path_or_uri: str) -> bool:
    """Whether `read_sweep` takes this for MLflow rather than for files."""
    if path_or_uri.startswith(("http://", "https://")):
        return not path_or_uri.endswith((".parquet", ".csv", ".json"))
    return path_or_uri.startswith(_MLFLOW)


def _read(path_or_uri: str, directions: Directions) -> Sweep:
    if is_mlflow(path_or_uri):
        from analysis.io.mlflow_source import read_mlflow  # what only files need not have

        return read_mlflow(path_or_uri)
    try:
        fs, path = fsspec.core.url_to_fs(path_or_uri)
        is_there = fs.exists(path)
    except (ValueError, ImportError, OSError) as error:  # no such protocol, no access
        raise AnalysisError(f"{path_or_uri}: {error}") from None
    except Exception as error:  # stores have kinds of their own
        raise AnalysisError(f"{path_or_uri}: {error!r}") from None
    if not is_there:
        raise AnalysisError(f"{path_or_uri}: no such file or directory")
    if not fs.isdir(path):
        return _read_file(path_or_uri, directions)
    directory = path_or_uri
    if not _has_points(directory):
        inside = sorted(posixpath.basename(str(p).rstrip("/")) for p in fs.ls(path, detail=False))
        sweeps = [name for name in inside if _has_points(join(directory, name))]
        if not sweeps:
            raise AnalysisError(f"{path_or_uri}: no {POINTS} here, nor in a directory inside")
        if len(sweeps) > 1:
            raise AnalysisError(
                f"{path_or_uri}: holds several sweeps; name one: {', '.join(sweeps)}"
            )
        directory = join(directory, sweeps[0])
    name = POINTS if exists(join(directory, POINTS)) else POINTS_CSV
    samples = join(directory, SAMPLES)
    manifest, alone = join(directory, MANIFEST), _read_file(join(directory, name), directions)
    return Sweep(
        alone.points,
        read_samples(read_bytes(samples), samples) if exists(samples) else None,
        read_manifest(read_bytes(manifest), manifest) if exists(manifest) else alone.manifest,
        directory,
    )


def _read_file(path: str, directions: Directions) -> Sweep:
    data, directory = read_bytes(path), posixpath.dirname(path) or "."
    if not data.strip():
        raise AnalysisError(f"{path}: an empty file")
    if path.endswith(".json"):
        return from_compressai(data, path, directions)
    if not path.endswith(".csv"):
        return _of_points(from_parquet(data, path), directions, directory)
    frame = read_csv(data, path)
    if is_rates_table(frame):
        return from_rates_table(frame, path, directions)
    if is_pairs(frame):
        return from_pairs(frame, path, directions)
    return _of_points(check_points(frame, path), directions, directory)


def _of_points(points: pd.DataFrame, directions: Directions, directory: str) -> Sweep:
    """Points without a sweep's description: of what they measure, less may be better."""
    lower = [m for m in points["metric"].unique() if directions.is_lower(str(m))]
    of_task = points[points["metric"].isin(lower)].groupby("task", sort=False)["metric"].unique()
    described = {
        str(task): {"metrics": {str(m): {"higher_is_better": False} for m in metrics}}
        for task, metrics in of_task.items()
    }
    return Sweep(points, None, {"tasks": described} if described else {}, directory)


def _has_points(directory: str) -> bool:
    return any(exists(join(directory, name)) for name in (POINTS, POINTS_CSV))
