"""Sweeps drawn from a population whose curves are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.io.sweep import Sweep
from analysis.sampling.intervals import Floats, bootstrap_mean

LINE = (0.45, 0.55, 0.65, 0.75)
"""Straight in log rate: 0.1 for each doubling."""
RATES = (0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True)
class Population:
    """Right-or-wrong answers of an anchor and of a test curve that needs `factor` of its bits.

    Attributes:
        accuracy: of the anchor at its rates, (P,).
        test_accuracy: of the test at its rates, (P,); the anchor's where it is None.
        factor: the test's rates over the anchor's.
        shared: how much of an answer is the sample's own difficulty, 0 to 1.
        spread: standard deviation of the log of a sample's bits.
        seeds: trainings of each point.
        seed_noise: standard deviation of a training's accuracy.
    """

    accuracy: tuple[float, ...] = LINE
    test_accuracy: tuple[float, ...] | None = None
    factor: float = 0.7
    shared: float = 0.7
    spread: float = 0.3
    seeds: int = 1
    seed_noise: float = 0.0

    def draw(self, rng: np.random.Generator, n: int) -> Sweep:
        """A sweep measured on n test samples; the second rate's points have intervals."""
        ease, size = rng.uniform(size=n), rng.normal(size=n)
        ids = np.array([f"s{i:06d}" for i in range(n)])
        rows, samples = [], []
        for scenario, factor, accuracy in (
            ("reconstruction", 1.0, self.accuracy),
            ("d1", self.factor, self.test_accuracy or self.accuracy),
        ):
            for i, (rate, p) in enumerate(zip(RATES, accuracy, strict=True)):
                for seed in range(self.seeds):
                    shifted = np.clip(p + self.seed_noise * rng.normal(), 0, 1)
                    own = self.shared * ease + (1 - self.shared) * rng.uniform(size=n)
                    value = (own < self._quantile(shifted)).astype(np.float64)
                    bits = factor * rate * np.exp(self.spread * size - self.spread**2 / 2)
                    key = f"{scenario}-{i}-{seed}"
                    low, high = np.nan, np.nan
                    if i == 1:  # of one point; the others' take time and tell no more
                        low, high = bootstrap_mean(value, n_resamples=1000)
                    rows.append(
                        {
                            "point_key": key,
                            "lmbda": 0.001 * 2**i,
                            "scenario": scenario,
                            "seed": seed,
                            "value": value.mean(),
                            "value_low": low,
                            "value_high": high,
                            "bpp": bits.mean(),
                        }
                    )
                    samples.append(
                        pd.DataFrame(
                            {"point_key": key, "sample_id": ids, "value": value, "bpp": bits}
                        )
                    )
        kind = {"mllm": "m", "task": "vqa", "metric": "accuracy"}
        about = {"sweep": "s", "codec": "c", "dataset": "d", "split": "test", "run_id": None}
        points = pd.DataFrame(rows).assign(
            **kind, **about, n_samples=n, bpp_estimated=np.nan, psnr=np.nan
        )
        return Sweep(points, pd.concat(samples, ignore_index=True).assign(**kind))

    def _quantile(self, p: float) -> float:
        """Of the sum of two independent uniforms, on [0, shared] and on [0, 1 - shared]."""
        small, large = sorted((self.shared, 1 - self.shared))
        if p < small / (2 * large):
            return float(np.sqrt(2 * p * small * large))
        if p > 1 - small / (2 * large):
            return float(1 - np.sqrt(2 * (1 - p) * small * large))
        return p * large + small / 2


def line_gain(factor: float) -> float:
    """What a curve on `LINE` gains at equal rate from needing `factor` of the bits."""
    return -0.1 * float(np.log2(factor))


def hits(low: Floats | float, truth: float, high: Floats | float) -> Floats:
    """Which intervals hold the truth; nan where there is none."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    return np.where(np.isnan(low), np.nan, (low <= truth) & (truth <= high))
