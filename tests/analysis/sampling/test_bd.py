"""BD-rate and savings against the package, closed forms and public numbers."""

from __future__ import annotations

import bjontegaard
import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from analysis.sampling.bd import (
    Batch,
    accuracy_at,
    bd_accuracy,
    bd_rate,
    front,
    overlap,
    pooled,
    rate_at,
)
from analysis.sampling.intervals import Floats

# kbit/s and dB: the example that public implementations of the BD-rate share.
RATE_A = np.array([686.76, 309.58, 157.11, 85.95])[::-1]
PSNR_A = np.array([40.28, 37.18, 34.24, 31.42])[::-1]
RATE_B = np.array([893.34, 407.8, 204.93, 112.75])[::-1]
PSNR_B = np.array([40.39, 37.21, 34.17, 31.24])[::-1]


def test_public_numbers_agree_with_the_package_and_the_original_cubic_definition() -> None:
    """VCEG-M33: cubic fits of log rate over PSNR, integrated over the overlap."""
    low, high = max(PSNR_A[0], PSNR_B[0]), min(PSNR_A[-1], PSNR_B[-1])
    areas = []
    for rate, psnr in ((RATE_A, PSNR_A), (RATE_B, PSNR_B)):
        primitive = np.polynomial.Polynomial.fit(psnr, np.log10(rate), 3).integ()
        areas.append(primitive(high) - primitive(low))
    cubic = 100 * (10 ** ((areas[1] - areas[0]) / (high - low)) - 1)
    got = bd_rate(RATE_A, PSNR_A, RATE_B, PSNR_B)
    assert got == pytest.approx(cubic, abs=0.1)
    package = bjontegaard.bd_rate(RATE_A, PSNR_A, RATE_B, PSNR_B, method="pchip")
    assert got == pytest.approx(package, rel=1e-12)


@pytest.mark.parametrize("factor", [0.25, 0.7, 1.0, 1.6])
def test_a_constant_factor_in_rate_is_exactly_that_bd_rate_and_saving(factor: float) -> None:
    rate = np.array([0.1, 0.2, 0.4, 0.8])
    accuracy = np.array([0.4, 0.55, 0.7, 0.85])  # a straight line in log rate
    assert bd_rate(rate, accuracy, factor * rate, accuracy) == pytest.approx(100 * (factor - 1))
    accuracies = np.array([0.4, 0.5, 0.62, 0.85])
    ratio = rate_at(factor * rate, accuracy, accuracies) / rate_at(rate, accuracy, accuracies)
    np.testing.assert_allclose(ratio, factor)


def test_crossing_straight_lines_have_the_closed_form_over_the_overlap() -> None:
    """log10 r = s a + c: the mean difference over the overlap is its value at the middle."""

    def line(a: Floats, slope: float, offset: float) -> Floats:
        out: Floats = 10 ** (slope * a + offset)
        return out

    a, b = np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.4, 0.5, 0.7, 0.9])
    middle = (0.4 + 0.8) / 2
    gap = (1.5 * middle - 2.3) - (2.0 * middle - 2.0)
    expected = 100 * (10**gap - 1)
    assert bd_rate(line(a, 2.0, -2.0), a, line(b, 1.5, -2.3), b) == pytest.approx(expected)


def test_batch_equals_the_package_row_by_row_with_dips_ties_and_gaps() -> None:
    rng = np.random.default_rng(0)

    def made(rows: int) -> tuple[Floats, Floats]:
        rate = np.sort(rng.uniform(0.05, 1, (rows, 5)), axis=1)
        accuracy = np.sort(rng.uniform(0.2, 1, (rows, 5)), axis=1)
        return rate, np.round(accuracy + rng.normal(0, 0.08, (rows, 5)), 2)

    anchor, test = made(300), made(300)
    batched = Batch(*test).bd_rate(Batch(*anchor))
    one_by_one = []
    for i in range(300):
        on = [front(rate[i], accuracy[i]) for rate, accuracy in (anchor, test)]
        one_by_one.append(
            bd_rate(
                *(x[i][on[0]] for x in anchor),
                *(x[i][on[1]] for x in test),
            )
        )
    assert 0 < np.isnan(batched).sum() < 100
    np.testing.assert_allclose(batched, one_by_one, rtol=1e-9)


def test_front_keeps_what_no_cheaper_point_matches() -> None:
    rate = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    on = front(rate, np.array([0.5, 0.7, 0.6, 0.7 + 1e-12, 0.8]))
    assert on.tolist() == [True, True, False, False, True]


def test_pools_are_those_of_isotonic_regression() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        rate = np.sort(random.uniform(0.1, 1, 9))
        accuracy = random.choice(np.linspace(0.2, 0.9, 6), 9)
        expected = IsotonicRegression().fit_transform(rate, accuracy)
        pooled_rate, pooled_accuracy = pooled(rate, accuracy)
        assert pooled_accuracy == pytest.approx(np.unique(expected.round(6)), abs=1e-6)
        assert (np.diff(pooled_accuracy) > 1e-9).all()
        of_pool = [np.flatnonzero(np.isclose(expected, level)) for level in pooled_accuracy]
        assert pooled_rate == pytest.approx([np.exp(np.log(rate[i]).mean()) for i in of_pool])


