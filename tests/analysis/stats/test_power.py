"""What intervals a sweep is expected to have, against those that it then has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from analysis.curves.curve import MEAN
from analysis.io.sweep import Sweep
from analysis.stats.compare import compare
from analysis.stats.power import images_of_tasks, precision
from tests.analysis.simulated import Population


def expected(pilot: Sweep, images: int, seeds: int = 1) -> tuple[float, float]:
    found = precision(pilot, dict.fromkeys(images_of_tasks(pilot), images), seeds)
    assert found is not None
    return found.bd_rate, found.bd_accuracy


def had(sweep: Sweep) -> list[float]:
    row = compare(sweep, n_resamples=400).set_index(["scenario", "task"]).loc["d1", MEAN]
    return [(row[f"{n}_high"] - row[f"{n}_low"]) / 2 for n in ("bd_rate", "bd_accuracy")]


def test_four_times_the_images_halve_the_intervals_as_a_larger_sweep_has_them() -> None:
    population = Population(factor=0.8)
    predicted, measured = [], []
    for number in range(4):
        predicted.append(expected(population.draw(np.random.default_rng(number), 150), 600))
        measured.append(had(population.draw(np.random.default_rng(100 + number), 600)))
    assert np.mean(predicted, axis=0) == pytest.approx(np.mean(measured, axis=0), rel=0.2)


def test_seeds_narrow_intervals_as_students_distribution_says() -> None:
    """Of samples that all curves answer alike, only trainings are left to vary."""
    population = Population(factor=1.0, seeds=6, seed_noise=0.05, anchor_seeds=1, shared=1.0)
    pilot = population.draw(np.random.default_rng(1), 4000)
    few, many = expected(pilot, 10**9, 4)[1], expected(pilot, 10**9, 12)[1]
    factor = student.ppf(0.975, 3) / student.ppf(0.975, 11) * np.sqrt(12 / 4)
    assert few / many == pytest.approx(factor, rel=0.01)
    same = expected(pilot, 4000, 6)[1]
    assert same == pytest.approx(had(pilot)[1], rel=1e-6)


def test_one_training_says_nothing_about_others() -> None:
    pilot = Population(seeds=3, seed_noise=0.05).draw(np.random.default_rng(0), 100)
    images = dict.fromkeys(images_of_tasks(pilot), 100)
    several, single = precision(pilot, images, 3), precision(pilot, images, 1)
    assert several is not None
    assert single is not None
    assert several.with_trainings
    assert not single.with_trainings
    assert single.bd_accuracy < several.bd_accuracy


def test_a_pilot_needs_the_same_tasks_and_samples() -> None:
    pilot = Population(tasks=2).draw(np.random.default_rng(0), 50)
    assert precision(pilot, {"vqa": 50}, 1) is None
    assert precision(replace(pilot, samples=None), {"vqa": 50, "task1": 50}, 1) is None
