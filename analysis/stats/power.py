"""How small a difference a sweep will show, from the intervals of one that is there: a pilot.

An interval's half-width has two parts, which add as variances do. That of the test images falls
with the square root of their number. That of trainings falls with the square root of the number of
seeds, times Student's factor, which is large for few. A pilot shows the second part from three
seeds on; without it, the half-widths say nothing about what another training would give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from scipy.stats import t as student

from analysis.curves.curve import MEAN
from analysis.curves.tasks import tasks
from analysis.io.sweep import IMAGE, Sweep
from analysis.sampling.bootstrap import SEEDS
from analysis.sampling.intervals import TAIL, Floats
from analysis.stats.compare import compare

RESAMPLES_OF_PILOT: Final = 400
_NUMBERS: Final = ("bd_rate", "bd_accuracy")


@dataclass(frozen=True)
class Precision:
    """What a sweep's 95 % intervals against its anchor will be, of the median curve.

    Attributes:
        bd_rate: half-width in percent; nan where the pilot has no such interval.
        bd_accuracy: half-width in the metric's unit.
        curves: of the pilot, that have intervals.
        with_trainings: whether what trainings vary by is in them.
    """

    bd_rate: float
    bd_accuracy: float
    curves: int
    with_trainings: bool


def images_of_tasks(sweep: Sweep) -> dict[str, int]:
    """Task -> test images that its samples ask about; none without samples."""
    if sweep.samples is None:
        return {}
    counts = sweep.samples.groupby("task", sort=False, observed=True)[IMAGE].nunique()
    return {str(task): int(count) for task, count in counts.items()}


def precision(pilot: Sweep, images: Mapping[str, int], seeds: int) -> Precision | None:
    """What intervals to expect with so many test images and seeds.

    Args:
        pilot: a sweep with samples, of the same tasks.
        images: task -> test images to come, for every task of the pilot.
        seeds: to come.

    Returns:
        None where no curve of the pilot has an interval against the anchor.
    """
    had = images_of_tasks(pilot)
    if not tasks(pilot).keys() <= had.keys() & images.keys():
        return None
    # A mean's variance is a mean of the tasks', each in proportion to 1 / images.
    of_images = float(np.mean([had[task] / images[task] for task in tasks(pilot)]))
    whole = alone = _variances(pilot)
    had_seeds = int(whole["n_seeds"].max()) if len(whole) else 0
    if had_seeds >= SEEDS:  # of fewer, intervals are of the test images alone
        alone = _variances(replace(pilot, points=pilot.points.assign(seed=0)))
    with_trainings = min(had_seeds, seeds) >= SEEDS
    variances = alone[[*_NUMBERS]] * of_images
    if with_trainings:
        of_seeds = _student(seeds) / _student(had_seeds)
        variances = variances + (whole[[*_NUMBERS]] - alone[[*_NUMBERS]]).clip(lower=0) * of_seeds
    known = variances.dropna(how="all")
    if known.empty:
        return None
    bd_rate, bd_accuracy = (float(np.sqrt(known[name].median())) for name in _NUMBERS)
    return Precision(bd_rate, bd_accuracy, len(known), with_trainings)


def _student(seeds: int) -> float:
    """Square of an interval's half-width over the standard deviation of so many seeds."""
    return float(student.ppf(1 - TAIL, seeds - 1) ** 2 / seeds)


def _variances(sweep: Sweep) -> pd.DataFrame:
    """Squares of half-widths, and numbers of seeds, by curve: on the mean, or on the one task."""
    frame = compare(sweep, n_resamples=RESAMPLES_OF_PILOT)
    if (frame["task"] == MEAN).any():
        frame = frame[frame["task"] == MEAN]
    frame = frame.set_index(["mllm", "codec", "variant", "scenario", "task"])
    halves: dict[str, Floats] = {
        name: ((frame[f"{name}_high"] - frame[f"{name}_low"]) / 2).to_numpy() for name in _NUMBERS
    }
    squares = {name: half**2 for name, half in halves.items()}
    return pd.DataFrame({**squares, "n_seeds": frame["n_seeds"]}, index=frame.index)
