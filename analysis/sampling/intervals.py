"""Bootstrap intervals over test samples (percentile method)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
TAIL = (1 - 0.95) / 2
"""Share of the resamples beyond each end of an interval: all are 95 %."""
BLOCK = 4_000_000
"""Weights held at a time."""


def bootstrap_mean(
    values: Sequence[float] | Floats, seed: int = 0, n_resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of per-sample values.

    Plain numpy: the same draw and percentiles as `scipy.stats.bootstrap(method="percentile")`
    (the tests compare the two), without importing scipy.stats in the process that evaluates.

    Args:
        values: (n,) one value per test sample, in the metric's own unit.
        seed: of the resampling; the same seed and n draw the same samples.
        n_resamples: number of bootstrap resamples.

    Returns:
        (low, high) in the metric's unit. A constant array gives (c, c): the bootstrap sees no
        spread. One value gives (nan, nan): the spread is unknown.

    Raises:
        ValueError: no values, or a value that is not finite.
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"bootstrap_mean needs finite values; got {x.size}, some missing or none")
    if x.size == 1:
        return float("nan"), float("nan")
    if np.ptp(x) == 0:
        return float(x[0]), float(x[0])
    return percentile_interval(resampled_means(x[:, None], n_resamples, seed)[:, 0])


def _weights(rng: np.random.Generator, n: int, rows: int) -> Floats:
    """(rows, n) weights of bootstrap resamples of n samples; every row adds up to 1."""
    drawn = rng.integers(n, size=(rows, n))
    drawn += np.arange(rows)[:, None] * n
    counts = np.bincount(drawn.ravel(), minlength=rows * n)
    return counts.reshape(rows, n).astype(np.float64) / n


def resampled_means(values: Floats, n_resamples: int, seed: int) -> Floats:
    """(n_resamples, P) means of resamples of (n, P) values.

    All P columns share the drawn samples, which makes comparisons of them paired. A block of
    resamples is drawn at a time: the weights of 2,000 resamples of 30,000 samples are 480 MB.
    """
    n = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((n_resamples, values.shape[1]))
    block = max(1, BLOCK // n)
    for start in range(0, n_resamples, block):
        rows = min(block, n_resamples - start)
        means[start : start + rows] = _weights(rng, n, rows) @ values
    return means


def interval_of(estimates: Floats) -> tuple[float, float, float]:
    """(low, high, share defined) of resampled estimates (R,) of which some may be undefined, nan.

    A resample without a number could have any: it counts as the lowest for the low end and as the
    highest for the high end. Where that leaves an end open, both are nan.
    """
    known = np.isfinite(estimates)
    share = float(known.mean())
    low = np.quantile(np.where(known, estimates, -np.inf), TAIL, method="lower")
    high = np.quantile(np.where(known, estimates, np.inf), 1 - TAIL, method="higher")
    if not np.isfinite([low, high]).all():
        return float("nan"), float("nan"), share
    return float(low), float(high), share


def percentile_interval(estimates: Floats) -> tuple[float, float]:
    """(low, high) percentiles of resampled estimates (R,)."""
    low, high = np.quantile(estimates, [TAIL, 1 - TAIL])
    return float(low), float(high)
