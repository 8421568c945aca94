"""The interval of the bits saved at an accuracy, by inverting a test.

    anchor and test in every resample --> accuracies at a grid of rates
    every ratio of the two rates: are both curves at the accuracy there? --> ratios not rejected

Resampled savings vary too much: where noise bends a curve, the rate at which it reaches an accuracy
jumps, and where the curve ends below that accuracy there is no rate. Accuracies at given rates
always exist and are nearly normal. So each ratio of rates is tested instead (Fieller's way): anchor
and test are taken at two rates of that ratio where their accuracies are the wanted one on average,
and the paired interval of the difference of these accuracies, each in units of its curve's slope,
either holds 0 or does not. Slopes turn an accuracy into a log rate, so that to first order the
answer does not depend on where the two rates are. Where the accuracy is that of a point of the
anchor, the anchor stays at that point's rate: what is saved at a point is asked of the test curve
alone. The interval is all ratios between the outermost that are not rejected; it is open where the
outermost rate is not rejected.

Derivation. Let a be the wanted accuracy, x and y log rates of anchor and test, f and g the curves'
accuracies there, f' and g' their slopes. To first order the curves are at a where x0 = x + (a-f)/f'
and y0 = y + (a-g)/g'. So the log ratio y0 - x0 is y - x exactly where (a-g)/g' = (a-f)/f', that is
where the contrast g' (f-a) - f' (g-a) is 0. That is linear in the estimates f and g, so it is as
nearly normal as they are, with no slope in a denominator: y - x is rejected where the contrast's
interval does not hold 0 (Fieller 1954, "Some problems in interval estimation").
Coverage: tests/benchmarks/coverage.py.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from analysis.sampling import bd
from analysis.sampling.intervals import TAIL, Floats
from analysis.sampling.pchip import Pchip

NODES: Final = 40
"""Steps of the shorter curve; the longer one has as many as it takes, up to `MAX_NODES`."""
MAX_NODES: Final = 160
SLOPE: Final = 0.15
"""Half of the stretch over which a slope is taken, as a share of the curve's log rates."""
TURNED: Final = 500
"""Accuracies at which a measured curve is turned round."""
FRONTS_TURNED: Final = 60
"""And those of a resampled one."""

Arrays = tuple[Floats, Floats]
"""Rates and accuracies (P,) each, by rising rate."""


class Inversion:
    """Anchor and test on a common grid of log rates.

    Where all points are on the fronts, the points' errors move the curves to first order: the
    resamples' own fronts, which chance bends upwards, would add a bias of their own. Elsewhere
    fronts are taken anew in every resample, as which points are on them is a matter of chance.

    Args:
        fronts: rates and accuracies (P,) of the anchor and of the test, by rising rate.
        batches: both curves in R resamples.
    """

    def __init__(
        self,
        fronts: tuple[Arrays, Arrays],
        batches: tuple[bd.Batch, bd.Batch],
    ) -> None:
        self._anchor = fronts[0]
        rising = all(len(f[0]) == b.accuracy.shape[1] for f, b in zip(fronts, batches, strict=True))
        ends = [np.log10([rate[0], rate[-1]]) for rate, _ in fronts]
        lengths = [float(high - low) for low, high in ends]
        shortest = min((length for length in lengths if length > 0), default=1.0)
        self._step = max(shortest / NODES, max(lengths) / MAX_NODES)
        self._curves = [
            _Gridded(front, batch, self._step, rising)
            for front, batch in zip(fronts, batches, strict=True)
        ]

    def interval(self, accuracy: float) -> tuple[float, float]:
        """95 % interval of log10 of the test's rate over the anchor's at equal accuracy.

        An end is nan where it would be beyond the rates that were measured.
        """
        base, test = self._curves
        log_ratios, contrasts = [], []
        at = np.flatnonzero(np.abs(self._anchor[1] - accuracy) < bd.TIE)
        if len(at):
            log_rate = float(np.log10(self._anchor[0][at[0]]))
            place = min((log_rate - base.x[0]) / self._step, len(base.x) - 1)
            anchor = _between(base.resampled, place)
            log_ratios = list(test.x[::-1] - log_rate)
            contrasts = list((anchor[:, None] - test.resampled[:, ::-1]).T)
            return _ends(log_ratios, contrasts)
        for shift in range(1 - len(test.x), len(base.x)):
            node = _meeting(base, test, shift, accuracy)
            if node is not None:
                log_ratios.append(test.x[0] - base.x[0] - shift * self._step)
                contrasts.append(_contrast(base, test, node, node - shift, accuracy))
        return _ends(log_ratios, contrasts) if log_ratios else (np.nan, np.nan)


class _Gridded:
    """A curve at every node: as measured (N,), its slope (N,), and resampled (R, N).

    Numbers are read off log rate over accuracy; the curve here is that one, turned round.
    """

    def __init__(self, front: Arrays, batch: bd.Batch, step: float, rising: bool) -> None:
        log_rate, accuracy = np.log10(front[0]), front[1]
        nodes = 1 + int((log_rate[-1] - log_rate[0]) / step + bd.ROUNDING)
        self.x = log_rate[0] + step * np.arange(nodes)
        self.measured = _turned(log_rate, accuracy, self.x)
        if rising:
            errors = _to_first_order(log_rate, accuracy, batch, self.x)
        else:
            errors = _turned_fronts(batch, self.x) - self.measured
        self.resampled = self.measured + errors
        half = max(1, round(SLOPE * nodes))
        node = np.arange(nodes)
        left, right = np.maximum(node - half, 0), np.minimum(node + half, nodes - 1)
        rise = self.measured[right] - self.measured[left]
        self.slope = np.maximum(rise, 0) / np.maximum(right - left, 1)


