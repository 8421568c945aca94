"""Points assembled into curves. Expected points without a value are part of a curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.curves.curve import MEAN, MEAN_METRIC, Curve
from analysis.curves.missing import Missing, missing_point
from analysis.curves.tasks import Task, no_mean, tasks
from analysis.io.frames import rows_of
from analysis.io.read import Sweep
from analysis.io.scenarios import Scenarios
from analysis.io.schema import MEASURE, AnalysisError
from analysis.sampling.bootstrap import Resampled
from analysis.sampling.intervals import RESAMPLES
from search_spaces.specs.points import JOINED

_OWNER: Final = ["codec", "variant", "scenario"]
"""Columns that, with the MLLM, task and metric, identify a curve."""
_COLUMNS: Final = ["lmbda", "bpp", "value", "low", "high", "point_keys", "seeds"]
_NO_POINTS: Final = pd.DataFrame(
    {name: pd.Series(dtype="object" if name in _COLUMNS[-2:] else "float64") for name in _COLUMNS}
)


def curves(sweep: Sweep) -> list[Curve]:
    """Every curve of a sweep, for all metrics: codec by codec, in the scenarios' order.

    A curve that was expected and has no point at all is there with an empty frame.
    """
    points, scenarios = sweep.curve_points, sweep.scenarios
    expected = _expected(sweep)
    reasons = {m["point_key"]: m for m in sweep.manifest.get("missing", [])}
    kinds = list(dict.fromkeys(_tuples(sweep.points, MEASURE)))
    expected_kinds = _expected_kinds(sweep, expected)
    with_points: list[Any] = points[_OWNER].drop_duplicates().fillna("").to_dict("records")
    owners = dict.fromkeys(_owner(point) for point in [*with_points, *expected])
    order = list(sweep.variants)
    frames = by_rate(points)
    out = []
    for owner in sorted(owners, key=lambda o: _curve_rank(o, order, scenarios)):
        wanted = [e for e in expected if _owner(e) == owner]
        lambdas = tuple(sorted({float(e["lmbda"]) for e in wanted if e["lmbda"] is not None}))
        of_owner = {kind: frames.get((*owner, *kind), _NO_POINTS) for kind in kinds}
        measured_keys = {
            kind: {k for keys in f["point_keys"] for k in keys} for kind, f in of_owner.items()
        }
        anywhere = set().union(*measured_keys.values())
        for (mllm, task, metric), frame in of_owner.items():
            kind = (mllm, task, metric)
            keys = measured_keys[kind]
            of_kind = [e for e in wanted if kind in expected_kinds.get(id(e), kinds)]
            if frame.empty and not of_kind:
                continue  # of several sweeps, the one that has the points measures something else
            gone = [
                missing_point(e, reasons.get(e["point_key"]), e["point_key"] in anywhere)
                for e in of_kind
                if e["point_key"] not in keys
            ]
            seeds = tuple(sorted({s for seeds in frame["seeds"] for s in seeds}))
            look = scenarios.look(owner[2])
            missing = tuple(gone)
            out.append(Curve(*owner, mllm, task, metric, seeds, frame, missing, lambdas, look))
    return out


def _expected_kinds(
    sweep: Sweep, expected: Iterable[Mapping[str, Any]]
) -> dict[int, set[tuple[str, str, str]]]:
    """What is expected of each of several sweeps' points: MLLM, task, metric (see `merge`).

    Returns:
        By the identity of the expected point; without those of which everything is expected.
    """
    frame = sweep.points.drop_duplicates([*MEASURE, "dataset"])
    named: dict[tuple[str, ...], tuple[str, str, str]] = {}
    for mllm, task, metric, dataset in frame[[*MEASURE, "dataset"]].astype("str").to_numpy():
        named[mllm, task.removesuffix(f" {dataset}"), dataset, metric] = (mllm, task, metric)
    return {
        id(point): {named[tuple(kind)] for kind in point["kinds"] if tuple(kind) in named}
        for point in expected
        if "kinds" in point
    }


def mean_curves(
    sweep: Sweep, resampled: Resampled | None = None, single: Iterable[Curve] | None = None
) -> list[Curve]:
    """Curves of the mean over tasks of their primary metrics, against the mean of their bpp.

    A rate counts only where every task has it. None where the primary metrics' units differ, or
    less of one is better.

    Args:
        sweep: the sweep.
        resampled: for the intervals; without it `low` and `high` are nan.
        single: what `curves` gave, where the caller has it already.
    """
    known = tasks(sweep)
    if no_mean(known):
        return []
    groups: dict[tuple[str, str, str, str], list[Curve]] = {}
    for curve in curves(sweep) if single is None else single:
        if curve.metric == known[curve.task].primary:
            owner = (curve.codec, curve.variant, curve.scenario, curve.mllm)
            groups.setdefault(owner, []).append(curve)
    out = []
    for owner, group in groups.items():
        missing = tuple(dict.fromkeys(m for curve in group for m in curve.missing))
        out.append(
            Curve(
                *owner,
                MEAN,
                MEAN_METRIC,
                tuple(sorted({s for curve in group for s in curve.seeds})),
                _mean_frame(group, len(known), resampled),
                missing,
                group[0].expected,
                group[0].look,
            )
        )
    return out


def bounds(sweep: Sweep, resampled: Resampled | None = None) -> pd.DataFrame:
    """The bounds: columns `mllm, task, metric, value, low, high`.

    The row of task `MEAN` exists where the tasks' metrics can be averaged and every task has a
    bound.

    Args:
        sweep: the sweep.
        resampled: for the intervals; without it those of the points, and none of `MEAN`.
    """
    found = sweep.bound_points.groupby(MEASURE, sort=False, as_index=False).agg(
        value=("value", "mean"),
        low=("value_low", "mean"),
        high=("value_high", "mean"),
        point_keys=("point_key", tuple),
    )
    known = tasks(sweep)
    out = found.drop(columns="point_keys")
    if resampled is not None:
        for index, row in enumerate(rows_of(found)):
            _set_interval(out, index, resampled, [row])
    if no_mean(known):
        return out
    primary = pd.DataFrame({"task": list(known), "metric": [t.primary for t in known.values()]})
    for mllm, rows in found.merge(primary, on=["task", "metric"]).groupby("mllm", sort=False):
        if len(rows) == len(known):
            index, mean = len(out), rows["value"].mean()
            out.loc[index] = [mllm, MEAN, MEAN_METRIC, mean, np.nan, np.nan]
            if resampled is not None:
                _set_interval(out, index, resampled, list(rows_of(rows)))
    return out


def _set_interval(
    frame: pd.DataFrame, index: int, resampled: Resampled, parts: Iterable[Any]
) -> None:
    """Set a row's `low` and `high` to the interval of the mean of points, where that is known."""
    ends = resampled.interval([(p.mllm, p.task, p.metric, p.point_keys) for p in parts])
    if ends is not None:
        frame.loc[index, ["low", "high"]] = ends