def test_no_overlap_and_single_points_have_no_bd_rate() -> None:
    rate, accuracy = np.array([0.1, 0.2]), np.array([0.5, 0.6])
    assert np.isnan(bd_rate(rate, accuracy, rate, accuracy + 0.2))
    assert np.isnan(bd_rate(rate, accuracy, rate[:1], accuracy[:1]))
    assert np.isnan(rate_at(rate, accuracy, np.array([0.45, 0.61]))).all()


def test_overlap_is_shared_over_union() -> None:
    shared = overlap(np.array([0.2, 0.6]), np.array([0.4, 1.0]))
    assert (shared.low, shared.high, shared.share) == (0.4, 0.6, pytest.approx(0.25))


# CompressAI's published results on Kodak (results/image/kodak/, mbt2018-mean and VTM), rounded.
MEAN_BPP = np.array([0.1239, 0.1980, 0.3072, 0.4606, 0.6617, 0.9144, 1.2342, 1.6191])
MEAN_PSNR = np.array([27.699, 29.359, 31.129, 32.951, 34.968, 36.911, 38.838, 40.633])
VTM_BPP = np.array([0.0482, 0.1125, 0.2458, 0.4905, 0.8748, 1.4308, 2.3246, 3.6326])
VTM_PSNR = np.array([26.145, 28.493, 31.200, 34.262, 37.420, 40.424, 43.506, 46.592])


@pytest.mark.parametrize(
    ("anchor", "test"),
    [
        ((RATE_A, PSNR_A), (RATE_B, PSNR_B)),
        ((VTM_BPP, VTM_PSNR), (MEAN_BPP, MEAN_PSNR)),
        ((MEAN_BPP, MEAN_PSNR), (VTM_BPP, VTM_PSNR)),
    ],
)
def test_public_curves_give_the_packages_numbers_one_by_one_and_in_batches(
    anchor: tuple[Floats, Floats], test: tuple[Floats, Floats]
) -> None:
    said = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
    rate = bjontegaard.bd_rate(*anchor, *test, **said)
    gain = bjontegaard.bd_psnr(*anchor, *test, **said)
    assert bd_rate(*anchor, *test) == pytest.approx(rate, rel=1e-12)
    assert bd_accuracy(*anchor, *test) == pytest.approx(gain, rel=1e-12)
    base, other = (Batch(rates[None], values[None]) for rates, values in (anchor, test))
    assert other.bd_rate(base)[0] == pytest.approx(rate, rel=1e-9)
    assert other.bd_accuracy(base)[0] == pytest.approx(gain, rel=1e-9)
    assert np.sign(rate) == -np.sign(gain)


def test_bd_accuracy_of_the_public_example_agrees_with_the_original_cubic_definition() -> None:
    """VCEG-M33: cubic fits of PSNR over log rate, integrated over the rates of both."""
    logs = [np.log10(rate) for rate in (RATE_A, RATE_B)]
    low, high = max(logs[0][0], logs[1][0]), min(logs[0][-1], logs[1][-1])
    areas = []
    for log, psnr in zip(logs, (PSNR_A, PSNR_B), strict=True):
        primitive = np.polynomial.Polynomial.fit(log, psnr, 3).integ()
        areas.append(primitive(high) - primitive(low))
    cubic = (areas[1] - areas[0]) / (high - low)
    assert bd_accuracy(RATE_A, PSNR_A, RATE_B, PSNR_B) == pytest.approx(cubic, abs=0.01)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.25])
def test_a_straight_line_gains_its_slope_times_the_log_of_the_factor(factor: float) -> None:
    rate = np.array([0.1, 0.2, 0.4, 0.8])
    accuracy = np.array([0.4, 0.55, 0.7, 0.85])  # 0.15 for each doubling
    expected = -0.15 * np.log2(factor)
    assert bd_accuracy(rate, accuracy, factor * rate, accuracy) == pytest.approx(expected)
    rates = np.array([0.2, 0.3, 0.4])
    gain = accuracy_at(factor * rate, accuracy, rates) - accuracy_at(rate, accuracy, rates)
    np.testing.assert_allclose(gain, expected)


def test_accuracy_at_a_rate_counts_points_off_the_front_too() -> None:
    rate, dipped = np.array([0.1, 0.2, 0.4]), np.array([0.5, 0.4, 0.6])
    np.testing.assert_allclose(accuracy_at(rate, dipped, rate), dipped)
    assert np.isnan(accuracy_at(rate, dipped, np.array([0.09, 0.41]))).all()
    twice = accuracy_at(np.array([0.1, 0.2, 0.2, 0.4]), np.array([0.5, 0.6, 0.4, 0.7]), rate)
    np.testing.assert_allclose(twice, [0.5, 0.6, 0.7])
