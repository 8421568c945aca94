"""The metrics of a whole set that are no means over its samples, with their intervals.

statistics (N,) --sum--> value
statistics (N,) --resample the images, sum, R times--> percentiles: the interval
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.tasks.common.task import Task, Values

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 0
"""Of the resampling; that of the intervals of means."""


@dataclass(frozen=True)
class SetValue:
    """A set metric and its percentile bootstrap interval."""

    value: float
    low: float
    high: float


def set_values(
    task: Task,
    answers: Sequence[str],
    references: Sequence[str],
    images: Sequence[str] | None = None,
) -> dict[str, SetValue]:
    """The set metrics of a task on these samples.

    Args:
        answers, references: of all samples, at least one.
        images: the image of each sample, which is drawn with all its samples; without, each
            sample has its own.
    """
    statistics = task.statistics(answers, references)
    if not statistics:
        return {}
    names, n = list(statistics), len(answers)
    table = np.stack([statistics[name] for name in names], axis=1)
    whole = task.of_set({name: table[:, i].sum(keepdims=True) for i, name in enumerate(names)})
    if images is not None:
        _, image = np.unique(np.array(images), return_inverse=True)
        table = np.stack([np.bincount(image, statistic) for statistic in table.T], axis=1)
        n = len(table)
    rng = np.random.default_rng(SEED)
    sums = np.stack([table[rng.integers(n, size=n)].sum(0) for _ in range(RESAMPLES)])
    drawn = task.of_set({name: sums[:, i] for i, name in enumerate(names)})
    return {name: _with_interval(whole[name][0], drawn[name]) for name in whole}


def _with_interval(value: float, drawn: Values) -> SetValue:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return SetValue(float(value), float(low), float(high))
