"""Other people's results as points: CompressAI's results JSON, and tables of (bpp, metric).

They come without test samples, so their comparisons have no intervals.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.io.directions import Directions
from analysis.io.scenarios import Scenarios
from analysis.io.schema import COLUMNS, OPTIONAL, UNKNOWN, AnalysisError, check_points
from analysis.io.sweep import Sweep

IMAGES: Final = "image_quality"
"""The task of rate-distortion results: quality of the decoded image."""
NO_MLLM: Final = "none"
TIMES: Final = ("encoding_time", "decoding_time")
UNITS: Final = {"psnr": "dB", "ms-ssim": "", "ms-ssim-db": "dB"}
_KEPT: Final = ("bpp", "lmbda", *TIMES)


def from_compressai(data: bytes, source: str, directions: Directions) -> Sweep:
    """A sweep of one curve from `{"name": ..., "results": {"bpp": [...], "psnr": [...], ...}}`.

    CompressAI's evaluations and `trainables.commands.rd_eval` write that form. Every list of
    numbers becomes a metric of the task `image_quality` (`-rgb` is dropped from names; MS-SSIM is
    there in dB as well, `ms-ssim-db`, the scale on which it is compared). `rd_eval` also says
    `codec`, `scenario`, `variant` and `seed`; without them, the codec is the name, and the scenario
    the anchor's.

    Raises:
        AnalysisError: not of that form, rates that are estimates, or a metric of unknown direction.
    """
    try:
        content = json.loads(data)
    except ValueError:
        raise AnalysisError(f"{source}: not JSON") from None
    try:
        lists = {str(k): np.asarray(v, np.float64) for k, v in content["results"].items()}
        if len({len(values) for values in lists.values()}) != 1 or lists["bpp"].ndim != 1:
            raise ValueError("lists of several lengths")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise AnalysisError(
            f"{source}: no results in CompressAI's form, an object whose `results` are lists of "
            f"numbers, `bpp` among them: {reason}"
        ) from None
    if "entropy" in str(content.get("description", "")) and "estimation" in str(
        content["description"]
    ):
        raise AnalysisError(
            f"{source}: its bpp is the entropy model's estimate ({content['description']!r}), not "
            "written bits; evaluate it with an entropy coder"
        )
    metrics = {k.removesuffix("-rgb"): v for k, v in lists.items() if k not in _KEPT}
    if "ms-ssim" in metrics:
        metrics["ms-ssim-db"] = -10 * np.log10(np.maximum(1 - metrics["ms-ssim"], 1e-10))
    _check_metrics(metrics, list(lists), source)
    wide = pd.DataFrame({"bpp": lists["bpp"], **metrics})
    about: dict[str, Any] = {
        "codec": str(content.get("codec") or content.get("name") or stem(source)),
        "scenario": str(content.get("scenario") or Scenarios().anchor()),
        "task": IMAGES,
        "mllm": NO_MLLM,
    }
    if "lmbda" in lists:
        about["lmbda"] = lists["lmbda"]
    if content.get("variant"):
        about["variant"] = str(content["variant"])
    if isinstance(content.get("seed"), int):
        about["seed"] = content["seed"]
    if "psnr" in metrics:
        about["psnr"] = metrics["psnr"]
    return _sweep(wide, list(metrics), about, source, directions)


def _check_metrics(metrics: Collection[str], columns: Iterable[Any], source: str) -> None:
    """Refuse results without a metric."""
    if not metrics:
        names = ", ".join(map(str, columns))
        raise AnalysisError(f"{source}: no metric beside bpp: it holds {names}")


def is_pairs(frame: pd.DataFrame) -> bool:
    """Whether a table is for `from_pairs`: it has rates, and is not meant as a points file."""
    return "bpp" in frame and "point_key" not in frame


def from_pairs(frame: pd.DataFrame, source: str, directions: Directions) -> Sweep:
    """A sweep from a table with a column `bpp` and one for each metric, a row per rate.

    Further columns of the points file are allowed (`codec, scenario, seed, lmbda, mllm, task,
    dataset, ...`). Other numeric columns are metrics; where there is no other, `value` (named by
    `metric`) or `psnr` is. Other columns of text, `method` for one, divide the rows into curves,
    named by them; those that are the same in all rows, or another one in each, are left out, and
    said to be. Without a scenario, and nothing that divides, it is the file's name. The rest is
    `unknown`.

    Raises:
        AnalysisError: no metric, one of unknown direction, or values that cannot be points.
    """
    known = {*COLUMNS.names, *OPTIONAL}
    numeric = [str(name) for name in frame.select_dtypes("number").columns]
    metrics = [name for name in numeric if name not in known]
    if not metrics:
        metrics = [str(name) for name in ("value", "psnr") if name in numeric][:1]
    _check_metrics(metrics, frame.columns, source)
    texts = [str(name) for name in frame if name not in (*known, *metrics)]
    dividing = [name for name in texts if 1 < frame[name].nunique() < len(frame)]
    about = {str(name): frame[name] for name in frame if name in known and name not in metrics}
    del about["bpp"]
    about |= {"psnr": frame["psnr"]} if "psnr" in frame else {}
    if dividing:
        names = frame[dividing].fillna("").astype("str").agg(" ".join, axis=1).str.strip()
        about["variant" if "scenario" in about else "scenario"] = names
    defaults = {"scenario": stem(source), "task": UNKNOWN, "mllm": UNKNOWN}
    sweep = _sweep(frame[["bpp", *metrics]], metrics, {**defaults, **about}, source, directions)
    unused = [name for name in texts if name not in dividing]
    if not unused:
        return sweep
    lines = [f"{posixpath.basename(source)}: columns not used: {', '.join(unused)}"]
    return replace(sweep, manifest={**sweep.manifest, "skipped": lines})


def _sweep(
    wide: pd.DataFrame,
    metrics: list[str],
    about: dict[str, Any],
    source: str,
    directions: Directions,
) -> Sweep:
    """The long form: a row per rate and metric; unknown fields are empty or `unknown`."""
    name = stem(source)
    base = wide[["bpp"]].assign(**{**unsaid(name), **about})
    base["point_key"] = [f"{name}:{number}" for number in _point_numbers(base)]
    rows = [
        base.assign(metric=about.get("metric", metric), value=wide[metric]) for metric in metrics
    ]
    points = pd.concat(rows, ignore_index=True)
    points = points[np.isfinite(points["value"].to_numpy(dtype=np.float64))]
    extra = [column for column in points if column not in COLUMNS.names]
    points = check_points(points[[*COLUMNS.names, *extra]], source)
    tasks: dict[str, Any] = {}
    of_task = points.groupby("task", sort=False)["metric"].unique()
    for task, names in of_task.items():
        tasks[str(task)] = {
            "metrics": {
                name: {"higher_is_better": better}
                | ({"unit": UNITS[name]} if name in UNITS else {})
                for name, better in directions.of(map(str, names), source).items()
            }
        }
    return Sweep(points, None, {"sweep": name, "tasks": tasks})


def unsaid(name: str) -> dict[str, Any]:
    """Columns of the points file for what others' results do not say: empty or `unknown`.

    Args:
        name: of the sweep.
    """
    return {
        "sweep": name,
        "codec": None,
        "lmbda": np.nan,
        "seed": 0,
        "dataset": UNKNOWN,
        "split": UNKNOWN,
        "value_low": np.nan,
        "value_high": np.nan,
        "n_samples": 0,
        "bpp_estimated": np.nan,
        "psnr": np.nan,
        "run_id": None,
    }


def _point_numbers(rows: pd.DataFrame) -> list[int]:
    """A number per row: that of its operating point, so that a mean over tasks can be taken.

    Rows of several tasks are one point where codec, variant, scenario, seed and lambda agree;
    without a lambda their bits must. Where rows of one task would then be one point, each is its
    own.
    """
    rate = "bpp" if rows["lmbda"].isna().any() else "lmbda"
    fields = ["codec", "variant", "scenario", "seed", rate]
    numbers = rows.groupby([f for f in fields if f in rows], sort=False, dropna=False).ngroup()
    measured = [f for f in ("mllm", "task", "metric") if f in rows]
    if rows[measured].assign(number=numbers).duplicated().any():
        return list(range(len(rows)))
    return [int(number) for number in numbers]


def stem(source: str) -> str:
    """The name of a file without directories and ending."""
    return posixpath.splitext(posixpath.basename(source))[0]
