"""Paired bootstrap: all points see the same resampled images, and the same seeds.

Images are drawn with replacement, each with all its samples in all tasks: what one image makes of
several samples is no independent draw (cluster bootstrap; Cameron, Gelbach and Miller 2008). A
point's value in a resample is the mean over its own samples there, so that a sample without an
answer changes nothing else.

Seeds are few, and drawing 3 of 3 with replacement varies far too little. Their part is a multiplier
bootstrap: the seeds' deviations from their mean, each times an independent normal weight, are
added, scaled so that alone they give Student's interval with (seeds - 1) degrees of freedom. All
curves with the same seeds get the same weights, so that they are compared in pairs. The interval of
two seeds would be 12.7 standard errors each way: with two, only samples vary.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import pandas as pd

from analysis.io.schema import MEASURE
from analysis.io.sweep import IMAGE, Sweep
from analysis.sampling.intervals import (
    Floats,
    fraction_prior,
    percentile_interval,
    resampled_means,
)
from analysis.sampling.tables import Ints, Kind, Names, SampleTable, sample_table

AGREE: Final = 1e-6
"""Largest difference between a point's value and the mean of its samples."""
SEEDS: Final = 3
"""Seeds from which on their variation is a part of the intervals."""

Key = tuple[str, str, str, tuple[str, ...]]
"""(mllm, task, metric, point keys of the seeds of one rate)."""


class Resampled:
    """Resampled (bpp, value) of every point of a sweep.

    Images are drawn in one draw for all that was measured on some of the same images; tasks that
    share none are drawn independently.
    """

    def __init__(self, sweep: Sweep, n_resamples: int, seed: int = 0) -> None:
        self._means: dict[tuple[str, str, str, str], tuple[Floats, Floats]] = {}
        self._whole: dict[tuple[str, str, str, str], tuple[float, float, int]] = {}
        """(bpp, value, seed) of the points as they are."""
        self._n, self._seed, self._range_of = n_resamples, seed, sweep.range_of
        self._of_seeds: dict[tuple[int, ...], Floats] = {}
        self.disagree: set[Kind] = set()
        """(mllm, task, metric) whose samples do not average to their points: not resampled."""
        if sweep.samples is None:
            return
        points = sweep.points.drop_duplicates([*MEASURE, "point_key"])
        points = points.set_index([*MEASURE, "point_key"])
        pools = _pools(sweep.samples)
        needed = sweep.samples[[*MEASURE, "point_key", "sample_id", IMAGE, "value", "bpp"]]
        for kind, rows in needed.groupby(MEASURE, sort=False, observed=True):
            name = (str(kind[0]), str(kind[1]), str(kind[2]))
            table = sample_table(rows, ["value", "bpp"])
            with_point = np.array([(*name, key) in points.index for key in table.keys], dtype=bool)
            if len(table.images) < 2 or not with_point.any():
                continue
            stored = points.loc[[(*name, key) for key in table.keys[with_point]]]
            table = table.only(with_point)
            value, bpp = (stored[column].to_numpy(dtype=np.float64) for column in ("value", "bpp"))
            if np.abs(table.means("value") - value).max() > AGREE:
                self.disagree.add(name)
                continue
            names = ["\n".join((*name, str(key))) for key in table.keys]
            ends = sweep.range_of_fraction(*name[1:])
            rates, values = _draw(table, names, ends, pools[name], n_resamples, seed)
            for i, (key, point_seed) in enumerate(zip(table.keys, stored["seed"], strict=True)):
                self._means[(*name, str(key))] = rates[:, i] * bpp[i], values[:, i]
                self._whole[(*name, str(key))] = float(bpp[i]), float(value[i]), int(point_seed)

    def mean(self, keys: Iterable[Key]) -> tuple[Floats, Floats] | None:
        """Resampled (bpp, value), each (R,), averaged over tasks and seeds.

        None where the samples of one of the points are not known.
        """
        parts: list[tuple[Floats, Floats]] = []
        for mllm, task, metric, point_keys in keys:
            names = [(mllm, task, metric, key) for key in point_keys]
            if any(name not in self._means for name in names):
                return None
            names.sort(key=lambda name: self._whole[name][2])
            rates, values = (
                np.array(both) for both in zip(*map(self._means.get, names), strict=True)
            )
            rate, value = rates.mean(axis=0), values.mean(axis=0)
            bpp, whole, seeds = zip(*(self._whole[name] for name in names), strict=True)
            if len(set(seeds)) >= SEEDS:
                weights = self._weights(seeds)
                rate = rate * np.exp(weights @ _of_training(np.log(bpp), np.log(rates)))
                value = value + weights @ _of_training(np.array(whole), values)
            parts.append((rate, value))
        if not parts:
            return None
        return (
            np.mean([rate for rate, _ in parts], axis=0),
            np.mean([value for _, value in parts], axis=0),
        )

    def _weights(self, seeds: tuple[int, ...]) -> Floats:
        """(R, S) weights of the deviations of S seeds."""
        if seeds not in self._of_seeds:
            rng = np.random.default_rng([zlib.crc32(str(seeds).encode()), self._seed])
            s = len(seeds)
            normal = rng.standard_normal((self._n, s))
            student = np.sqrt((s - 1) / rng.chisquare(s - 1, (self._n, 1)))
            self._of_seeds[seeds] = student * normal / np.sqrt(s * (s - 1))
        return self._of_seeds[seeds]

    def interval(self, keys: Iterable[Key]) -> tuple[float, float] | None:
        """95 % percentile interval of the mean value over tasks and seeds.

        Normal seed effects reach beyond the values that a metric can have. The interval is cut at
        the metric's range, of several at the mean of their ranges: the true mean lies in the range,
        so the cut interval holds it just when the whole one does, and keeps its coverage.

        Args:
            keys: as of `mean`.

        Returns:
            (low, high) in the metric's unit; None where `mean` is.
        """
        keys = list(keys)
        means = self.mean(keys)
        if means is None:
            return None
        ends = np.mean([self._range_of(task, metric) for _, task, metric, _ in keys], axis=0)
        low, high = np.clip(percentile_interval(means[1]), *ends)
        return float(low), float(high)


