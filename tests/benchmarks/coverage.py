"""How often do the nominal 95 % intervals hold the truth? And how often does a test cry wolf?

    python -m tests.benchmarks.coverage [--simulations 1000] [--resamples 1000] [--only NAME ...]

Draws sweeps from populations whose curves are known (tests/analysis/simulated.py) and compares
their curves by what `compare`, `savings` and `gains` take their numbers from. Prints the share of
the simulations whose interval holds the truth, with its own standard error, and the share that has
an interval at all; an open end of a saving holds whatever is beyond. Where both curves are the
same (`equal`), p-values under 0.05 are counted as well, in the tests of the mean over tasks where
there are several.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from analysis.curves.assemble import assemble, curves
from analysis.curves.curve import MEAN
from analysis.sampling.bd import bd_accuracy, bd_rate, front, rate_at
from analysis.sampling.bootstrap import Resampled
from analysis.stats.pairs import Pair
from analysis.stats.significance import significance
from tests.analysis.simulated import LINE, RATES, Population, hits, line_gain

CURVED = (0.50, 0.70, 0.80, 0.85)
CASES = {
    "straight": (Population(), 500),
    "curved": (Population(CURVED), 500),
    "few samples": (Population(), 128),
    "many samples": (Population(), 2000),
    "3 seeds": (Population(seeds=3, seed_noise=0.015), 500),
    "5 seeds": (Population(seeds=5, seed_noise=0.015), 500),
    "other slopes": (Population((0.45, 0.58, 0.66, 0.70), (0.40, 0.50, 0.75, 0.90)), 500),
    "flat": (Population((0.45, 0.50, 0.75, 0.80), (0.55, 0.59, 0.63, 0.67)), 500),
    "turning": (Population((0.45, 0.60, 0.57, 0.75), (0.50, 0.63, 0.60, 0.75)), 300),
    "samples of an image": (Population(per_image=4, of_image=0.8), 150),
    "anchor once": (Population(seeds=3, seed_noise=0.02, anchor_seeds=1), 500),
    "5 seeds and 3": (Population(seeds=5, seed_noise=0.02, anchor_seeds=3), 500),
    "failed samples": (Population(failed=0.1), 300),
    "saturated": (Population((0.90, 0.95, 0.975, 0.99)), 128),
    "equal": (Population(factor=1.0), 500),
    "equal, anchor once": (Population(factor=1.0, seeds=3, seed_noise=0.02, anchor_seeds=1), 500),
    "equal, noisy": (Population(factor=1.0, seeds=3, seed_noise=0.05, anchor_seeds=1), 500),
    "equal, 2 seeds": (Population(factor=1.0, seeds=2, seed_noise=0.02, anchor_seeds=1), 500),
    "equal, 3 seeds": (Population(factor=1.0, seeds=3, seed_noise=0.02), 500),
    "equal, quiet": (Population(factor=1.0, seeds=3), 500),
    "equal, 5 seeds and 3": (
        Population(factor=1.0, seeds=5, seed_noise=0.02, anchor_seeds=3),
        500,
    ),
    "equal, samples of an image": (Population(factor=1.0, per_image=4, of_image=0.8), 150),
    "equal, 3 tasks": (Population(factor=1.0, tasks=3, failed=0.1), 200),
}
TARGET, RATE = 0.6, 0.25
TARGETS = {"other slopes": 0.62, "flat": 0.61, "turning": 0.62, "saturated": 0.96}
"""Where the saving is taken, if not at `TARGET`: between points of both curves."""


def truths(population: Population, target: float) -> dict[str, float]:
    """The numbers of the population's own curves."""
    rate, accuracy = np.array(RATES), np.array(population.accuracy)
    test_rate, test = population.factor * rate, np.array(population.test_accuracy or accuracy)
    values = {"mean": test[1]}
    if population.test_accuracy is None:
        values |= {
            "BD-rate": 100 * (population.factor - 1),
            "saving": 100 * (1 - population.factor),
            "BD-accuracy": bd_accuracy(rate, accuracy, test_rate, test),
        }
        assert np.isclose(values["BD-rate"], bd_rate(rate, accuracy, test_rate, test), atol=1e-9)
    else:
        both = (rate, accuracy), (test_rate, test)
        kept = [front(*curve) for curve in both]
        (a, x), (b, y) = ((r[on], v[on]) for (r, v), on in zip(both, kept, strict=True))
        accuracies = np.array([target])
        values |= {
            "BD-rate": bd_rate(a, x, b, y),
            "saving": 100 * (1 - float((rate_at(b, y, accuracies) / rate_at(a, x, accuracies))[0])),
            "BD-accuracy": bd_accuracy(rate, accuracy, test_rate, test),
        }
    if population.accuracy == LINE:
        values["gain"] = line_gain(population.factor)
        assert np.isclose(values["BD-accuracy"], values["gain"])
    return values


def simulate(
    population: Population, n: int, resamples: int, seed: int, target: float
) -> dict[str, float]:
    """Whether each interval of one simulated sweep holds the truth; nan without an interval."""
    truth = truths(population, target)
    sweep = population.draw(np.random.default_rng(seed), n)
    resampled = Resampled(sweep, resamples)
    known = {curve.scenario: curve for curve in curves(sweep) if curve.task == "vqa"}
    pair = Pair(known["reconstruction"], known["d1"], resampled)
    point = known["d1"].frame.iloc[1]
    mean = point["low"], point["high"]
    if population.seeds > 1:
        of_seeds = resampled.interval([("m", "vqa", "accuracy", point["point_keys"])])
        assert of_seeds is not None
        mean = of_seeds
    intervals = {
        "BD-rate": pair.bd_rate(),
        "saving": pair.saved(target),
        "BD-accuracy": pair.bd_accuracy(),
        "gain": pair.gained(RATE),
    }
    ends = {"mean": mean} | {
        name: (interval.low, interval.high) for name, interval in intervals.items()
    }
    out = {name: float(hits(ends[name][0], truth[name], ends[name][1])) for name in truth}
    if population.factor == 1:
        tests = significance(assemble(sweep, 50), families=["task"])
        tests = tests[tests["task"] == (MEAN if population.tasks > 1 else "vqa")]
        out |= {f"p < 0.05 at rate {i}": float(p < 0.05) for i, p in enumerate(tests["p"])}
        out["any after Holm"] = float((tests["p_corrected"] < 0.05).any())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    options = parser.parse_args()
    for name in options.only:
        population, n = CASES[name]
        start = time.perf_counter()
        target = TARGETS.get(name, TARGET)
        seeds = range(options.simulations)
        simulations = [simulate(population, n, options.resamples, seed, target) for seed in seeds]
        seconds = time.perf_counter() - start
        print(f"{name}: {n} samples, {options.simulations} simulations in {seconds:.0f} s")
        for value in simulations[0]:
            held = np.array([f[value] for f in simulations])
            known = held[~np.isnan(held)]
            share = known.mean() if len(known) else float("nan")
            error = np.sqrt(share * (1 - share) / max(1, len(known)))
            print(
                f"  {value:20} {share:6.1%} ± {error:.1%}   ({len(known) / len(held):.0%} defined)"
            )


if __name__ == "__main__":
    main()
