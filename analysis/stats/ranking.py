"""Curves of one anchor ranked: BD-rates over one range of accuracies, and each against the next.

BD-rates over different ranges are averages of different things. A ranking is over the accuracies
that all of its curves share with the anchor. There the BD-rate of two curves against each other is
the ratio of theirs against the anchor, in every resample too: it is what tells two curves apart,
as intervals against the anchor, which both share, cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.stats.pairs import Estimate, Pair

NARROWEST: Final = 0.1
"""Share of the anchor's accuracies that a ranking is at least over."""


@dataclass(frozen=True)
class Ranked:
    """A curve in its ranking.

    Attributes:
        pair: the curve against the anchor.
        low, high: the accuracies that all of the ranking share.
        bd_rate: over these.
        next_name: the next curve in the ranking; empty for the last.
        against_next: BD-rate against that curve, over these accuracies.
    """

    pair: Pair
    low: float
    high: float
    bd_rate: Estimate
    next_name: str
    against_next: Estimate


def ranked(pairs: Iterable[Pair]) -> list[Ranked]:
    """Curves by rising BD-rate over the accuracies that they all share.

    These are at least `NARROWEST` of the anchor's: curves that leave less, first those that leave
    least, are in no ranking.

    Args:
        pairs: curves against one anchor, of one MLLM and task, each with a BD-rate of its own.
    """
    group = list(pairs)
    while len(group) > 1 and _width(group) < NARROWEST * np.ptp(group[0].fronts[0][1]):
        group = max(([p for p in group if p is not left_out] for left_out in group), key=_width)
    if not group:
        return []
    low, high = _common(group)
    rates = [(pair, pair.bd_rate((low, high))) for pair in group]
    rates.sort(key=lambda rate: rate[1].value)
    return [
        Ranked(pair, low, high, rate, *_against(pair, [p for p, _ in rates[i + 1 :]], (low, high)))
        for i, (pair, rate) in enumerate(rates)
    ]


def _common(group: Sequence[Pair]) -> tuple[float, float]:
    """The accuracies that all curves share with the anchor."""
    accuracies = [pair.accuracies for pair in group]
    return max(a.low for a in accuracies), min(a.high for a in accuracies)


def _width(group: Sequence[Pair]) -> float:
    """How many accuracies these are; negative where there are none."""
    low, high = _common(group)
    return float(high - low)


def _against(pair: Pair, after: Sequence[Pair], over: tuple[float, float]) -> tuple[str, Estimate]:
    """Name of the next curve, and the BD-rate against it."""
    if not after:
        return "", Estimate()
    following = after[0].test
    name = " ".join(filter(None, [following.display_name, following.variant]))
    return name, pair.against(following).bd_rate(over)
