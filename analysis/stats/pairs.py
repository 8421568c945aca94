"""Every number that compares two curves, with its interval or the reason why there is none.

    anchor, test --fronts--> BD-rate, bits saved at an accuracy, relative difference over accuracy
                --points--> BD-accuracy, accuracy gained at a rate

Intervals are 95 %, paired (`bootstrap.Resampled`): percentiles of the resampled numbers, for which
fronts are taken anew in each resample; of bits saved at an accuracy by `inversion`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd

from analysis.curves.curve import Curve
from analysis.curves.tasks import Floor
from analysis.sampling import bd
from analysis.sampling.bootstrap import Key, Resampled
from analysis.sampling.intervals import Floats, interval_of
from analysis.sampling.inversion import Arrays, Inversion

NAN: Final = float("nan")
LEAST: Final = 0.25
"""Share of the accuracies of two curves below which their overlap makes no BD-rate."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: nan where there is no such number.
        low, high: nan where there is no interval. Of a saving, -inf and 100 where an end is beyond
            the measured rates.
        defined: share of the resamples that have a number; nan where the interval is not made of
            resampled numbers.
        why: why the number or the interval is not there; empty otherwise.
    """

    value: float = NAN
    low: float = NAN
    high: float = NAN
    defined: float = NAN
    why: str = ""


class Pair:
    """A curve against another.

    Args:
        anchor, test: curves of one MLLM, task and metric; the numbers say what the test gains.
        resampled: their samples; None for no intervals.
        parts: the (task, metric) pairs that the curves are the mean of; by default their own.
        floor: value that guessing gives, or the metric's lowest, where that is known: curves that
            never leave it have an accuracy that says nothing about bits, and so neither BD-rate nor
            savings.

    Attributes:
        accuracies: range of accuracies that both fronts have.
        rates: range of rates that both curves have.
        why: why no number at all can be given; empty where some can.
    """

    def __init__(
        self,
        anchor: Curve,
        test: Curve,
        resampled: Resampled | None = None,
        parts: Sequence[tuple[str, str]] | None = None,
        floor: Floor | None = None,
    ) -> None:
        self.anchor, self.test = anchor, test
        self._floor = floor
        self._resampled = resampled
        self._parts = [(test.task, test.metric)] if parts is None else list(parts)
        self.why = _unusable(anchor) or _unusable(test)
        if self.why:
            return
        base, (rate, accuracy) = arrays(anchor), arrays(test)
        self._points = base, (rate, bd.snapped(accuracy, base[1]))
        self.fronts = front_of(self._points[0]), front_of(self._points[1])
        """Rates and accuracies of the anchor's front and the test's; accuracies that differ by
        rounding alone are the same number."""
        self.accuracies = bd.overlap(self.fronts[0][1], self.fronts[1][1])
        self.rates = bd.overlap(self._points[0][0], self._points[1][0])

    @property
    def identical(self) -> bool:
        """Whether both curves have the same points, but for rounding."""
        (rate, value), (other_rate, other_value) = self._points
        return np.array_equal(value, other_value) and np.allclose(
            rate, other_rate, rtol=bd.TIE, atol=0
        )

    def against(self, other: Curve) -> Pair:
        """The same test curve against another one."""
        return Pair(other, self.test, self._resampled, self._parts, self._floor)

    def bd_rate(self, over: tuple[float, float] = bd.EVERYWHERE) -> Estimate:
        """BD-rate in percent; negative where bits are saved.

        Args:
            over: accuracies that count, of those that both curves have; where that is everything,
                there is no number for curves that share less than `LEAST` of theirs.
        """
        if why := self.why or self.at_floor or self._single(self.fronts, "usable point"):
            return Estimate(why=why)
        if why := self._apart():
            return Estimate(why=why)
        if over == bd.EVERYWHERE and (shared := self.accuracies).share < LEAST:
            return Estimate(
                why=f"accuracies {shared.low:.2f} to {shared.high:.2f} are shared, "
                f"{shared.share:.0%} of both curves', under {LEAST:.0%}"
            )
        (anchor_rate, anchor_value), (rate, value) = self.fronts
        number = bd.bd_rate(anchor_rate, anchor_value, rate, value, over)
        return self._with_interval(number, lambda base, test: test.bd_rate(base, over))

    def bd_rate_pooled(self) -> float:
        """BD-rate in percent with the points that are on no front (`bd.pooled`).

        Nan where every point is on its front, where there is no BD-rate, and where the pools make
        none.
        """
        is_front = [len(f[0]) == len(p[0]) for f, p in zip(self.fronts, self._points, strict=True)]
        if all(is_front) or np.isnan(self.bd_rate().value):
            return NAN
        (anchor_rate, anchor_value), (rate, value) = (bd.pooled(*p) for p in self._points)
        return bd.bd_rate(anchor_rate, anchor_value, rate, value)

    @property
    def at_floor(self) -> str:
        """Which of the curves never leaves the floor; empty where none is known not to."""
        for curve in (self.anchor, self.test):
            if self._floor is not None and is_at(curve, self._floor.value):
                return f"{curve.display_name} never leaves {self._floor.words}"
        return ""

    def bd_accuracy(self) -> Estimate:
        """BD-accuracy in the metric's unit: the mean gain over the log rates that both have."""
        if why := self.why or self._single(self._points, "point"):
            return Estimate(why=why)
        if self.rates.high <= self.rates.low:
            return Estimate(why="no rate that both have")
        (anchor_rate, anchor_value), (rate, value) = self._points
        number = bd.bd_accuracy(anchor_rate, anchor_value, rate, value)
        return self._with_interval(number, lambda base, test: test.bd_accuracy(base))

    def saved(self, accuracy: float) -> Estimate:
        """Percent of the anchor's bits that the test saves at an accuracy; negative: needs more."""
        if why := self.why or self.at_floor:
            return Estimate(why=why)
        measured = np.concatenate([value for _, value in self.fronts])
        accuracy = float(bd.snapped(np.array([accuracy]), measured)[0])
        if why := self._beyond(accuracy):
            return Estimate(why=why)
        number = float(self.saved_at(np.array([accuracy]))[0])
        if isinstance(self._inversion, str):
            return Estimate(number, why=f"no interval: {self._inversion}")
        low, high = self._saved_interval(accuracy, number)
        if np.isnan(low) and np.isnan(high):
            return Estimate(number, why="no interval: its ends are beyond the measured rates")
        # Beyond the lowest rate all bits may be saved, beyond the highest any number added.
        return Estimate(
            number, -np.inf if np.isnan(low) else low, 100.0 if np.isnan(high) else high
        )

    def saved_at(self, accuracies: Floats) -> Floats:
        """Percent saved at accuracies (T,), without intervals; nan outside both fronts."""
        base, test = (bd.rate_at(*front, accuracies) for front in self.fronts)
        return _saving(base, test)

    def gained(self, rate: float) -> Estimate:
        """Accuracy that the test gains at a rate in bits per pixel, in the metric's unit."""
        if self.why:
            return Estimate(why=self.why)
        grid = np.array([rate])
        for curve, (rates, _) in zip((self.anchor, self.test), self._points, strict=True):
            if not rates[0] * (1 - bd.TIE) <= rate <= rates[-1] * (1 + bd.TIE):
                return Estimate(
                    why=f"{rate:.3g} bpp is outside {curve.display_name}'s "
                    f"{rates[0]:.3g} to {rates[-1]:.3g}"
                )
        (base_rate, base_value), (test_rate, test_value) = self._points
        number = (
            bd.accuracy_at(test_rate, test_value, grid)[0]
            - bd.accuracy_at(base_rate, base_value, grid)[0]
        )
        at = [_point_at(curve, rate) for curve in (self.anchor, self.test)]
        if None not in at:  # both have a point there: a plain paired difference
            return self._with_interval(
                float(number), lambda base, test: test.points[:, at[1]] - base.points[:, at[0]]
            )
        return self._with_interval(
            float(number), lambda base, test: test.accuracy_held(rate) - base.accuracy_held(rate)
        )

    def relative_difference(self, n: int = 101) -> pd.DataFrame:
        """The rate's relative difference at each accuracy that both have, for a plot.

        Args:
            n: accuracies, evenly over the shared range; the measured ones inside it come on top.

        Returns:
            Columns `accuracy, change` (percent, negative where bits are saved), `low, high`
            (pointwise 95 %), `measured` (`anchor`, `test`, `both` or empty); empty without overlap,
            and where a curve never leaves the floor.
        """
        columns = ["accuracy", "change", "low", "high", "measured"]
        if self.why or self.at_floor or self.accuracies.high < self.accuracies.low:
            return pd.DataFrame({name: pd.Series(dtype="float64") for name in columns[:-1]}).assign(
                measured=pd.Series(dtype="str")
            )
        low, high = self.accuracies.low, self.accuracies.high
        (_, anchor_value), (_, value) = self.fronts
        grid = np.unique(np.concatenate([np.linspace(low, high, n), anchor_value, value]))
        grid = grid[(grid >= low) & (grid <= high)]
        where = np.char.add(
            np.where(np.isin(grid, anchor_value), "anchor", ""),
            np.where(np.isin(grid, value), "test", ""),
        )
        saved = self.saved_at(grid)
        ends = np.array([self._saved_interval(*pair) for pair in zip(grid, saved, strict=True)])
        ends[np.isnan(ends).any(axis=1)] = NAN  # a band has both ends
        return pd.DataFrame(
            {
                "accuracy": grid,
                "change": -saved,
                "low": -ends[:, 1],
                "high": -ends[:, 0],
                "measured": pd.Series(where, dtype="str").replace("anchortest", "both"),
            }
        )

    def _saved_interval(self, accuracy: float, number: float) -> tuple[float, float]:
        """Interval in percent of the number saved at an accuracy.

        An end that is beyond the measured rates is nan. Where the samples vary not at all the
        interval is the number, which rounding is kept from leaving out.
        """
        if isinstance(self._inversion, str):
            return NAN, NAN
        low, high = (100 * (1 - 10**end) for end in self._inversion.interval(accuracy)[::-1])
        return float(np.minimum(low, number)), float(np.maximum(high, number))

    @cached_property
    def _inversion(self) -> Inversion | str:
        """What gives the intervals of savings, or why there are none."""
        if isinstance(self._batches, str):
            return self._batches
        return Inversion(self.fronts, self._batches)

    @cached_property
    def _batches(self) -> tuple[bd.Batch, bd.Batch] | str:
        """Anchor and test in every resample, or why there are none."""
        if self._resampled is None:
            return "per-sample values are not known"
        if any((self.test.mllm, *part) in self._resampled.disagree for part in self._parts):
            return "the per-sample values do not average to the points"
        batches = [self._resample(curve, self._resampled) for curve in (self.anchor, self.test)]
        base, test = batches
        if base is None or test is None:
            return "per-sample values are not known"
        return base, test

    def _resample(self, curve: Curve, resampled: Resampled) -> bd.Batch | None:
        means_of_rates = []
        for keys in curve.frame["point_keys"]:
            wanted: list[Key] = [(curve.mllm, task, metric, keys) for task, metric in self._parts]
            means = resampled.mean(wanted)
            if means is None:
                return None
            means_of_rates.append(means)
        return bd.Batch(
            np.stack([f[0] for f in means_of_rates], 1), np.stack([f[1] for f in means_of_rates], 1)
        )

    def _with_interval(
        self, number: float, statistic: Callable[[bd.Batch, bd.Batch], Floats]
    ) -> Estimate:
        if isinstance(self._batches, str):
            return Estimate(number, why=f"no interval: {self._batches}")
        with np.errstate(invalid="ignore", divide="ignore"):
            low, high, defined = interval_of(statistic(*self._batches))
        why = "" if np.isfinite(low) else f"no interval: defined in {defined:.0%} of the resamples"
        return Estimate(number, low, high, defined, why)

    def _single(self, curves: tuple[Arrays, Arrays], kind: str) -> str:
        for curve, (rate, _) in zip((self.anchor, self.test), curves, strict=True):
            if len(rate) < 2:
                return f"{curve.display_name} has a single {kind}"
        return ""

    def _beyond(self, accuracy: float) -> str:
        """Why there is no saving at an accuracy."""
        for curve, (_, value) in zip((self.anchor, self.test), self.fronts, strict=True):
            name, worst, best = curve.display_name, value[0], value[-1]
            if accuracy > best:
                return f"{name} does not reach {accuracy:.3f} (its best is {best:.3f})"
            if accuracy < worst:
                return f"{name} is above {accuracy:.3f} everywhere (from {worst:.3f} on)"
        return ""

    def _apart(self) -> str:
        """Why there is no BD-rate where the accuracies do not meet, and what can be said."""
        if self.accuracies.high > self.accuracies.low:
            return ""
        (anchor_rate, anchor_value), (rate, value) = self.fronts
        name = self.anchor.display_name
        if value[0] >= anchor_value[-1]:
            saved = 100 * (1 - rate[0] / anchor_rate[-1])
            how = f"{saved:.0f} % fewer" if saved >= 0 else f"{-saved:.0f} % more"
            return (
                f"no overlap, every point is at or above {name}'s best "
                f"({value[0]:.3f}, {anchor_value[-1]:.3f}), the cheapest with {how} bits than that"
            )
        return (
            f"no overlap, its best {value[-1]:.3f} is at or below {name}'s "
            f"lowest {anchor_value[0]:.3f}"
        )