def _pools(samples: pd.DataFrame) -> dict[Kind, Names]:
    """The images that each (mllm, task, metric) is drawn with: all that are linked to its own by
    what was measured on several."""
    pools: dict[Kind, set[str]] = {}
    for kind, images in samples.groupby(MEASURE, sort=False, observed=True)[IMAGE]:
        pool = set(map(str, images.unique()))
        linked = [other for other, known in pools.items() if not pool.isdisjoint(known)]
        for other in linked:
            pool |= pools[other]
        pools |= dict.fromkeys([(str(kind[0]), str(kind[1]), str(kind[2])), *linked], pool)
    return {kind: np.array(sorted(pool)) for kind, pool in pools.items()}


def _draw(
    table: SampleTable,
    names: Sequence[str],
    ends: tuple[float, float] | None,
    pool: Names,
    n_resamples: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """Points of one (mllm, task, metric), drawn with the images of a pool.

    Args:
        table: of the points' samples, `value` and `bpp`.
        names: (P,) of the points.
        ends: the lowest and highest value of a fraction; None of other metrics.

    Returns:
        Resampled rates (R, P) relative to the points' own, and values (R, P).
    """
    values, rates = table.columns["value"], table.columns["bpp"]
    known = np.isfinite(values)
    rates = np.where((known & np.isnan(rates)).any(axis=0), 1.0, rates)  # unknown: does not vary
    counts, of_counts = _distinct(table.per_image(known.astype(np.float64)))
    sums, bits = (table.per_image(np.where(known, x, 0.0)) for x in (values, rates))
    picked = np.searchsorted(pool, table.images).astype(np.int64)
    drawn_with = zlib.crc32("\n".join(pool).encode()) + seed
    columns = np.hstack([sums, bits, counts])
    drawn = resampled_means(columns, n_resamples, drawn_with, picked, len(pool))
    points = values.shape[1]
    total, total_bits, size = (
        drawn[:, :points],
        drawn[:, points : -counts.shape[1]],
        drawn[:, -counts.shape[1] :],
    )
    size = size[:, of_counts]
    whole = counts.sum(axis=0)[of_counts]
    with np.errstate(invalid="ignore", divide="ignore"):
        # A resample may have none of a point's images: it says nothing about the point.
        relative = np.where(size > 0, total_bits / size * whole / bits.sum(axis=0), 1.0)
        for i, name in enumerate(names if ends else ()):
            prior = fraction_prior(n_resamples, zlib.crc32(name.encode()) + seed)
            image = whole[i] / np.count_nonzero(counts[:, of_counts[i]]) / len(pool)
            low, high = ends or (0.0, 1.0)
            total[:, i] += (prior[:, 0] * (high - low) + prior[:, 1] * low) * image
            size[:, i] += prior[:, 1] * image
        return relative, np.where(size > 0, total / size, sums.sum(axis=0) / whole)


def _distinct(columns: Floats) -> tuple[Floats, Ints]:
    """The columns (C, D) that differ among (C, P), and which of them each is (P,)."""
    first: dict[bytes, int] = {}
    places = np.array([first.setdefault(column.tobytes(), len(first)) for column in columns.T])
    return columns[:, [int(np.argmax(places == i)) for i in range(len(first))]], places


def _of_training(whole: Floats, resampled: Floats) -> Floats:
    """Deviations (S,) of seeds from their mean, without what the test samples alone would make.

    Models of two seeds answer a sample differently, so their means over few samples differ even
    where neither is better. The resamples say how much; that part of the variance is taken off, as
    the samples' own resampling has it already.

    Args:
        whole: (S,) the seeds' values.
        resampled: (S, R) the same in each resample.
    """
    deviations: Floats = whole - whole.mean()
    s = len(whole)
    by_chance = (resampled - resampled.mean(axis=0)).var(axis=1).mean() * s / (s - 1)
    variance = whole.var(ddof=1)
    if variance == 0:
        return deviations
    deviations *= np.sqrt(max(0.0, 1 - by_chance / variance))
    return deviations