def _turned(log_rate: Floats, accuracy: Floats, x: Floats) -> Floats:
    """Accuracies (N,) of a front (P,) at log rates x (N,); beyond its ends those of its ends."""
    grid = np.linspace(accuracy[0], accuracy[-1], TURNED)
    rows = (TURNED, 1)
    on = np.ones((TURNED, len(accuracy)), dtype=bool)
    curve = Pchip(np.tile(accuracy, rows), np.tile(log_rate, rows), on)
    return np.interp(x, curve(np.clip(grid, curve.low, curve.high)), grid)


def _to_first_order(log_rate: Floats, accuracy: Floats, batch: bd.Batch, x: Floats) -> Floats:
    """Errors (R, N) at log rates x (N,) that the points' own errors make, one by one."""
    place = np.stack([log_rate, accuracy])
    off = np.stack([batch.log_rate, batch.accuracy]) - place[:, None]
    errors = np.zeros((off.shape[1], len(x)))
    for axis in range(2):
        gaps = np.diff(place[axis], prepend=-np.inf, append=np.inf)
        for point in range(len(accuracy)):
            size = min(float(off[axis, :, point].std()), gaps[point] / 4, gaps[point + 1] / 4)
            if size == 0:
                continue
            step = np.zeros_like(place)
            step[axis, point] = size
            up, down = place + step, place - step
            rise = _turned(up[0], up[1], x) - _turned(down[0], down[1], x)
            errors += off[axis, :, point, None] * rise / (2 * size)
    return errors


def _turned_fronts(batch: bd.Batch, x: Floats) -> Floats:
    """Accuracies (R, N) of the resamples' own fronts at log rates x (N,)."""
    curve = batch.rates
    low, high = curve.low[:, None], curve.high[:, None]
    grid = np.clip(low + np.linspace(0, 1, FRONTS_TURNED) * (high - low), low, high)
    return np.stack([np.interp(x, *row) for row in zip(curve(grid), grid, strict=True)])


def _meeting(base: _Gridded, test: _Gridded, shift: int, accuracy: float) -> float | None:
    """Where (in nodes of the anchor) both are at an accuracy on average; None if nowhere.

    A curve of one point leaves no choice of the place.
    """
    first, last = max(0, shift), min(len(base.x), len(test.x) + shift) - 1
    if min(len(base.x), len(test.x)) == 1:
        return float(first)
    both = base.measured[first : last + 1] + test.measured[first - shift : last + 1 - shift]
    above = both / 2 - accuracy
    if above[0] > 0 or above.max() < 0:
        return None
    k = int(np.argmax(above >= 0))
    if k == 0:
        return float(first)
    return first + k - float(above[k] / (above[k] - above[k - 1]))


def _contrast(base: _Gridded, test: _Gridded, i: float, j: float, accuracy: float) -> Floats:
    """Resampled (R,) difference of the accuracies at two nodes, in units of both slopes."""
    anchor, test_value = _between(base.resampled, i), _between(test.resampled, j)
    if min(len(base.x), len(test.x)) == 1:
        return anchor - test_value
    weight = _between(test.slope, j), _between(base.slope, i)
    out: Floats = weight[0] * (anchor - accuracy) - weight[1] * (test_value - accuracy)
    return out


def _between(values: Floats, node: float) -> Floats:
    """Values (..., N) at a node, or between two in proportion."""
    low = int(node)
    share = node - low
    if share == 0:
        return np.asarray(values[..., low])
    return np.asarray((1 - share) * values[..., low] + share * values[..., low + 1])


def _ends(log_ratios: list[float], contrasts: list[Floats]) -> tuple[float, float]:
    """The outermost log ratios, falling, whose contrast (R,) is not rejected; nan where open."""
    low, high = np.quantile(np.stack(contrasts, axis=1), [TAIL, 1 - TAIL], axis=0)
    # The contrast rises as the ratio falls: the test is taken at ever lower rates.
    x = np.array(log_ratios)
    return _last_crossing(x, low), _first_crossing(x, high)


def _first_crossing(x: Floats, y: Floats) -> float:
    """Where y first rises through 0; nan if it begins there or never does."""
    up = np.flatnonzero((y[:-1] < 0) & (y[1:] >= 0))
    return np.nan if y[0] >= 0 or not len(up) else _zero(x, y, up[0])


def _last_crossing(x: Floats, y: Floats) -> float:
    """Where y last rises through 0; nan if it ends there or never does."""
    up = np.flatnonzero((y[:-1] <= 0) & (y[1:] > 0))
    return np.nan if y[-1] <= 0 or not len(up) else _zero(x, y, up[-1])


def _zero(x: Floats, y: Floats, k: int) -> float:
    return float(x[k] - y[k] * (x[k + 1] - x[k]) / (y[k + 1] - y[k]))
