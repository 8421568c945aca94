"""Values over anything that a sweep varies, and the Pareto front over everything it measured.

    points --settings--> columns of what the points were trained with
           --along-----> a row per position on an axis: lambda, codec, seed, k, alpha : beta, ...
           --pareto----> the points that nothing cheaper matches

Frames in, frames out. The ratio alpha : beta, for instance:

    points = with_settings(sweep)
    points["ratio"] = points["surrogate.phases.1.ce"] / points["surrogate.phases.1.distill"]
    along(points, "ratio").groupby(["scenario", "task"])
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.io.frames import leaves
from analysis.io.schema import COLUMNS, OPTIONAL, AnalysisError
from analysis.io.sweep import Sweep
from analysis.sampling import bd

_CURVE: Final = ["mllm", "task", "dataset", "split", "metric", "codec", "scenario"]
_RATE: Final = ["lmbda", "quality"]
MEASURED: Final = ("mllm", "task", "dataset", "split", "metric")
"""What points must have in common to be compared at all."""


def settings(sweep: Sweep) -> pd.DataFrame:
    """The settings of each operating point: a row per point key, a column per setting.

    The column of a setting in a list or mapping is its dotted path, `teacher.block`,
    `surrogate.phases.1.ce`. Without a manifest (points files of others) there are no columns.
    """
    described = sweep.manifest.get("points", {})
    rows = {
        key: dict(leaves({name: _parsed(v) for name, v in (point.get("spec") or {}).items()}))
        for key, point in described.items()
    }
    frame = pd.DataFrame.from_dict(rows, orient="index").infer_objects()
    return frame.rename_axis("point_key")


def with_settings(sweep: Sweep) -> pd.DataFrame:
    """The points with a column for each setting that has no column yet."""
    trained_with = settings(sweep)
    more = [name for name in trained_with if name not in sweep.points]
    return sweep.points.join(trained_with[more], on="point_key")


def along(points: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Values over an axis, all else equal; seeds are averaged.

    Args:
        points: points, of a sweep or `with_settings`, filtered as one likes.
        axis: a column: `lmbda`, `codec`, `quality`, `variant`, `mllm`, `seed`, or a setting. Where
            it is a setting, the variants that set it are one curve.

    Returns:
        A row per curve and position, in their order: what the curve's points have in common, the
        axis, `bpp, value, low, high` (means over seeds), `seeds, point_keys` (tuples). Points
        without a position are left out.

    Raises:
        AnalysisError: no such column, or points that differ in more than the axis and the seed.
    """
    if axis not in points:
        columns = ", ".join(map(str, points.columns))
        raise AnalysisError(f"no column {axis!r} to go along; there are {columns}")
    fixed = [*COLUMNS.names, *OPTIONAL]
    curve_columns = [*_CURVE, *(["variant"] if axis in fixed else []), *_RATE]
    curve_columns = [name for name in curve_columns if name in points and name != axis]
    rows = points[points[axis].notna()]
    by = [*curve_columns, axis]
    if axis != "seed":
        twice = rows[rows.duplicated([*by, "seed"], keep=False)]
        if len(twice):
            _, first = next(iter(twice.groupby([*by, "seed"], sort=False, dropna=False)))
            raise AnalysisError(
                f"along {axis}: points differ in more than that and the seed: "
                f"{', '.join(first['point_key'].unique()[:4])} have the same {axis} "
                f"{first[axis].iloc[0]}; filter them first"
            )
    grouped = rows.groupby(by, sort=False, dropna=False).agg(
        bpp=("bpp", "mean"),
        value=("value", "mean"),
        low=("value_low", "mean"),
        high=("value_high", "mean"),
        seeds=("seed", tuple),
        point_keys=("point_key", tuple),
    )
    return grouped.reset_index().sort_values(by, ignore_index=True, na_position="first")


def pareto(
    points: pd.DataFrame,
    by: Sequence[str] = MEASURED,
    lower_is_better: Sequence[str] = (),
) -> pd.Series[bool]:
    """Which points are on the Pareto front of rate and value: none that is as cheap is as good.

    Args:
        points: points, filtered as one likes (those of the bound are points as well).
        by: columns; each combination of their values has its own front.
        lower_is_better: metrics for which lower values are better.

    Returns:
        A mask with the points' index: `points[pareto(points)]`.
    """
    sign = np.where(points["metric"].isin(lower_is_better), -1.0, 1.0)
    signed = points.assign(_better=sign * points["value"].to_numpy(dtype=np.float64), _on=False)
    for _, rows in signed.groupby(list(by), sort=False, dropna=False):
        ordered = rows.sort_values(["bpp", "_better"], ascending=[True, False])
        rate, value = (ordered[name].to_numpy(dtype=np.float64) for name in ("bpp", "_better"))
        signed.loc[ordered.index, "_on"] = bd.front(rate, value)
    return signed["_on"].rename("pareto")


def _parsed(value: Any) -> Any:
    """A setting; MLflow's parameters are text as Python writes numbers, lists and mappings."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
