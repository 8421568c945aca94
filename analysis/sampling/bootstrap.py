"""Paired bootstrap: all points of a task see the same resampled samples, and the same seeds.

Test samples are drawn with replacement, in one draw for all points that they were measured on.
Seeds are few, and drawing 3 of 3 with replacement varies far too little. Their part is a multiplier
bootstrap: the seeds' deviations from their mean, each times an independent normal weight, are
added, scaled so that alone they give Student's interval with (seeds - 1) degrees of freedom. All
curves with the same seeds get the same weights, so that they are compared in pairs. The interval of
two seeds would be 12.7 standard errors each way: with two, only samples vary.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.io.sweep import Sweep
from analysis.sampling.intervals import Floats, percentile_interval, resampled_means

AGREE: Final = 1e-6
"""Largest difference between a point's value and the mean of its samples."""
SEEDS: Final = 3
"""Seeds from which on their variation is a part of the intervals."""

Names = NDArray[np.str_]
Key = tuple[str, str, str, tuple[str, ...]]
"""(mllm, task, metric, point keys of the seeds of one rate)."""


class Resampled:
    """Resampled (bpp, value) of every point of a sweep.

    The samples of a (mllm, task, metric) are drawn by their id, in one draw for all points.
    Tasks over the same sample ids share the draw as well; others are drawn independently.
    """

    def __init__(self, sweep: Sweep, n_resamples: int, seed: int = 0) -> None:
        self._means: dict[tuple[str, str, str, str], tuple[Floats, Floats]] = {}
        self._whole: dict[tuple[str, str, str, str], tuple[float, float, int]] = {}
        """(bpp, value, seed) of the points as they are."""
        self._n, self._seed = n_resamples, seed
        self._of_seeds: dict[tuple[int, ...], Floats] = {}
        self.disagree: set[tuple[str, str, str]] = set()
        """(mllm, task, metric) whose samples do not average to their points: not resampled."""
        if sweep.samples is None:
            return
        identity = ["mllm", "task", "metric", "point_key"]
        points = sweep.points.drop_duplicates(identity).set_index(identity)
        needed = sweep.samples[[*identity, "sample_id", "value", "bpp"]]
        for kind, rows in needed.groupby(identity[:3], sort=False, observed=True):
            name = (str(kind[0]), str(kind[1]), str(kind[2]))
            ids, keys, (values, rates) = wide(rows, ["value", "bpp"])
            with_point = np.array([(*name, key) in points.index for key in keys], dtype=bool)
            complete = np.isfinite(values).all(axis=1)
            if complete.sum() < 2 or not with_point.any():
                continue
            keys, values, rates = (
                keys[with_point],
                values[complete][:, with_point],
                rates[complete][:, with_point],
            )
            stored = points.loc[[(*name, key) for key in keys]]
            value, bpp = (stored[column].to_numpy(dtype=np.float64) for column in ("value", "bpp"))
            if np.abs(values.mean(axis=0) - value).max() > AGREE:
                self.disagree.add(name)
                continue
            drawn = zlib.crc32("\n".join(map(str, ids[complete])).encode()) + seed
            rates = np.where(np.isnan(rates).any(axis=0), 1.0, rates)  # unknown: does not vary
            both = resampled_means(np.hstack([values, rates]), n_resamples, drawn)
            scaled = both[:, len(keys) :] * (bpp / rates.mean(axis=0))
            for i, (key, point_seed) in enumerate(zip(keys, stored["seed"], strict=True)):
                self._means[(*name, str(key))] = scaled[:, i], both[:, i]
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

    @staticmethod
    def interval(estimates: Floats) -> tuple[float, float]:
        """95 % percentile interval of resampled estimates."""
        return percentile_interval(estimates)


def wide(rows: pd.DataFrame, columns: list[str]) -> tuple[Names, Names, list[Floats]]:
    """Sample ids (n,), point keys (P,), and for each column its values (n, P), nan where none is.

    Both are sorted; duplicates are averaged.
    """
    sample, ids = _in_order(rows["sample_id"])
    point, keys = _in_order(rows["point_key"])
    cell, shape = sample * len(keys) + point, (len(ids), len(keys))
    out = []
    for column in columns:
        values = rows[column].to_numpy(dtype=np.float64)
        known = np.isfinite(values)
        counts = np.bincount(cell[known], minlength=shape[0] * shape[1])
        sums = np.bincount(cell[known], values[known], minlength=shape[0] * shape[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            out.append((sums / counts).reshape(shape))
    return ids, keys, out


def _in_order(column: pd.Series[str]) -> tuple[NDArray[np.int64], Names]:
    """Codes and names of a text column or of one with categories, the names in order."""
    codes, categories = pd.factorize(column)
    names = np.asarray(categories).astype(str)
    order = np.argsort(names)
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return rank[codes], names[order]


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
