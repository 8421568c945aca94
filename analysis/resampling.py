"""Paired bootstrap over test samples: all points of a task see the same resampled samples."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from analysis.intervals import Floats, percentile_interval, resample_weights
from analysis.points import Sweep

AGREE: Final = 1e-6
"""Largest difference between a point's value and the mean of its samples."""

Key = tuple[str, str, str, tuple[str, ...]]
"""(mllm, task, metric, point keys of the seeds of one rate)."""


class Resampled:
    """Resampled (bpp, value) of every point of a sweep.

    The samples of a (mllm, task, metric) are drawn by their id, in one draw for all points.
    Tasks over the same sample ids share the draw as well; others are drawn independently.
    """

    def __init__(self, sweep: Sweep, n_resamples: int, seed: int = 0) -> None:
        self._means: dict[tuple[str, str, str, str], tuple[Floats, Floats]] = {}
        self.disagree: set[tuple[str, str, str]] = set()
        """(mllm, task, metric) whose samples do not average to their points: not resampled."""
        if sweep.samples is None:
            return
        identity = ["mllm", "task", "metric", "point_key"]
        points = sweep.points.drop_duplicates(identity).set_index(identity)
        for kind, rows in sweep.samples.groupby(identity[:3], sort=False):
            name = (str(kind[0]), str(kind[1]), str(kind[2]))
            values = _wide(rows, "value")
            rates = rows.pivot_table(index="sample_id", columns="point_key", values="bpp")
            keys = [key for key in values.columns if (*name, key) in points.index]
            if len(values) < 2 or not keys:
                continue
            of = points.loc[[(*name, key) for key in keys]]
            sampled = values[keys].to_numpy(dtype=np.float64)
            if np.abs(sampled.mean(axis=0) - of["value"].to_numpy(dtype=np.float64)).max() > AGREE:
                self.disagree.add(name)
                continue
            drawn = zlib.crc32("\n".join(map(str, values.index)).encode()) + seed
            weights = resample_weights(len(values), n_resamples, drawn)
            bpp = rates.reindex(index=values.index, columns=keys).to_numpy(dtype=np.float64)
            bpp = np.where(np.isnan(bpp).any(axis=0), 1.0, bpp)  # unknown per sample: does not vary
            scale = of["bpp"].to_numpy(dtype=np.float64) / bpp.mean(axis=0)
            resampled = weights @ sampled
            rate = weights @ bpp * scale
            for i, key in enumerate(keys):
                self._means[(*name, str(key))] = rate[:, i], resampled[:, i]

    def mean(self, keys: Iterable[Key]) -> tuple[Floats, Floats] | None:
        """Resampled (bpp, value), each (R,), averaged over tasks and seeds.

        None where the samples of one of the points are not known.
        """
        parts: list[tuple[Floats, Floats]] = []
        for mllm, task, metric, point_keys in keys:
            seeds = [self._means.get((mllm, task, metric, key)) for key in point_keys]
            known = [s for s in seeds if s is not None]
            if len(known) < len(seeds):
                return None
            parts.append(
                (
                    np.mean([rate for rate, _ in known], axis=0),
                    np.mean([value for _, value in known], axis=0),
                )
            )
        if not parts:
            return None
        return (
            np.mean([rate for rate, _ in parts], axis=0),
            np.mean([value for _, value in parts], axis=0),
        )

    @staticmethod
    def interval(estimates: Floats) -> tuple[float, float]:
        """95 % percentile interval of resampled estimates."""
        return percentile_interval(estimates)


def _wide(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """(sample_id x point_key), samples that every point has, ordered by id."""
    wide = rows.pivot_table(index="sample_id", columns="point_key", values=column, aggfunc="mean")
    return wide.dropna().sort_index()