def arrays(curve: Curve) -> Arrays:
    """A curve's points by strictly rising rate; of several at one rate the best."""
    rate = curve.frame["bpp"].to_numpy(dtype=np.float64)
    accuracy = curve.frame["value"].to_numpy(dtype=np.float64)
    order = np.lexsort((-accuracy, rate))
    first = bd.distinct(rate[order])
    return rate[order][first], accuracy[order][first]


def front_of(points: Arrays) -> Arrays:
    """The points, by rising rate, that no cheaper one matches or beats."""
    rate, accuracy = points
    on = bd.front(rate, accuracy)
    return rate[on], accuracy[on]


def is_at(curve: Curve, floor: float) -> bool:
    """Whether a floor is within the interval of, or above, every point of a curve.

    A point at the floor itself is at it where its interval begins above: that of no right answer
    (`intervals.fraction_prior`) leaves out 0.
    """
    low = curve.frame[["low", "value"]].min(axis=1)
    return bool((low <= floor + bd.TIE).all())


def _point_at(curve: Curve, rate: float) -> int | None:
    """Which of a curve's points is at a rate; None where none is, or several are."""
    logs = np.log10(curve.frame["bpp"].to_numpy(dtype=np.float64))
    at = np.flatnonzero(np.abs(logs - np.log10(rate)) < bd.TIE)
    return int(at[0]) if len(at) == 1 else None


def _unusable(curve: Curve) -> str:
    if curve.frame.empty:
        return f"{curve.display_name} has no point"
    if curve.holes:
        gone = ", ".join(f"{x:g}" for x in curve.holes)
        return f"{curve.display_name} has a hole at lambda {gone}"
    return ""


def _saving(anchor: Floats, test: Floats) -> Floats:
    return 100 * (1 - test / anchor)
