"""Where accuracy is lost, and how much of it a receiver gets back from the same streams.

    bound - anchor = lost        what an MLLM that sees decoded images answers worse
    curve - anchor = recovered   what the receiver answers better, from the same bits
    bound - curve  = left        what this receiver does not get back

CompressVLMBench (arXiv 2512.20901) divides a loss so: what the MLLM itself gets back when it is
fitted to decoded images is its generalisation gap, the rest its information gap. The receivers of a
sweep are others (a neck reads latents, a U-Net repairs the image, an oracle is told right answers),
and none is the best that there can be: their numbers are not these two gaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.io.frames import rows_of
from analysis.io.schema import MEASURE
from analysis.sampling.bd import TIE
from analysis.sampling.intervals import Floats, interval_of
from analysis.stats.anchor import AnchorComparison, against_anchors
from analysis.stats.pairs import Estimate
from analysis.stats.savings import CURVE
from analysis.stats.seeds import about_seeds

GAPS: Final = ("lost", "recovered", "left")
ANCHOR: Final = ("anchor_codec", "anchor_variant", "anchor_scenario")
"""Columns that, with the MLLM, task and metric, say which curve a row is compared with."""
Parts = Sequence[tuple[str, str]]
"""The (task, metric) pairs that a curve averages."""


def gaps(assembled: Assembled, anchor: str | None = None) -> pd.DataFrame:
    """What compression costs at each rate, and how much of it each receiver gets back.

    A receiver has the anchor's streams where it has the same codec, the same lambda or quality
    (where these are known) and the same bits, seed by seed where the anchor has several.

    Args:
        assembled: the sweep assembled.
        anchor: the scenario in which the MLLM sees decoded images; by default the sweep's own,
            whatever else its curves are compared with.

    Returns:
        A row per curve and rate of the anchor at which the curve has the anchor's streams, one for
        a curve that never has: the curve, its anchor (`ANCHOR`), `rate` in bits per pixel, `lost`,
        `recovered` and `left` in the metric's unit, each with `_low` and `_high` (95 %, paired),
        and `note`: why a number or its interval is missing. Metrics of which less is better have no
        rows.

    Raises:
        AnalysisError: no curve of that scenario.
    """
    with_own_anchor = replace(assembled, sweep=replace(assembled.sweep, compared_with=""))
    measured = _Measured(assembled)
    rows = [
        row
        for compared in against_anchors(with_own_anchor, anchor)
        if compared.pair is not None
        for row in _rows(measured, compared)
    ]
    names = [f"{gap}{end}" for gap in GAPS for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*CURVE, *ANCHOR, "rate", *names, "note"])


@dataclass(frozen=True)
class _Values:
    """A mean of operating points, and of its resamples (R,), None where these are not known."""

    value: float
    draws: Floats | None


class _Measured:
    """What was measured at every operating point."""

    def __init__(self, assembled: Assembled) -> None:
        self._resampled = assembled.resampled
        points = assembled.sweep.points
        quality = points.get("quality", np.nan)
        self._rows = {
            (row.mllm, row.task, row.metric, row.point_key): row
            for row in rows_of(points.assign(quality=quality))
        }
        self._bounds: dict[tuple[str, str, str], tuple[str, ...]] = {}
        bound = assembled.sweep.bound_points[[*MEASURE, "point_key"]].drop_duplicates()
        for row in rows_of(bound):
            kind = (row.mllm, row.task, row.metric)
            self._bounds[kind] = (*self._bounds.get(kind, ()), row.point_key)

    def label(self, mllm: str, parts: Parts, key: str) -> tuple[float, float]:
        """Lambda and quality of a point, nan where it has none."""
        row = self._rows[(mllm, *parts[0], key)]
        return float(row.lmbda), float(row.quality)

    def seed(self, mllm: str, parts: Parts, key: str) -> int:
        """Of a point."""
        return int(self._rows[(mllm, *parts[0], key)].seed)

    def bpp(self, mllm: str, parts: Parts, keys: Sequence[str]) -> float:
        """Bits per pixel, the mean over tasks and points."""
        return float(np.mean([self._rows[(mllm, *p, k)].bpp for p in parts for k in keys]))

    def values(self, mllm: str, parts: Parts, keys: Sequence[str]) -> _Values:
        """The mean over tasks and points."""
        value = np.mean([self._rows[(mllm, *p, k)].value for p in parts for k in keys])
        means = self._resampled.mean([(mllm, *part, tuple(keys)) for part in parts])
        return _Values(float(value), None if means is None else means[1])

    def bound(self, mllm: str, parts: Parts) -> _Values:
        """The mean of the bound over tasks; nan where a task has none."""
        kinds = [(mllm, *part) for part in parts]
        if any(kind not in self._bounds for kind in kinds):
            return _Values(np.nan, None)
        of_tasks = [self.values(mllm, [kind[1:]], self._bounds[kind]) for kind in kinds]
        draws = [one.draws for one in of_tasks if one.draws is not None]
        known = len(draws) == len(of_tasks)
        value = float(np.mean([one.value for one in of_tasks]))
        return _Values(value, np.mean(draws, axis=0) if known else None)

    def why_no_interval(self, mllm: str, parts: Parts) -> str:
        """Why samples give no interval."""
        if any((mllm, *part) in self._resampled.disagree for part in parts):
            return "no interval: the per-sample values do not average to the points"
        return "no interval: per-sample values are not known"


def _rows(measured: _Measured, compared: AnchorComparison) -> Iterator[dict[str, Any]]:
    """Rows of one curve."""
    assert compared.pair is not None
    anchor, curve, parts = compared.pair.anchor, compared.curve, compared.parts
    mllm = curve.mllm
    about = {column: getattr(curve, column) for column in CURVE}
    about |= dict(zip(ANCHOR, (anchor.codec, anchor.variant, anchor.scenario), strict=True))
    same = list(_same_streams(measured, compared)) if anchor.codec == curve.codec else []
    if not same:
        yield {**about, "note": f"its streams are not those of {anchor.display_name}"}
        return
    bound = measured.bound(mllm, parts)
    for anchor_keys, keys in same:
        of_anchor, of_curve = (measured.values(mllm, parts, k) for k in (anchor_keys, keys))
        why = measured.why_no_interval(mllm, parts)
        estimates = {
            "lost": _difference(bound, of_anchor, why),
            "recovered": _difference(of_curve, of_anchor, why),
            "left": _difference(bound, of_curve, why),
        }
        notes = [compared.note, *(estimate.why for estimate in estimates.values())]
        notes.append(about_seeds(curve, anchor))
        yield {
            **about,
            "rate": measured.bpp(mllm, parts, anchor_keys),
            **{name: estimate.value for name, estimate in estimates.items()},
            **{f"{name}_low": estimate.low for name, estimate in estimates.items()},
            **{f"{name}_high": estimate.high for name, estimate in estimates.items()},
            "note": "; ".join(dict.fromkeys(filter(None, notes))),
        }


def _same_streams(
    measured: _Measured, compared: AnchorComparison
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Keys of the points of both curves that have the same streams, rate by rate of the anchor."""
    assert compared.pair is not None
    mllm, parts = compared.curve.mllm, compared.parts
    of_curve = list(compared.curve.frame["point_keys"])
    for anchor_keys in compared.pair.anchor.frame["point_keys"]:
        for keys in of_curve:
            paired = _paired(measured, mllm, parts, anchor_keys, keys)
            if paired is not None:
                yield paired
                break


