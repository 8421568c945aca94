"""BD-rate and savings between two rate-accuracy curves, one pair or thousands of resampled pairs.

A curve answers "how many bits for accuracy a?", so accuracy is the axis that is integrated over
and it must rise strictly with the rate. Measured accuracies need not: they saturate, and they dip.
What is compared is therefore the *front*: the points that no cheaper (or equally cheap) point
matches or beats. A user who wants accuracy a would never take a point off the front; no value is
altered and none is invented. Interpolation between front points is monotone (PCHIP of log10 rate
over accuracy): Akima and cubic can swing below and above the points they join.

The other way round, accuracy at a given rate, every measured point counts as it is.

One pair goes through the `bjontegaard` package; `Batch` computes the same for all bootstrap
resamples at once (tests hold the two together).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import isotonic_regression

from analysis.sampling.intervals import Floats
from analysis.sampling.pchip import Bools, Pchip

TIE: Final = 1e-9
"""Accuracies closer than this are equal: means of the same samples differ by rounding."""
ROUNDING: Final = 1e-12
EVERYWHERE: Final = (-np.inf, np.inf)
PACKAGE: Final = {
    "method": "pchip",
    "require_matching_points": False,
    "min_overlap": 0,  # the share of the overlap is reported with the number instead
}
"""How `bjontegaard` is asked."""


def front(rate: Floats, accuracy: Floats) -> Bools:
    """Which points are on the front.

    Args:
        rate: (..., P) bits per pixel, rising along the last axis.
        accuracy: (..., P).

    Returns:
        (..., P) true where the accuracy is above that of every point before.
    """
    best = np.maximum.accumulate(accuracy, axis=-1)
    first = np.ones_like(best[..., :1], dtype=bool)
    return np.concatenate([first, accuracy[..., 1:] > best[..., :-1] + TIE], axis=-1)


def pooled(rate: Floats, accuracy: Floats) -> tuple[Floats, Floats]:
    """A curve that leaves no point out: neighbours that do not rise become one point.

    The pools are those of isotonic regression (Barlow and others 1972, "Statistical inference under
    order restrictions"). A front keeps a lucky point and leaves out the unlucky ones behind it; a
    pool has all of them, at their mean. Where a comparison says something else of pools than of
    fronts, it hangs on the points that were left out.

    Args:
        rate, accuracy: (P,) by rising rate.

    Returns:
        (Q,) rates, means of logarithms, and (Q,) strictly rising accuracies, Q <= P.
    """
    rising = isotonic_regression(accuracy).x
    starts = np.flatnonzero(np.diff(rising, prepend=-np.inf) > TIE)
    sizes = np.diff([*starts, len(rate)])
    logs, accuracies = (
        np.add.reduceat(values, starts) / sizes for values in (np.log10(rate), accuracy)
    )
    return 10**logs, accuracies


def snapped(accuracy: Floats, known: Floats) -> Floats:
    """Accuracies (P,), those within `TIE` of a known one (Q,) replaced by the nearest of these.

    The mean of three equal accuracies may differ from them in the last digit, by which two curves
    that meet would share no accuracy.
    """
    nearest = known[np.abs(accuracy[:, None] - known).argmin(axis=1)]
    return np.where(np.abs(nearest - accuracy) <= TIE, nearest, accuracy)


def distinct(rate: Floats) -> Bools:
    """Which points (..., P), by rising rate and falling accuracy, are the first of their rate."""
    first = np.ones_like(rate[..., :1], dtype=bool)
    return np.concatenate([first, np.diff(np.log10(rate), axis=-1) > TIE], axis=-1)


@dataclass(frozen=True)
class Overlap:
    """Accuracies (or rates) that two curves share.

    Attributes:
        low, high: the shared range; low >= high where there is none.
        share: its length over that of the union of both ranges, 0 to 1.
    """

    low: float
    high: float
    share: float


def overlap(a: Floats, b: Floats) -> Overlap:
    """Overlap of the accuracies (P,) and (Q,) of two fronts, or of two curves' rates."""
    low, high = max(a.min(), b.min()), min(a.max(), b.max())
    union = max(a.max(), b.max()) - min(a.min(), b.min())
    return Overlap(float(low), float(high), float(max(high - low, 0) / union) if union else 0.0)


def bd_rate(
    anchor_rate: Floats,
    anchor_accuracy: Floats,
    test_rate: Floats,
    test_accuracy: Floats,
    over: tuple[float, float] = EVERYWHERE,
) -> float:
    """BD-rate in percent over the shared accuracies; negative where the test curve saves bits.

    Bjontegaard 2001, "Calculation of average PSNR differences between RD-curves", VCEG-M33.

    Args:
        anchor_rate, anchor_accuracy: (P,) a front with two or more points, by rising rate.
        test_rate, test_accuracy: (Q,) likewise.
        over: accuracies that count; a part of the shared ones, which the package cannot take.

    Returns:
        Percent; nan where the fronts share no range of accuracies or one has a single point.
    """
    shared = overlap(anchor_accuracy, test_accuracy)
    if over != EVERYWHERE:
        base = _repeated(anchor_rate, anchor_accuracy, 1)
        return float(_repeated(test_rate, test_accuracy, 1).bd_rate(base, over)[0])
    return _by_package("bd_rate", shared, anchor_rate, anchor_accuracy, test_rate, test_accuracy)


def bd_accuracy(
    anchor_rate: Floats, anchor_accuracy: Floats, test_rate: Floats, test_accuracy: Floats
) -> float:
    """Mean accuracy gained over the shared range of log rates; positive where the test is better.

    In the metric's own unit. Accuracy is a function of rate whether it rises or not, so all points
    count here, not the front alone.

    Args:
        anchor_rate, anchor_accuracy: (P,) by strictly rising rate.
        test_rate, test_accuracy: (Q,) likewise.

    Returns:
        The gain; nan where the curves share no range of rates or one has a single point.
    """
    shared = overlap(anchor_rate, test_rate)
    return _by_package("bd_psnr", shared, anchor_rate, anchor_accuracy, test_rate, test_accuracy)


def _by_package(name: str, shared: Overlap, *curves: Floats) -> float:
    """A number of the `bjontegaard` package; nan without a shared range or of a single point."""
    if shared.high <= shared.low or min(map(len, curves)) < 2:
        return float("nan")
    import bjontegaard  # imports pyplot, which whoever only writes points need not wait for

    return float(getattr(bjontegaard, name)(*curves, **PACKAGE))


def rate_at(rate: Floats, accuracy: Floats, accuracies: Floats) -> Floats:
    """Bits per pixel (T,) that a front (P,) needs for accuracies (T,); nan outside its range."""
    return _repeated(rate, accuracy, len(accuracies)).rate_at(accuracies)


def accuracy_at(rate: Floats, accuracy: Floats, rates: Floats) -> Floats:
    """Accuracies (T,) of a curve (P,) at rates (T,); nan outside its range."""
    return _repeated(rate, accuracy, len(rates)).accuracy_at(rates)


class Batch:
    """R resampled curves: log10 rate over accuracy on their fronts, and accuracy over log10 rate.

    Args:
        rate, accuracy: (R, P); points need not be sorted and fronts may differ between rows.
    """

    def __init__(self, rate: Floats, accuracy: Floats) -> None:
        self.points = accuracy
        """(R, P) accuracies of the points as they were given."""
        order = np.lexsort((-accuracy, rate), axis=-1)
        rate = np.take_along_axis(rate, order, axis=-1)
        accuracy = np.take_along_axis(accuracy, order, axis=-1)
        log_rate = np.log10(rate)
        self.rates = Pchip(accuracy, log_rate, front(rate, accuracy))
        """log10 rate over accuracy."""
        self.accuracies = Pchip(log_rate, accuracy, distinct(rate))
        """Accuracy over log10 rate."""
        self.log_rate, self.accuracy = log_rate, accuracy
        """(R, P) the points, by rising rate."""

    def rate_at(self, accuracies: Floats) -> Floats:
        """Bits per pixel (R,) at accuracies (R,) or (1,); nan outside a row's range."""
        out: Floats = 10 ** self.rates(accuracies)
        return out

    def accuracy_at(self, rates: Floats) -> Floats:
        """Accuracies (R,) at rates (R,) or (1,) in bits per pixel; nan outside a row's range."""
        log_rates = np.log10(rates)
        ends = self.accuracies.low, self.accuracies.high
        # A rate at the very end of a curve is inside, however log10 rounds.
        near = [np.isclose(log_rates, end, rtol=0, atol=ROUNDING) for end in ends]
        return self.accuracies(np.select(near, ends, log_rates))

    def accuracy_held(self, rate: float) -> Floats:
        """Accuracies (R,) at a rate of the measured curve. Where a resample's curve ends short of
        it, as one in two does at the very end, that of its end."""
        low, high = 10**self.accuracies.low, 10**self.accuracies.high
        return self.accuracy_at(np.clip(np.array([rate]), low, high))

    def bd_rate(self, anchor: Batch, over: tuple[float, float] = EVERYWHERE) -> Floats:
        """BD-rates (R,) in percent against the anchor, row by row; nan where there is none.

        Args:
            over: accuracies that count, as far as both curves have them.
        """
        return 100 * (10 ** self.rates.mean_difference(anchor.rates, over) - 1)

    def bd_accuracy(self, anchor: Batch) -> Floats:
        """BD-accuracies (R,) against the anchor, row by row; nan where there is none."""
        return self.accuracies.mean_difference(anchor.accuracies, EVERYWHERE)


def _repeated(rate: Floats, accuracy: Floats, n: int) -> Batch:
    """The same curve n times."""
    return Batch(np.tile(rate, (n, 1)), np.tile(accuracy, (n, 1)))