def missing_points(sweep: Sweep, single: Iterable[Curve] | None = None) -> list[Missing]:
    """Every operating point that was expected and is missing, wholly or in some task, once.

    Args:
        sweep: the sweep.
        single: what `curves` gave, where the caller has it already.
    """
    of_curves = [m for c in (curves(sweep) if single is None else single) for m in c.missing]
    failed = [missing_point(m, m, False) for m in sweep.manifest.get("missing", [])]
    return list(dict.fromkeys([*failed, *of_curves]))


@dataclass(frozen=True)
class Assembled:
    """A sweep with everything that comparison, figures and report read from it.

    Attributes:
        sweep: the sweep.
        tasks: its tasks by name.
        resampled: its test samples, resampled.
        curves: a curve per (codec, variant, scenario, MLLM, task, metric).
        means: a curve per (codec, variant, scenario, MLLM) of the mean over tasks.
        bounds: the levels across figures, as `bounds` gives them.
        missing: the points that were expected and are not there.
    """

    sweep: Sweep
    tasks: dict[str, Task]
    resampled: Resampled
    curves: list[Curve]
    means: list[Curve]
    bounds: pd.DataFrame
    missing: list[Missing]


def assemble(sweep: Sweep, n_resamples: int = RESAMPLES) -> Assembled:
    """Assemble a sweep's points once, for all that follows."""
    resampled = Resampled(sweep, n_resamples)
    single = [_with_intervals(curve, resampled) for curve in curves(sweep)]
    means = mean_curves(sweep, resampled, single)
    missing = missing_points(sweep, single)
    return Assembled(
        sweep, tasks(sweep), resampled, single, means, bounds(sweep, resampled), missing
    )


def _with_intervals(curve: Curve, resampled: Resampled) -> Curve:
    """The curve with its means' intervals over images and seeds, where its samples are known."""
    kind = (curve.mllm, curve.task, curve.metric)
    stored = zip(curve.frame["low"], curve.frame["high"], strict=True)
    ends = [
        resampled.interval([(*kind, keys)]) or own
        for own, keys in zip(stored, curve.frame["point_keys"], strict=True)
    ]
    low, high = np.array(ends, dtype=np.float64).reshape(-1, 2).T
    return replace(curve, frame=curve.frame.assign(low=low, high=high))


