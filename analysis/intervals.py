"""Bootstrap intervals over test samples (percentile method)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 0.95


def bootstrap_mean(
    values: Sequence[float] | Floats,
    seed: int = 0,
    n_resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of per-sample values.

    Plain numpy: the same draw and percentiles as `scipy.stats.bootstrap(method="percentile")`
    (the tests compare the two), without importing scipy.stats in the process that evaluates.

    Args:
        values: (n,) one value per test sample, in the metric's own unit.
        seed: of the resampling; the same seed and n draw the same samples.
        n_resamples: number of bootstrap resamples.
        confidence: nominal coverage, in (0, 1).

    Returns:
        (low, high) in the metric's unit. A constant array gives (c, c): the bootstrap sees no
        spread. One value gives (nan, nan): one sample says nothing about spread.

    Raises:
        ValueError: no values, a value that is not finite, or a confidence outside (0, 1).
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"bootstrap_mean needs finite values; got {x.size}, some missing or none")
    if x.size == 1:
        return float("nan"), float("nan")
    if np.ptp(x) == 0:
        return float(x[0]), float(x[0])
    means = resample_weights(x.size, n_resamples, seed) @ x
    return percentile_interval(means, confidence)


def resample_weights(n: int, n_resamples: int, seed: int) -> Floats:
    """(n_resamples, n) weights of bootstrap resamples of n samples; every row adds up to 1.

    A matrix product with (n, P) per-sample values gives (n_resamples, P) resampled means in
    which all P columns share the drawn samples: that is what makes a comparison paired.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(n, size=(n_resamples, n))
    drawn += np.arange(n_resamples)[:, None] * n
    counts = np.bincount(drawn.ravel(), minlength=n_resamples * n)
    return counts.reshape(n_resamples, n).astype(np.float64) / n


def percentile_interval(estimates: Floats, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """(low, high) percentiles of resampled estimates (R,).

    Raises:
        ValueError: a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    tail = (1 - confidence) / 2
    low, high = np.quantile(estimates, [tail, 1 - tail])
    return float(low), float(high)