def _paired(
    measured: _Measured,
    mllm: str,
    parts: Parts,
    anchor_keys: tuple[str, ...],
    keys: tuple[str, ...],
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The points of a rate of each curve that have the same streams; None where none have.

    An anchor that was measured once belongs to every seed; else seeds that both have are paired.
    """
    labels = {str(measured.label(mllm, parts, key)) for key in (anchor_keys[0], keys[0])}
    if len(labels) > 1:
        return None
    by_seed = {measured.seed(mllm, parts, key): key for key in anchor_keys}
    pairs = [(by_seed.get(measured.seed(mllm, parts, key)), key) for key in keys]
    if len(anchor_keys) == 1:
        pairs = [(anchor_keys[0], key) for key in keys]
    known = [(one, other) for one, other in pairs if one is not None]
    bits = [[measured.bpp(mllm, parts, (key,)) for key in pair] for pair in known]
    if not known or not all(abs(np.log10(one / other)) < TIE for one, other in bits):
        return None
    return tuple(dict.fromkeys(one for one, _ in known)), tuple(other for _, other in known)


def _difference(more: _Values, less: _Values, why: str) -> Estimate:
    """One value minus another, with the interval of the paired difference.

    Args:
        why: why there is no interval where samples are not known.
    """
    number = more.value - less.value
    if np.isnan(number):
        return Estimate(why="there is no bound")
    if more.draws is None or less.draws is None:
        return Estimate(number, why=why)
    low, high, defined = interval_of(more.draws - less.draws)
    reason = "" if np.isfinite(low) else f"no interval: defined in {defined:.0%} of the resamples"
    return Estimate(number, low, high, defined, reason)
