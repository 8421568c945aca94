"""Monotone cubic interpolation (PCHIP) of many curves at once, each with its own knots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.sampling.intervals import Floats

Bools = NDArray[np.bool_]


class Pchip:
    """R interpolants through up to P knots each, as scipy's `PchipInterpolator` has them.

    Args:
        x: (R, P) positions.
        y: (R, P) values.
        on: (R, P) which knots are used, at least one in every row; of these x rises strictly.
    """

    def __init__(self, x: Floats, y: Floats, on: Bools) -> None:
        self.size = on.sum(axis=-1)
        """(R,) knots."""
        packed = np.argsort(~on, axis=-1, kind="stable")
        self._x = np.take_along_axis(x, packed, axis=-1)
        self._y = np.take_along_axis(y, packed, axis=-1)
        self.low = self._x[:, 0]
        """(R,) first position."""
        self.high = np.take_along_axis(self._x, self.size[:, None] - 1, axis=-1)[:, 0]
        """(R,) last position."""
        self._slope = np.zeros_like(self._x)
        for size in np.unique(self.size[self.size > 1]):
            rows = self.size == size
            self._slope[rows, :size] = slopes(self._x[rows, :size], self._y[rows, :size])

    def __call__(self, positions: Floats) -> Floats:
        """Values at positions (R,), (1,) or (R, M); nan outside a row's range."""
        if positions.ndim == 1:
            rows = np.broadcast_to(positions, self.low.shape)
            return self._values(rows[:, None])[:, 0]
        return self._values(positions)

    def _values(self, positions: Floats) -> Floats:
        """Values (R, M) at positions (R, M)."""
        low, high = self.low[:, None], self.high[:, None]
        inside = (positions >= low) & (positions <= high)
        last = self._x.shape[1] - 1
        if last == 0:
            return np.where(inside, self._y, np.nan)
        knots = np.where(np.arange(last + 1) < self.size[:, None], self._x, np.inf)
        reached = (positions[:, :, None] >= knots[:, None, :]).sum(axis=-1)
        # A single knot is the left end of a piece that leads nowhere.
        left = np.clip(reached - 1, 0, np.clip(self.size[:, None] - 2, 0, last - 1))
        (a, y0, d0), (b, y1, d1) = (
            [np.take_along_axis(of, end, axis=-1) for of in (self._x, self._y, self._slope)]
            for end in (left, left + 1)
        )
        h = b - a
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (positions - a) / h
            u = 1 - t
            values = (
                y0 * (1 + 2 * t) * u * u
                + y1 * t * t * (3 - 2 * t)
                + d0 * h * t * u * u
                - d1 * h * t * t * u
            )
        values = np.where(self.size[:, None] > 1, values, y0)
        return np.where(inside, values, np.nan)

    def integral(self, low: Floats, high: Floats) -> Floats:
        """Integrals (R,) from low (R,) to high (R,), both within the rows' ranges."""
        total = np.zeros_like(self.low)
        for i in range(self._x.shape[1] - 1):
            rows = self.size > i + 1
            a, b = self._x[rows, i], self._x[rows, i + 1]
            h = b - a
            y0, rise = self._y[rows, i], self._y[rows, i + 1] - self._y[rows, i]
            d0, d1 = self._slope[rows, i] * h, self._slope[rows, i + 1] * h
            # The cubic y0 + d0 t + c2 t^2 + c3 t^3 of this piece, integrated.
            c2, c3 = 3 * rise - 2 * d0 - d1, d0 + d1 - 2 * rise
            ends = ((np.clip(end[rows], a, b) - a) / h for end in (low, high))
            below, above = (t * (y0 + t * (d0 / 2 + t * (c2 / 3 + t * c3 / 4))) for t in ends)
            total[rows] += h * (above - below)
        return total

    def mean_difference(self, base: Pchip, over: tuple[float, float]) -> Floats:
        """Mean (R,) of self minus other over the part of a range that both have; nan without."""
        low = np.maximum(np.maximum(self.low, base.low), over[0])
        high = np.minimum(np.minimum(self.high, base.high), over[1])
        defined = (high > low) & (self.size > 1) & (base.size > 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = (self.integral(low, high) - base.integral(low, high)) / (high - low)
        return np.where(defined, gap, np.nan)


def slopes(x: Floats, y: Floats) -> Floats:
    """Derivatives (R, k) at the knots, x (R, k) strictly rising along k.

    Fritsch and Butland 1984: weighted harmonic means inside, zero where the data turn; the
    three-point formula at the ends, kept to the data's shape.
    """
    h = np.diff(x, axis=-1)
    m = np.diff(y, axis=-1) / h
    if x.shape[-1] == 2:
        return np.repeat(m, 2, axis=-1)
    w1, w2 = 2 * h[:, 1:] + h[:, :-1], h[:, 1:] + 2 * h[:, :-1]
    alike = m[:, :-1] * m[:, 1:] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.where(alike, (w1 + w2) / (w1 / m[:, :-1] + w2 / m[:, 1:]), 0.0)
    first = _end_slope(h[:, 0], h[:, 1], m[:, 0], m[:, 1])
    last = _end_slope(h[:, -1], h[:, -2], m[:, -1], m[:, -2])
    return np.concatenate([first[:, None], inside, last[:, None]], axis=-1)


def _end_slope(h0: Floats, h1: Floats, m0: Floats, m1: Floats) -> Floats:
    slope = ((2 * h0 + h1) * m0 - h0 * m1) / (h0 + h1)
    turned = (np.sign(m0) != np.sign(m1)) & (np.abs(slope) > 3 * np.abs(m0))
    return np.where(np.sign(slope) != np.sign(m0), 0.0, np.where(turned, 3 * m0, slope))
