"""Bootstrap intervals against scipy, a closed form, and their nominal coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.sampling.intervals import bootstrap_mean, resampled_means


def test_interval_agrees_with_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=150)
    ours = bootstrap_mean(values, n_resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile"
    ).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=0.02 * values.std())


def test_interval_of_many_samples_is_the_normal_one() -> None:
    values = (np.arange(4000) % 5 < 3).astype(float)
    low, high = bootstrap_mean(values, n_resamples=5000)
    half = 1.959964 * np.sqrt(0.6 * 0.4 / 4000)
    np.testing.assert_allclose([low, high], [0.6 - half, 0.6 + half], atol=0.0012)


def test_nominal_95_percent_covers_about_95_percent() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for i in range(400):
        low, high = bootstrap_mean((rng.uniform(size=100) < 0.7).astype(float), i, 400)
        hits += low <= 0.7 <= high
    assert 0.91 <= hits / 400 <= 0.98


def test_constant_and_single_values_have_a_defined_outcome() -> None:
    assert bootstrap_mean([0.25] * 10) == (0.25, 0.25)
    assert np.isnan(bootstrap_mean([1.0])).all()


def test_fractions_that_are_all_the_same_have_jeffreys_interval() -> None:
    for right, values in ((96, np.ones(96)), (0, np.zeros(40))):
        expected = stats.beta(right + 0.5, len(values) - right + 0.5).ppf([0.025, 0.975])
        found = bootstrap_mean(values, n_resamples=20_000, is_fraction=True)
        np.testing.assert_allclose(found, expected, atol=0.003)


def test_images_are_drawn_with_all_their_samples() -> None:
    """As many copies of an image's answer as there may be: the interval is that of images."""
    rng = np.random.default_rng(4)
    answers, images = rng.normal(size=80), np.arange(80).astype(str)
    copied = np.repeat(answers, 3), np.repeat(images, 3).tolist()
    expected = bootstrap_mean(answers, n_resamples=20_000)
    found = bootstrap_mean(copied[0], n_resamples=20_000, images=copied[1])
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert np.isnan(bootstrap_mean([0.1, 0.2], images=["a", "a"])).all()


@pytest.mark.parametrize(("p", "n"), [(0.98, 96), (0.99, 128)])
def test_nearly_all_right_is_covered_as_well(p: float, n: int) -> None:
    """Averaged over the binomial distribution of right answers; 0.84 and less without a prior."""
    right = np.arange(n - 12, n + 1)
    hits = []
    for k in right:
        low, high = bootstrap_mean(np.arange(n) < k, n_resamples=2000, is_fraction=True)
        hits.append(low <= p <= high)
    chances = stats.binom.pmf(right, n, p)
    assert 0.92 <= chances @ np.array(hits) <= 0.995


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(3).normal(size=50)
    assert bootstrap_mean(values, seed=4) == bootstrap_mean(values, seed=4)
    assert bootstrap_mean(values, seed=4) != bootstrap_mean(values, seed=5)


@pytest.mark.parametrize("values", [[], [0.1, float("nan")]])
def test_no_values_or_missing_ones_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite values"):
        bootstrap_mean(values)


def test_weights_are_counts_of_drawn_samples() -> None:
    weights = resampled_means(np.eye(7), 50, 0)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights * 7, np.round(weights * 7))
