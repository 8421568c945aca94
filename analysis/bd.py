"""BD-rate and savings between two rate-accuracy curves, one pair or thousands of resampled pairs.

A curve answers "how many bits for accuracy a?", so accuracy is the axis that is integrated over
and it must rise strictly with the rate. Measured accuracies need not: they saturate, and they dip.
What is compared is therefore the *front*: the points that no cheaper (or equally cheap) point
matches or beats. A user who wants accuracy a would never take a point off the front; no value is
altered and none is invented. Interpolation between front points is monotone (PCHIP of log10 rate
over accuracy): Akima and cubic can swing below and above the points they join.

One pair goes through the `bjontegaard` package; `Batch` computes the same for all bootstrap
resamples at once (tests hold the two together).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.intervals import Floats

Bools = NDArray[np.bool_]

TIE: Final = 1e-9
"""Accuracies closer than this are equal: means of the same samples differ by rounding."""


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


@dataclass(frozen=True)
class Overlap:
    """Accuracies that two fronts share.

    Attributes:
        low, high: the shared range; low >= high where there is none.
        share: its length over that of the union of both ranges, 0 to 1.
    """

    low: float
    high: float
    share: float


def overlap(a: Floats, b: Floats) -> Overlap:
    """Overlap of the accuracies (P,) and (Q,) of two fronts."""
    low, high = max(a.min(), b.min()), min(a.max(), b.max())
    union = max(a.max(), b.max()) - min(a.min(), b.min())
    return Overlap(float(low), float(high), float(max(high - low, 0) / union) if union else 0.0)


def bd_rate(
    anchor_rate: Floats, anchor_accuracy: Floats, test_rate: Floats, test_accuracy: Floats
) -> float:
    """BD-rate in percent over the shared accuracies; negative where the test curve saves bits.

    Args:
        anchor_rate, anchor_accuracy: (P,) a front with two or more points, by rising rate.
        test_rate, test_accuracy: (Q,) likewise.

    Returns:
        Percent; nan where the fronts share no range of accuracies or one has a single point.
    """
    shared = overlap(anchor_accuracy, test_accuracy)
    if shared.high <= shared.low or min(len(anchor_rate), len(test_rate)) < 2:
        return float("nan")
    import bjontegaard  # imports pyplot, which whoever only writes points need not wait for

    return float(
        bjontegaard.bd_rate(
            anchor_rate,
            anchor_accuracy,
            test_rate,
            test_accuracy,
            method="pchip",
            require_matching_points=False,
            min_overlap=0,  # the share of the overlap is reported with the number instead
        )
    )


def rate_at(rate: Floats, accuracy: Floats, at: Floats) -> Floats:
    """Bits per pixel (T,) that a front needs for accuracies `at` (T,); nan outside its range."""
    inside = (at >= accuracy.min()) & (at <= accuracy.max())
    if len(rate) < 2:
        return np.where(inside, rate[0], np.nan)
    batch = Batch(rate[None], accuracy[None])
    out = np.array([batch.rate_at(np.array([a]))[0] for a in at], dtype=np.float64)
    return np.where(inside, out, np.nan)


class Batch:
    """R resampled curves as PCHIP interpolants of log10 rate over accuracy, on their fronts.

    Args:
        rate, accuracy: (R, P); points need not be sorted and fronts may differ between rows.
    """

    def __init__(self, rate: Floats, accuracy: Floats) -> None:
        order = np.lexsort((-accuracy, rate), axis=-1)
        rate = np.take_along_axis(rate, order, axis=-1)
        accuracy = np.take_along_axis(accuracy, order, axis=-1)
        on = front(rate, accuracy)
        self.size = on.sum(axis=-1)
        """(R,) points on the front."""
        packed = np.argsort(~on, axis=-1, kind="stable")
        y = np.take_along_axis(np.log10(rate), packed, axis=-1)
        x = np.take_along_axis(accuracy, packed, axis=-1)
        self.low = x[:, 0]
        """(R,) lowest accuracy of the front."""
        self.high = np.take_along_axis(x, self.size[:, None] - 1, axis=-1)[:, 0]
        """(R,) highest accuracy of the front."""
        self._x, self._y = x, y
        self._slope = np.zeros_like(x)
        for size in np.unique(self.size[self.size > 1]):
            rows = self.size == size
            self._slope[rows, :size] = _slopes(x[rows, :size], y[rows, :size])

    def rate_at(self, at: Floats) -> Floats:
        """Bits per pixel (R,) at accuracies (R,) or (1,); nan outside a row's range."""
        at = np.broadcast_to(at, self.low.shape)
        out = np.full(self.low.shape, np.nan)
        for i in range(self._x.shape[1] - 1):
            a, b = self._x[:, i], self._x[:, i + 1]
            rows = (self.size > i + 1) & (at >= a) & (at <= b)
            if rows.any():
                h = (b - a)[rows]
                t = (at - a)[rows] / h
                out[rows] = 10 ** (
                    self._y[rows, i] * (1 + 2 * t) * (1 - t) ** 2
                    + self._y[rows, i + 1] * t**2 * (3 - 2 * t)
                    + self._slope[rows, i] * h * t * (1 - t) ** 2
                    + self._slope[rows, i + 1] * h * t**2 * (t - 1)
                )
        return out

    def integral(self, low: Floats, high: Floats) -> Floats:
        """Integral (R,) of log10 rate over accuracy from low (R,) to high (R,) within the range."""
        total = np.zeros_like(self.low)
        for i in range(self._x.shape[1] - 1):
            rows = self.size > i + 1
            a, b = self._x[rows, i], self._x[rows, i + 1]
            h = b - a
            ends = [(np.clip(end[rows], a, b) - a) / h for end in (low, high)]
            y0, y1 = self._y[rows, i], self._y[rows, i + 1]
            d0, d1 = self._slope[rows, i] * h, self._slope[rows, i + 1] * h
            at_low, at_high = (
                h
                * (
                    y0 * (t - t**3 + t**4 / 2)
                    + y1 * (t**3 - t**4 / 2)
                    + d0 * (t**2 / 2 - 2 * t**3 / 3 + t**4 / 4)
                    + d1 * (t**4 / 4 - t**3 / 3)
                )
                for t in ends
            )
            total[rows] += at_high - at_low
        return total

    def bd_rate(self, anchor: Batch) -> Floats:
        """BD-rates (R,) in percent against the anchor, row by row; nan where there is none."""
        low, high = np.maximum(self.low, anchor.low), np.minimum(self.high, anchor.high)
        defined = (high > low) & (self.size > 1) & (anchor.size > 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = (self.integral(low, high) - anchor.integral(low, high)) / (high - low)
        return np.where(defined, 100 * (10**gap - 1), np.nan)


def _slopes(x: Floats, y: Floats) -> Floats:
    """PCHIP derivatives (R, k) at the knots, x and y (R, k) both strictly rising along k.

    Fritsch and Butland 1984: weighted harmonic means inside, three-point formula at the ends,
    kept monotone. As in scipy.interpolate.PchipInterpolator.
    """
    h = np.diff(x, axis=-1)
    m = np.diff(y, axis=-1) / h
    if x.shape[-1] == 2:
        return np.repeat(m, 2, axis=-1)
    w1, w2 = 2 * h[:, 1:] + h[:, :-1], h[:, 1:] + 2 * h[:, :-1]
    inside = (w1 + w2) / (w1 / m[:, :-1] + w2 / m[:, 1:])
    first = _end_slope(h[:, 0], h[:, 1], m[:, 0], m[:, 1])
    last = _end_slope(h[:, -1], h[:, -2], m[:, -1], m[:, -2])
    return np.concatenate([first[:, None], inside, last[:, None]], axis=-1)


def _end_slope(h0: Floats, h1: Floats, m0: Floats, m1: Floats) -> Floats:
    slope = ((2 * h0 + h1) * m0 - h0 * m1) / (h0 + h1)
    return np.where(slope <= 0, 0.0, slope)  # m0, m1 > 0: the other rule, 3 m0, cannot apply
