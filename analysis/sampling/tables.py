"""Samples as tables: rows are samples, grouped by image; columns are points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.io.sweep import IMAGE
from analysis.sampling.intervals import Floats

Names = NDArray[np.str_]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Kind = tuple[str, str, str]
"""(mllm, task, metric)."""


@dataclass(frozen=True)
class SampleTable:
    """The samples of one (mllm, task, metric): n samples, C images, P points.

    Attributes:
        keys: (P,) keys of the points, in order.
        images: (C,) names of the images, in order.
        starts: (C,) first row of each image.
        columns: for each column its values (n, P), nan where a point has none; by image.
    """

    keys: Names
    images: Names
    starts: Ints
    columns: dict[str, Floats]

    def only(self, which: Bools) -> SampleTable:
        """The table of some of the points, (P,)."""
        columns = {name: values[:, which] for name, values in self.columns.items()}
        return replace(self, keys=self.keys[which], columns=columns)

    def shared(self, keys: Sequence[str]) -> SampleTable | None:
        """The samples that all of these points have; None where one has none at all."""
        places = {str(key): i for i, key in enumerate(self.keys)}
        if not places.keys() >= set(keys):
            return None
        which = np.array([places[key] for key in dict.fromkeys(keys)])
        columns = {name: values[:, which] for name, values in self.columns.items()}
        complete = np.all([np.isfinite(x).all(axis=1) for x in columns.values()], axis=0)
        sizes = self.per_image(complete.astype(np.float64)).astype(np.int64)
        starts = np.cumsum(sizes) - sizes
        columns = {name: values[complete] for name, values in columns.items()}
        left = sizes > 0
        return SampleTable(self.keys[which], self.images[left], starts[left], columns)

    def means(self, column: str) -> Floats:
        """(P,) mean of each point over its samples."""
        means: Floats = np.nanmean(self.columns[column], axis=0)
        return means

    def per_image(self, values: Floats) -> Floats:
        """Sums (C, ...) over the samples of each image, of values (n, ...)."""
        sums: Floats = np.add.reduceat(values, self.starts, axis=0)
        return sums


def sample_table(rows: pd.DataFrame, columns: list[str]) -> SampleTable:
    """The table of the samples of one (mllm, task, metric); duplicates are averaged.

    Args:
        rows: with `sample_id`, `point_key`, `image_id` and the columns.
    """
    sample, ids = _in_order(rows["sample_id"])
    point, keys = _in_order(rows["point_key"])
    image, images = _in_order(rows[IMAGE])
    image_of = np.zeros(len(ids), dtype=np.int64)
    image_of[sample] = image
    by_image = np.argsort(image_of, kind="stable")
    place = np.empty_like(by_image)
    place[by_image] = np.arange(len(ids))
    shape = len(ids), len(keys)
    cell = place[sample] * shape[1] + point
    tables = {}
    for column in columns:
        values = rows[column].to_numpy(dtype=np.float64)
        known = np.isfinite(values)
        counts = np.bincount(cell[known], minlength=shape[0] * shape[1])
        sums = np.bincount(cell[known], values[known], minlength=shape[0] * shape[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            tables[column] = (sums / counts).reshape(shape)
    used, starts = np.unique(image_of[by_image], return_index=True)
    return SampleTable(keys, images[used], starts, tables)


def _in_order(column: pd.Series[str]) -> tuple[Ints, Names]:
    """Codes and names of a text column or of one with categories, the names in order."""
    codes, categories = pd.factorize(column)
    names = np.asarray(categories).astype(str)
    order = np.argsort(names)
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return rank[codes], names[order]
