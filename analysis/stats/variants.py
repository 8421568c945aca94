"""What a space's variants change: a table over the variants.

curves of the mean over tasks, their comparison with the anchor
    --> per codec, MLLM, scenario and variant: accuracy, PSNR, BD-rate
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.curves.curve import MEAN, Curve, of_variant
from analysis.io.frames import rows_of
from analysis.stats.anchor import against_anchors
from analysis.stats.pairs import Estimate, Pair

NAN: Final = float("nan")


@dataclass
class Row:
    """A scenario under one variant; the columns of `ablation`'s frame.

    `accuracy` is the mean over tasks and over the rates that all variants of the scenario have;
    `variant` is empty for what all variants share. `gained` is the accuracy over the anchor's at
    `matched_bpp`, the geometric middle of the bits that all curves of the codec have with their
    anchors; NaN where they share none. What all variants share has no `gained`.
    """

    mllm: str
    codec: str
    scenario: str
    variant: str
    settings: str
    n_rates: int
    bpp: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    bd_rate: float
    bd_rate_low: float
    bd_rate_high: float
    matched_bpp: float
    gained: float
    gained_low: float
    gained_high: float
    psnr: float
    note: str


def ablation(assembled: Assembled, comparison: pd.DataFrame) -> pd.DataFrame:
    """A row per codec, MLLM, scenario and variant, in the space's order of variants.

    Args:
        assembled: the sweep assembled.
        comparison: what `compare` gave.
    """
    variants = assembled.sweep.variants
    heads = {
        (row.mllm, row.codec, row.variant, row.scenario): row
        for row in rows_of(comparison[comparison["task"] == MEAN])
    }
    pairs = _pairs(assembled) if variants else {}
    matched = _matched(pairs)
    groups: dict[tuple[str, str, str], list[Curve]] = {}
    for curve in assembled.means:
        if not curve.frame.empty:
            groups.setdefault((curve.mllm, curve.codec, curve.scenario), []).append(curve)
    rows = []
    for (mllm, codec, scenario), group in groups.items():
        rates = set.intersection(*(set(curve.frame["lmbda"]) for curve in group))
        for variant, settings in {**variants, "": {}}.items():
            variant_curve = _curve_of(variant, group)
            if variant_curve is None or not rates:
                continue
            head = heads[mllm, codec, variant_curve.variant, scenario]
            frame = variant_curve.frame[variant_curve.frame["lmbda"].isin(rates)]
            low, high = _interval(assembled, variant_curve, frame)
            bpp = matched.get((mllm, codec))
            pair = pairs.get((mllm, *variant_curve.owner)) if variant else None
            gained = Estimate() if pair is None or bpp is None else pair.gained(bpp)
            rows.append(
                Row(
                    *(mllm, codec, scenario, variant, _settings_text(settings)),
                    *(len(frame), float(frame["bpp"].mean()), float(frame["value"].mean())),
                    *(low, high, head.bd_rate, head.bd_rate_low, head.bd_rate_high),
                    *(NAN if bpp is None else bpp, gained.value, gained.low, gained.high),
                    *(_psnr(assembled, frame), head.note),
                )
            )
    return pd.DataFrame([asdict(row) for row in rows], columns=list(Row.__dataclass_fields__))


def _pairs(assembled: Assembled) -> dict[tuple[str, str, str, str], Pair]:
    """The curves of the mean over tasks with their anchors, by MLLM, codec, scenario, variant."""
    return {
        (compared.curve.mllm, *compared.curve.owner): compared.pair
        for compared in against_anchors(assembled)
        if compared.curve.task == MEAN and compared.pair is not None and not compared.pair.why
    }


def _matched(pairs: Mapping[tuple[str, str, str, str], Pair]) -> dict[tuple[str, str], float]:
    """By MLLM and codec, the geometric middle of the rates that all curves and anchors have."""
    shared: dict[tuple[str, str], tuple[float, float]] = {}
    for (mllm, codec, *_), pair in pairs.items():
        low, high = shared.get((mllm, codec), (0.0, float("inf")))
        shared[mllm, codec] = max(low, pair.rates.low), min(high, pair.rates.high)
    return {key: (low * high) ** 0.5 for key, (low, high) in shared.items() if low <= high}


def _curve_of(variant: str, group: list[Curve]) -> Curve | None:
    """The curve of a variant, or, without a variant, the curve that all variants share."""
    matching = [
        c for c in group if bool(variant) == bool(c.variant) and of_variant(variant, c.variant)
    ]
    return matching[0] if matching else None


def _settings_text(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{path} = {json.dumps(value)}" for path, value in settings.items())


def _interval(assembled: Assembled, curve: Curve, frame: pd.DataFrame) -> tuple[float, float]:
    parts = [
        (curve.mllm, task.name, task.primary, keys)
        for keys in frame["point_keys"]
        for task in assembled.tasks.values()
    ]
    return assembled.resampled.interval(parts) or (NAN, NAN)


def _psnr(assembled: Assembled, frame: pd.DataFrame) -> float:
    keys = {key for keys in frame["point_keys"] for key in keys}
    points = assembled.sweep.points
    return float(points.loc[points["point_key"].isin(keys), "psnr"].mean())
