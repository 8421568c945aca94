"""Savings' intervals by inverting a test: closed forms, and what has no end."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.sampling import bd
from analysis.sampling.intervals import Floats, resampled_means
from analysis.sampling.inversion import Inversion

RATES = 0.1 * 2.0 ** np.arange(4)
LINE = np.array([0.45, 0.55, 0.65, 0.75])
R, N = 4000, 400


def inversion(
    anchor: tuple[Floats, Floats], test: tuple[Floats, Floats], noise: tuple[Floats, Floats]
) -> Inversion:
    """Of two curves all of whose points move by one (R,) noise each."""
    batches = [
        bd.Batch(np.tile(rate, (len(shift), 1)), accuracy + shift[:, None])
        for (rate, accuracy), shift in zip((anchor, test), noise, strict=True)
    ]
    on = [bd.front(*curve) for curve in (anchor, test)]
    fronts = [(c[0][keep], c[1][keep]) for c, keep in zip((anchor, test), on, strict=True)]
    return Inversion((fronts[0], fronts[1]), (batches[0], batches[1]))


def noises(spread: float = 0.3) -> tuple[Floats, Floats]:
    """Two resampled errors of mean 0 over the same samples, as correlated as real ones."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=N)
    own = np.stack([shared + rng.normal(size=N) for _ in range(2)], axis=1)
    means = resampled_means(spread * (own - own.mean(axis=0)), R, 1)
    return means[:, 0], means[:, 1]


@pytest.mark.parametrize("target", [0.53, 0.6, 0.65])
def test_of_parallel_lines_it_is_the_paired_difference_over_the_slope(target: float) -> None:
    anchor_noise, test_noise = noises()
    inverted = inversion((RATES, LINE), (0.7 * RATES, LINE), (anchor_noise, test_noise))
    low, high = np.quantile(anchor_noise - test_noise, [0.025, 0.975])
    slope = 0.1 / np.log10(2)
    expected = np.log10(0.7) + np.array([low, high]) / slope
    np.testing.assert_allclose(inverted.interval(target), expected, atol=2e-3)


def test_of_lines_with_other_slopes_it_is_the_delta_methods() -> None:
    """Small errors: log rates at the target move by the errors over each curve's own slope."""
    anchor_noise, test_noise = noises(0.1)
    steep = 0.6 + 1.5 * (LINE - 0.6)
    inverted = inversion((RATES, LINE), (0.7 * RATES, steep), (anchor_noise, test_noise))
    unit = np.log10(2) / 0.1
    low, high = np.quantile(unit * anchor_noise - unit / 1.5 * test_noise, [0.025, 0.975])
    np.testing.assert_allclose(
        inverted.interval(0.6), np.log10(0.7) + np.array([low, high]), rtol=0.03
    )


def test_a_single_point_is_compared_at_its_own_rate() -> None:
    anchor_noise, test_noise = noises()
    point = (np.array([0.15]), np.array([0.6]))
    inverted = inversion((RATES, LINE), point, (anchor_noise, test_noise))
    low, high = np.quantile(anchor_noise - test_noise, [0.025, 0.975])
    log_ratio = np.log10(0.15) - np.log10(0.1 * 2**1.5)
    expected = log_ratio + np.array([low, high]) * np.log10(2) / 0.1
    np.testing.assert_allclose(inverted.interval(0.6), expected, atol=2e-3)


def test_an_end_beyond_the_measured_rates_is_open() -> None:
    wide = noises(1.0)
    inverted = inversion((RATES, LINE), (0.7 * RATES, LINE), wide)
    assert np.isfinite(inverted.interval(0.6)).all()
    assert np.isnan(inverted.interval(0.46)).any()
    flat = np.array([0.58, 0.59, 0.61, 0.62])
    assert np.isnan(inversion((RATES, flat), (RATES, flat), wide).interval(0.6)).all()


def test_without_spread_it_is_the_number_itself() -> None:
    nothing = np.zeros(50), np.zeros(50)
    inverted = inversion((RATES, LINE), (0.7 * RATES, LINE), nothing)
    np.testing.assert_allclose(inverted.interval(0.6), np.log10(0.7), atol=1e-9)


def test_normal_errors_give_the_normal_interval() -> None:
    rng = np.random.default_rng(3)
    errors = rng.normal(0, 0.01, 20_000), rng.normal(0, 0.01, 20_000)
    inverted = inversion((RATES, LINE), (0.5 * RATES, LINE), errors)
    half = stats.norm.ppf(0.975) * 0.01 * np.sqrt(2) * np.log10(2) / 0.1
    expected = np.log10(0.5) + np.array([-half, half])
    np.testing.assert_allclose(inverted.interval(0.6), expected, atol=0.002)


def test_at_a_point_of_the_anchor_its_rate_stays() -> None:
    """The paired difference over the test's slope alone, at the anchor's lowest point too."""
    anchor_noise, test_noise = noises(0.1)
    steep = 0.45 + 1.5 * (LINE - 0.45)
    inverted = inversion((RATES, LINE), (0.7 * RATES, steep - 0.05), (anchor_noise, test_noise))
    unit = np.log10(2) / 0.15
    low, high = np.quantile(unit * (anchor_noise - test_noise), [0.025, 0.975])
    expected = np.log10(0.7) + np.log10(2) / 3 + np.array([low, high])
    np.testing.assert_allclose(inverted.interval(0.45), expected, rtol=0.05)