def _owner(point: Mapping[Any, Any]) -> tuple[str, str, str]:
    """Codec, variant and scenario of a manifest's point."""
    return point["codec"] or "", point.get("variant") or "", point["scenario"]


def _curve_rank(
    owner: tuple[str, str, str], order: list[str], scenarios: Scenarios
) -> tuple[Any, ...]:
    """Sort key: codec by codec, in the scenarios' order, in the space's order of variants."""
    codec, variant, scenario = owner
    first = variant.partition(JOINED)[0]
    variant_rank = order.index(first) if first in order else -1
    return codec, scenarios.rank(scenario), variant_rank, variant


def _expected(sweep: Sweep) -> list[dict[str, Any]]:
    """The manifest's expected points; without one, a codec's every lambda in each of its curves."""
    if sweep.manifest.get("expected"):
        bound = sweep.scenarios.is_bound
        return [point for point in sweep.manifest["expected"] if not bound(point["scenario"])]
    rates = sweep.curve_points[["point_key", *_OWNER, "lmbda", "seed"]].drop_duplicates()
    rates = rates.astype(object).where(rates.notna(), None)
    points: list[dict[str, Any]] = [
        {str(k): v for k, v in row.items()} for row in rates.to_dict("records")
    ]
    by = [*_OWNER, "seed"]
    measured = {(*(p[name] for name in by), p["lmbda"]) for p in points}
    owners = {owner[:-1] for owner in measured}
    lambdas = {(codec, lmbda) for codec, *_, lmbda in measured if lmbda is not None}
    return points + [
        {"point_key": "", **dict(zip(by, owner, strict=True)), "lmbda": lmbda}
        for owner in sorted(owners, key=str)
        for codec, lmbda in sorted(lambdas, key=str)
        if codec == owner[0] and (*owner, lmbda) not in measured
    ]


def by_rate(points: pd.DataFrame) -> dict[tuple[str, ...], pd.DataFrame]:
    """Frames of all curves by (codec, variant, scenario, mllm, task, metric), seeds averaged.

    The points' own intervals are averaged too; `assemble` puts the mean's in their place where the
    test samples are known.
    """
    by = [*_OWNER, *MEASURE]
    rows = points.assign(codec=points["codec"].fillna(""))
    rate = rows["lmbda"]
    rows["rate"] = rate.fillna(rows["quality"]) if "quality" in rows else rate
    unpaired = rows[rows["rate"].isna()].groupby(by, sort=False)["seed"].nunique()
    if len(several := unpaired[unpaired > 1]):
        codec, variant, scenario = several.index[0][:3]
        curve = " ".join(filter(None, (codec, scenario, variant)))
        raise AnalysisError(
            f"{curve}: points of {several.iloc[0]} seeds without `lmbda` or `quality`: nothing "
            "says which of them are trainings of one rate; fill one of these columns"
        )
    rows["rate"] = rows["rate"].astype(object).where(rows["rate"].notna(), rows["point_key"])
    grouped = rows.groupby([*by, "rate"], sort=False).agg(
        lmbda=("lmbda", "first"),
        bpp=("bpp", "mean"),
        value=("value", "mean"),
        low=("value_low", "mean"),
        high=("value_high", "mean"),
        point_keys=("point_key", tuple),
        seeds=("seed", tuple),
    )
    ordered = grouped.reset_index().sort_values(["bpp", "value"])
    return {
        tuple(map(str, key)): frame[_COLUMNS].reset_index(drop=True)
        for key, frame in ordered.groupby(by, sort=False)
    }


def _tuples(frame: pd.DataFrame, columns: list[str]) -> list[tuple[str, ...]]:
    return [tuple(map(str, row)) for row in rows_of(frame[columns])]


def _mean_frame(group: Iterable[Curve], n_tasks: int, resampled: Resampled | None) -> pd.DataFrame:
    group = list(group)
    rows = pd.concat([c.frame.assign(task=c.task, metric=c.metric) for c in group])
    out = []
    for keys, same in rows.groupby("point_keys", sort=False):
        if len(same) < n_tasks:
            continue
        parts = [(group[0].mllm, r.task, r.metric, r.point_keys) for r in rows_of(same)]
        ends = None if resampled is None else resampled.interval(parts)
        low, high = ends or (np.nan, np.nan)
        out.append(
            {
                "lmbda": same["lmbda"].iloc[0],
                "bpp": same["bpp"].mean(),
                "value": same["value"].mean(),
                "low": low,
                "high": high,
                "point_keys": keys,
                "seeds": same["seeds"].iloc[0],
            }
        )
    return pd.DataFrame(out, columns=_COLUMNS).sort_values(["bpp", "value"], ignore_index=True)
