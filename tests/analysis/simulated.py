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
        seeds: trainings of each point of the test.
        seed_noise: standard deviation of a training's accuracy.
        anchor_seeds: trainings of each point of the anchor; as many as of the test where it is
            None. A single one is measured without training, and so without its noise.
        tasks: tasks that ask about the same images.
        per_image: samples of a task about one image.
        of_image: how much samples of an image have in common, in what is hard about them and in
            what a curve makes of them: the share of samples that are answered as their image's
            first one is.
        failed: share of the samples that one of the test's points (the second) has no value of.
    """

    accuracy: tuple[float, ...] = LINE
    test_accuracy: tuple[float, ...] | None = None
    factor: float = 0.7
    shared: float = 0.7
    spread: float = 0.3
    seeds: int = 1
    seed_noise: float = 0.0
    anchor_seeds: int | None = None
    tasks: int = 1
    per_image: int = 1
    of_image: float = 0.0
    failed: float = 0.0

    def draw(self, rng: np.random.Generator, n: int) -> Sweep:
        """A sweep measured on n test images; the second rate's points have intervals."""
        size = rng.normal(size=n)
        tasks = ["vqa", *(f"task{i}" for i in range(1, self.tasks))]
        ease = {task: self._uniforms(rng, n) for task in tasks}
        images = np.repeat([f"i{i:06d}" for i in range(n)], self.per_image)
        ids = [f"{image}-{i % self.per_image}" for i, image in enumerate(images)]
        rows, samples = [], []
        for scenario, factor, accuracy, seeds in (
            ("reconstruction", 1.0, self.accuracy, self.anchor_seeds or self.seeds),
            ("d1", self.factor, self.test_accuracy or self.accuracy, self.seeds),
        ):
            for i, (rate, p) in enumerate(zip(RATES, accuracy, strict=True)):
                for seed in range(seeds):
                    is_trained = scenario == "d1" or seeds > 1
                    noise = self.seed_noise * rng.normal() if is_trained else 0.0
                    bits = factor * rate * np.exp(self.spread * size - self.spread**2 / 2)
                    for task in tasks:
                        luck = self.shared * ease[task] + (1 - self.shared) * self._uniforms(rng, n)
                        right = luck < self._quantile(float(np.clip(p + noise, 0, 1)))
                        table = pd.DataFrame(
                            {
                                "point_key": f"{scenario}-{i}-{seed}",
                                "task": task,
                                "sample_id": ids,
                                "image_id": images,
                                "value": right.astype(np.float64),
                                "bpp": np.repeat(bits, self.per_image),
                            }
                        )
                        if scenario == "d1" and i == 1 and self.failed:
                            table = table[rng.uniform(size=len(table)) >= self.failed]
                        samples.append(table)
                        low, high = np.nan, np.nan
                        if i == 1:  # of one point; the others' take time and tell no more
                            low, high = bootstrap_mean(
                                table["value"].to_numpy(),
                                n_resamples=1000,
                                images=list(table["image_id"]),
                                is_fraction=True,
                            )
                        rows.append(
                            {
                                "point_key": f"{scenario}-{i}-{seed}",
                                "task": task,
                                "lmbda": 0.001 * 2**i,
                                "scenario": scenario,
                                "seed": seed,
                                "value": table["value"].mean(),
                                "value_low": low,
                                "value_high": high,
                                "bpp": table["bpp"].mean(),
                                "n_samples": len(table),
                            }
                        )
        kind = {"mllm": "m", "metric": "accuracy"}
        about = {"sweep": "s", "codec": "c", "dataset": "d", "split": "test", "run_id": None}
        points = pd.DataFrame(rows).assign(**kind, **about, bpp_estimated=np.nan, psnr=np.nan)
        return Sweep(points, pd.concat(samples, ignore_index=True).assign(**kind))

    def _uniforms(self, rng: np.random.Generator, n: int) -> Floats:
        """(n x per_image,) uniform numbers, of which those of an image may be the same."""
        own = rng.uniform(size=n * self.per_image)
        if self.per_image == 1:
            return own
        first = np.repeat(own[:: self.per_image], self.per_image)
        return np.where(rng.uniform(size=len(own)) < self.of_image, first, own)

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
