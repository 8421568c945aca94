"""Bits saved at stated accuracies, and accuracy gained at stated rates, curve by curve."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.io.frames import rows_of
from analysis.io.schema import AnalysisError
from analysis.stats.anchor import AnchorComparison, against_anchors
from analysis.stats.pairs import Estimate
from analysis.stats.seeds import about_seeds

CURVE: Final = ["mllm", "codec", "variant", "scenario", "task", "metric"]
"""Columns that say which curve a row is of."""


def savings(
    assembled: Assembled,
    targets: Iterable[float] | None = None,
    of_bound: Iterable[float] = (),
    anchor: str | None = None,
    codec: str | None = None,
) -> pd.DataFrame:
    """Bits saved at equal accuracy, with 95 % intervals.

    Args:
        assembled: the sweep assembled.
        targets: accuracies, in the metric's unit; by default, without `of_bound`, the anchor's own.
        of_bound: accuracies as shares of the bound's value, e.g. 0.95.
        anchor, codec: what to compare with, as in `compare`.

    Returns:
        A row per curve and target, one for a curve that is compared with nothing: the curve,
        `target, of_bound` (nan where stated as it is), `saved, saved_low, saved_high` (percent,
        negative: needs more bits) and `note`: why a number or its interval is missing.

    Raises:
        AnalysisError: a target that is no number, or a share that is not above 0.
    """
    stated, shares = _numbers("target", targets or ()), _numbers("of_bound", of_bound, above=0)
    bounds = {(b.mllm, b.task, b.metric): float(b.value) for b in rows_of(assembled.bounds)}
    rows = []
    for compared in against_anchors(assembled, anchor, codec):
        if compared.pair is None:
            if not compared.is_anchor:
                nothing = {"target": np.nan, "of_bound": np.nan}
                rows.append(_row(compared, nothing, "saved", Estimate()))
            continue
        curve = compared.curve
        bound = bounds.get((curve.mllm, curve.task, curve.metric), np.nan)
        wanted = [(target, np.nan) for target in stated]
        wanted += [(share * bound, share) for share in shares]
        if targets is None and not shares:
            wanted = [(float(accuracy), np.nan) for accuracy in compared.pair.anchor.frame["value"]]
        for target, share in wanted:
            unknown = Estimate(why="there is no bound")
            saved = unknown if np.isnan(target) else compared.pair.saved(target)
            rows.append(_row(compared, {"target": target, "of_bound": share}, "saved", saved))
    return _frame(rows, ["target", "of_bound"], "saved")


def gains(
    assembled: Assembled,
    rates: Iterable[float] | None = None,
    anchor: str | None = None,
    codec: str | None = None,
) -> pd.DataFrame:
    """Accuracy gained at equal rate, with 95 % intervals.

    Args:
        assembled: the sweep assembled.
        rates: bits per pixel; by default the anchor's own.
        anchor, codec: what to compare with, as in `compare`.

    Returns:
        A row per curve and rate, one for a curve that is compared with nothing: the curve,
        `rate, gained, gained_low, gained_high` (in the metric's unit, negative: loses) and `note`.

    Raises:
        AnalysisError: a rate that is not above 0.
    """
    stated = _numbers("rate", rates or (), above=0)
    rows = []
    for compared in against_anchors(assembled, anchor, codec):
        if compared.pair is None:
            if not compared.is_anchor:
                rows.append(_row(compared, {"rate": np.nan}, "gained", Estimate()))
        else:
            used_rates = compared.pair.anchor.frame["bpp"] if rates is None else stated
            for rate in used_rates:
                gained = compared.pair.gained(float(rate))
                rows.append(_row(compared, {"rate": float(rate)}, "gained", gained))
    return _frame(rows, ["rate"], "gained")


def _numbers(name: str, values: Iterable[float], above: float = -np.inf) -> list[float]:
    numbers = [float(number) for number in values]
    wrong = [number for number in numbers if not (np.isfinite(number) and number > above)]
    if wrong:
        must = "finite" if above == -np.inf else f"finite and above {above:g}"
        raise AnalysisError(f"{name} {wrong[0]:g}: must be {must}")
    return numbers


def _row(
    compared: AnchorComparison, position: dict[str, float], name: str, estimate: Estimate
) -> dict[str, Any]:
    notes = [
        compared.note,
        estimate.why,
        about_seeds(compared.curve, compared.pair.anchor)
        if compared.pair is not None and np.isfinite(estimate.low)
        else "",
    ]
    return {
        **{column: getattr(compared.curve, column) for column in CURVE},
        **position,
        name: estimate.value,
        f"{name}_low": estimate.low,
        f"{name}_high": estimate.high,
        "note": "; ".join(filter(None, notes)),
    }


def _frame(rows: list[dict[str, Any]], position_columns: list[str], name: str) -> pd.DataFrame:
    columns = [*CURVE, *position_columns, name, f"{name}_low", f"{name}_high", "note"]
    return pd.DataFrame(rows, columns=columns)
