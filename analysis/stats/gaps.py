"""Where accuracy is lost, and how much of it a receiver gets back from the same streams.

    bound - anchor = lost        what compression costs an MLLM that sees decoded images
    curve - anchor = recovered   the bits had it: the MLLM never saw such images
    bound - curve  = left        what this receiver does not get back

CompressVLMBench (arXiv 2512.20901) calls the second the generalisation gap and the third, of the
best receiver that there can be, the information gap. The receivers of a sweep are not the best that
there can be: `recovered` is at most the first gap, `left` at least the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.curves.curve import Curve
from analysis.io.frames import rows_of
from analysis.io.schema import MEASURE
from analysis.sampling.intervals import Floats, interval_of
from analysis.stats.anchor import AnchorComparison, against_anchors
from analysis.stats.pairs import Estimate, point_at
from analysis.stats.savings import CURVE
from analysis.stats.seeds import about_seeds

GAPS: Final = ("lost", "recovered", "left")
ANCHOR: Final = ("anchor_codec", "anchor_variant", "anchor_scenario")
"""Columns that, with the MLLM, task and metric, say which curve a row is compared with."""
_NO_SAMPLES: Final = "no interval: per-sample values are not known"


def gaps(assembled: Assembled, anchor: str | None = None) -> pd.DataFrame:
    """What compression costs at each rate, and how much of it each receiver gets back.

    Args:
        assembled: the sweep assembled.
        anchor: the scenario in which the MLLM sees decoded images; by default the sweep's.

    Returns:
        A row per curve and rate of the anchor at which the curve has the same bits, one for a curve
        that has none: the curve, its anchor (`ANCHOR`), `rate` in bits per pixel, `lost`,
        `recovered` and `left` in the metric's unit, each with `_low` and `_high` (95 %, paired),
        and `note`: why a number or its interval is missing. Metrics of which less is better have no
        rows.

    Raises:
        AnalysisError: no curve of that scenario.
    """
    bounds = _Bounds(assembled)
    rows = [
        row
        for compared in against_anchors(assembled, anchor)
        if compared.pair is not None and not compared.pair.why
        for row in _rows(assembled, bounds, compared)
    ]
    names = [f"{gap}{end}" for gap in GAPS for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*CURVE, *ANCHOR, "rate", *names, "note"])


class _Bounds:
    """The bound of each MLLM, task and metric: its value, and its resampled values."""

    def __init__(self, assembled: Assembled) -> None:
        self._resampled = assembled.resampled
        self._values = {
            (b.mllm, b.task, b.metric): float(b.value) for b in rows_of(assembled.bounds)
        }
        points = assembled.sweep.bound_points[[*MEASURE, "point_key"]].drop_duplicates()
        self._keys: dict[tuple[str, str, str], tuple[str, ...]] = {}
        for row in rows_of(points):
            kind = (row.mllm, row.task, row.metric)
            self._keys[kind] = (*self._keys.get(kind, ()), row.point_key)

    def value(self, curve: Curve) -> float:
        """Of a curve's measure; nan where there is no bound."""
        return self._values.get((curve.mllm, curve.task, curve.metric), np.nan)

    def draws(self, mllm: str, parts: Sequence[tuple[str, str]]) -> Floats | None:
        """(R,) of the mean over tasks; None where the samples are not known."""
        kinds = [(mllm, task, metric) for task, metric in parts]
        if any(kind not in self._keys for kind in kinds):
            return None
        means = self._resampled.mean([(*kind, self._keys[kind]) for kind in kinds])
        return None if means is None else means[1]


def _rows(
    assembled: Assembled, bounds: _Bounds, compared: AnchorComparison
) -> Iterator[dict[str, Any]]:
    """Rows of one curve."""
    assert compared.pair is not None
    anchor, curve, parts = compared.pair.anchor, compared.curve, compared.parts
    about = {column: getattr(curve, column) for column in CURVE}
    about |= dict(zip(ANCHOR, (anchor.codec, anchor.variant, anchor.scenario), strict=True))
    bound, of_bound = bounds.value(curve), bounds.draws(curve.mllm, parts)
    same = _same_streams(anchor, curve)
    if not same:
        yield {**about, "note": f"its streams are not those of {anchor.display_name}"}
        return
    for i, j in same:
        values = bound, float(anchor.frame["value"][i]), float(curve.frame["value"][j])
        draws = (
            of_bound,
            _draws(assembled, anchor, parts, i),
            _draws(assembled, curve, parts, j),
        )
        found = {
            "lost": _difference(values, draws, 0, 1),
            "recovered": _difference(values, draws, 2, 1),
            "left": _difference(values, draws, 0, 2),
        }
        notes = [compared.note, *(estimate.why for estimate in found.values())]
        notes.append(about_seeds(curve, anchor))
        yield {
            **about,
            "rate": float(anchor.frame["bpp"][i]),
            **{name: estimate.value for name, estimate in found.items()},
            **{f"{name}_low": estimate.low for name, estimate in found.items()},
            **{f"{name}_high": estimate.high for name, estimate in found.items()},
            "note": "; ".join(dict.fromkeys(filter(None, notes))),
        }


def _same_streams(anchor: Curve, curve: Curve) -> list[tuple[int, int]]:
    """Rows of both curves that have the same bits at the same lambda, where that is known."""
    pairs = []
    for i, row in enumerate(rows_of(anchor.frame)):
        j = point_at(curve, float(row.bpp))
        if j is None:
            continue
        lambdas = {float(row.lmbda), float(curve.frame["lmbda"][j])}
        if len(lambdas) == 1 or any(map(np.isnan, lambdas)):
            pairs.append((i, j))
    return pairs


def _draws(
    assembled: Assembled, curve: Curve, parts: Sequence[tuple[str, str]], row: int
) -> Floats | None:
    """(R,) resampled values of one of a curve's points; None where they are not known."""
    keys = curve.frame["point_keys"][row]
    means = assembled.resampled.mean([(curve.mllm, *part, keys) for part in parts])
    return None if means is None else means[1]


def _difference(
    values: tuple[float, ...], draws: tuple[Floats | None, ...], more: int, less: int
) -> Estimate:
    """One value minus another, with the interval of the paired difference."""
    number = values[more] - values[less]
    if np.isnan(number):
        return Estimate(why="there is no bound")
    minuend, subtrahend = draws[more], draws[less]
    if minuend is None or subtrahend is None:
        return Estimate(number, why=_NO_SAMPLES)
    low, high, defined = interval_of(minuend - subtrahend)
    return Estimate(number, low, high, defined)
