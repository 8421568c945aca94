"""Paired tests against scipy and published examples, and what is not tested."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats
from scipy.interpolate import PchipInterpolator

from analysis.curves.assemble import assemble
from analysis.curves.curve import MEAN
from analysis.io.read import read_sweep
from analysis.io.schema import AnalysisError
from analysis.io.sweep import Sweep
from analysis.sampling.tables import sample_table
from analysis.stats.compare import compare
from analysis.stats.savings import gains
from analysis.stats.significance import (
    MCNEMAR,
    PAIRED_T,
    RANDOM_SEEDS,
    SIGN,
    _layout,
    _test_of,
    _variances,
    behrens_fisher,
    holm,
    mcnemar,
    significance,
)
from tests.analysis.messages import holds, naming
from tests.analysis.simulated import Population


def test_holm_is_the_textbooks_example() -> None:
    """Holm 1979's method on the p-values 0.01, 0.04, 0.03, 0.005."""
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])


def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs() -> None:
    """15 better, 5 worse: 2 P(X >= 15), X binomial with 20 and 1/2, is 0.0414."""
    differences = np.array([1.0] * 15 + [-1.0] * 5 + [0.0] * 30)
    assert mcnemar(differences) == pytest.approx(0.04139, abs=1e-5)
    assert mcnemar(np.zeros(9)) == 1


def table_of(sweep: Sweep) -> pd.DataFrame:
    assert sweep.samples is not None
    return sweep.samples.pivot_table(index="sample_id", columns="point_key", values="value")


def graded(sweep: Sweep) -> Sweep:
    """The same with values between right and wrong."""
    assert sweep.samples is not None
    noise = np.random.default_rng(1).uniform(0, 0.3, len(sweep.samples))
    samples = sweep.samples.assign(value=0.7 * sweep.samples["value"] + noise)
    means = samples.groupby("point_key")["value"].mean()
    points = sweep.points.assign(value=means.loc[sweep.points["point_key"]].to_numpy())
    return dataclasses.replace(sweep, points=points, samples=samples)


def family(sweep: Sweep) -> pd.DataFrame:
    frame = significance(assemble(sweep, 50), families=["task"])
    return frame[frame["task"] == "vqa"].reset_index(drop=True)


def test_right_or_wrong_at_the_same_rate_is_mcnemar() -> None:
    sweep = Population(factor=1.0).draw(np.random.default_rng(0), 300)
    frame, table = family(sweep), table_of(sweep)
    assert set(frame["test"]) == {MCNEMAR}
    assert (frame["n_samples"] == 300).all()
    assert (frame["n_tests"] == 4).all()
    for i, row in frame.iterrows():
        difference = table[f"d1-{i}-0"] - table[f"reconstruction-{i}-0"]
        better, worse = int((difference > 0).sum()), int((difference < 0).sum())
        assert row["p"] == pytest.approx(stats.binomtest(better, better + worse).pvalue)
        assert row["difference"] == pytest.approx(difference.mean())
    np.testing.assert_allclose(frame["p_corrected"], holm(frame["p"].to_numpy()))


def test_graded_values_at_the_same_rate_are_scipys_paired_t_test() -> None:
    sweep = graded(Population(factor=1.0).draw(np.random.default_rng(0), 60))
    frame, table = family(sweep), table_of(sweep)
    assert set(frame["test"]) == {PAIRED_T}
    for i, row in frame.iterrows():
        expected = stats.ttest_rel(table[f"d1-{i}-0"], table[f"reconstruction-{i}-0"])
        assert row["p"] == pytest.approx(expected.pvalue)


SATURATING = tuple(0.9 - 0.4 * 2.0 ** -np.arange(4.0))
"""Accuracies at rates that double: a chord between two of them lies below the curve."""


def test_between_two_rates_of_the_anchor_its_curve_is_a_sum_of_its_points() -> None:
    sweep = Population(SATURATING, factor=2**0.5, spread=0.0).draw(np.random.default_rng(0), 200)
    frame, table = family(sweep), table_of(sweep)
    values = np.array([table[f"reconstruction-{i}-0"].mean() for i in range(4)])

    def curve(at: float, y: npt.NDArray[np.float64]) -> float:
        return float(PchipInterpolator(np.arange(4.0), y)(at))

    for i in range(3):  # half way to the next in log rate
        weights = [
            (curve(i + 0.5, values + step) - curve(i + 0.5, values - step)) / 2e-5
            for step in 1e-5 * np.eye(4)
        ]
        base = sum(w * table[f"reconstruction-{j}-0"] for j, w in enumerate(weights))
        expected = stats.ttest_rel(table[f"d1-{i}-0"], base)
        assert frame.loc[i, "p"] == pytest.approx(expected.pvalue, rel=1e-4)
        difference = table[f"d1-{i}-0"].mean() - curve(i + 0.5, values)
        assert frame.loc[i, "difference"] == pytest.approx(difference, abs=1e-9)
    assert np.isnan(frame.loc[3, "p"])
    assert holds(frame.loc[3, "note"], "no test", "reconstruction", "0.1 to 0.8 bpp")
    assert frame.loc[3, "n_tests"] is pd.NA


def test_the_mean_over_tasks_adds_variances_of_tasks_with_samples_of_their_own(
    sweep_dir: Path,
) -> None:
    sweep = read_sweep(str(sweep_dir))
    assert sweep.samples is not None
    frame = significance(assemble(sweep, 50), families=["scenario"])
    row = frame[(frame["scenario"] == "d1") & (frame["task"] == MEAN)].iloc[0]
    single = frame[(frame["scenario"] == "d1") & (frame["task"] != MEAN)]
    first = single.drop_duplicates("task")
    assert row["difference"] == pytest.approx(first["difference"].mean(), abs=0.01)
    assert row["n_samples"] == 4 * 200
    assert row["p"] < first["p"].median()


def test_behrens_and_fishers_distribution_is_the_published_one() -> None:
    """Fisher and Yates, Statistical Tables, VI: 5 % points at 6 and 6 degrees of freedom."""
    for degrees, point in ((15, 2.440), (30, 2.435), (45, 2.435)):
        share = np.sin(np.radians(degrees)) ** 2
        variances = np.array([share, 1 - share])
        assert behrens_fisher(point, variances, np.array([6.0, 6.0])) == pytest.approx(
            0.05, abs=3e-4
        )


def test_one_variance_is_students() -> None:
    variances, freedom = np.array([0.04, 0.0]), np.array([9.0, 2.0])
    expected = 2 * stats.t.sf(0.5 / 0.2, 9)
    assert _test_of(0.5, variances, freedom)["p"] == pytest.approx(expected)


def test_equal_differences_leave_the_signs() -> None:
    none, freedom = np.array([0.0]), np.array([9.0])
    assert _test_of(0.0, none, freedom) == {"test": SIGN, "p": 1.0}
    assert _test_of(0.1, none, freedom)["p"] == pytest.approx(2 * 0.5**10)


def test_samples_of_an_image_count_once() -> None:
    """Four samples of an image that are answered alike: the test of images' means."""
    sweep = Population(factor=1.0, per_image=4, of_image=1.0).draw(np.random.default_rng(0), 100)
    frame = family(sweep)
    assert set(frame["test"]) == {PAIRED_T}
    assert (frame["n_samples"] == 400).all()
    assert sweep.samples is not None
    images = sweep.samples.pivot_table(index="image_id", columns="point_key", values="value")
    for i, row in frame.iterrows():
        expected = stats.ttest_rel(images[f"d1-{i}-0"], images[f"reconstruction-{i}-0"])
        assert row["p"] == pytest.approx(expected.pvalue)


def test_the_mean_over_tasks_on_the_same_images_is_a_test_of_the_images_means() -> None:
    sweep = Population(factor=1.0, tasks=3).draw(np.random.default_rng(1), 100)
    frame = significance(assemble(sweep, 50))
    frame = frame[frame["task"] == MEAN].reset_index(drop=True)
    assert (frame["n_samples"] == 300).all()
    assert (frame["n_tests"] == 4).all()  # the tasks' tests are another family
    assert sweep.samples is not None
    images = sweep.samples.pivot_table(index="image_id", columns="point_key", values="value")
    for i, row in frame.iterrows():
        expected = stats.ttest_rel(images[f"d1-{i}-0"], images[f"reconstruction-{i}-0"])
        assert row["p"] == pytest.approx(expected.pvalue)


def test_a_sample_without_an_answer_costs_its_own_comparison_a_sample() -> None:
    sweep = Population(factor=1.0, failed=0.02).draw(np.random.default_rng(5), 200)
    frame, table = family(sweep), table_of(sweep)
    lost = int(table["d1-1-0"].isna().sum())
    assert lost > 0
    assert frame["n_samples"].tolist() == [200, 200 - lost, 200, 200]


def test_an_anchor_that_is_measured_once_leaves_the_trainings_spread() -> None:
    """The share of true nulls that are rejected: 43 % where the seeds are averaged away."""
    population = Population(factor=1.0, seeds=3, seed_noise=0.05, anchor_seeds=1)
    tests = [family(population.draw(np.random.default_rng(i), 100)) for i in range(20)]
    rejected = int(sum((frame["p"] < 0.05).sum() for frame in tests))
    assert set(tests[0]["test"]) == {RANDOM_SEEDS}
    assert stats.binomtest(rejected, 80, 0.05).pvalue > 1e-3


def test_matching_seeds_are_counted_once() -> None:
    """The variance of the mean of a balanced two-way layout, from the textbook's mean squares."""
    sweep = Population(factor=1.0, seeds=3, seed_noise=0.02).draw(np.random.default_rng(2), 100)
    assembled = assemble(sweep, 10)
    curve = {c.scenario: c.frame.iloc[0] for c in assembled.curves}
    assert sweep.samples is not None
    layout = _layout(
        sample_table(sweep.samples, ["value"]),
        [(curve["d1"], 1.0), (curve["reconstruction"], -1.0)],
    )
    table = table_of(sweep)
    d = np.stack([table[f"d1-0-{s}"] - table[f"reconstruction-0-{s}"] for s in range(3)], axis=1)
    n, s = d.shape
    image, seed = d.mean(axis=1, keepdims=True), d.mean(axis=0, keepdims=True)
    ms_image = s * image.var(ddof=1)
    ms_seed = n * seed.var(ddof=1)
    ms_rest = ((d - image - seed + d.mean()) ** 2).sum() / ((n - 1) * (s - 1))
    variances, freedom = _variances([layout])
    assert variances[0] == pytest.approx(max(0.0, ms_image - ms_rest) / (n * s))
    assert variances[1] == pytest.approx(ms_seed / (n * s))
    assert freedom.tolist() == [n - 1, s - 1]


def test_one_training_is_said_to_be_one() -> None:
    sweep = Population(factor=1.0).draw(np.random.default_rng(0), 100)
    assert all("one training" in note for note in family(sweep)["note"])
    several = Population(factor=1.0, seeds=3, anchor_seeds=1).draw(np.random.default_rng(0), 100)
    # The anchor is measured once, and was not trained.
    assert not any("one training" in note for note in family(several)["note"])


def test_equal_curves_that_bend_do_not_differ_between_measured_rates() -> None:
    """On a chord, 67 %, 25 % and 10 % of these were called different at 5 %."""
    between = tuple(0.9 - 0.4 * 2.0 ** -(np.arange(4.0) + 0.5))
    population = Population(SATURATING, between, factor=2**0.5, spread=0.0)
    rng = np.random.default_rng(11)
    p = np.array([family(population.draw(rng, 2000))["p"][:3] for _ in range(60)])
    assert ((p < 0.05).mean(axis=0) < 0.2).all()


def test_a_rate_at_which_one_training_is_left_is_said_to_be_one() -> None:
    population = Population(factor=1.0, seeds=3, seed_noise=0.05, anchor_seeds=1)
    whole = population.draw(np.random.default_rng(1), 300)
    left = whole.points[~whole.points["point_key"].isin(["d1-1-1", "d1-1-2"])]
    sweep = dataclasses.replace(whole, points=left)
    notes = list(family(sweep)["note"])
    assert [("one training" in note) for note in notes] == [False, True, False, False]
    assembled = assemble(sweep, 50)
    compared = compare(sweep, assembled=assembled)
    of_curve = compared[compared["scenario"] == "d1"]["note"]
    assert any("one training" in note for note in of_curve)
    gained = gains(assembled)
    assert all("one training" in note for note in gained[gained["scenario"] == "d1"]["note"])


def test_trainings_of_other_seeds_each_have_a_variance() -> None:
    population = Population(factor=1.0, seeds=4, seed_noise=0.05, anchor_seeds=3)
    sweep = population.draw(np.random.default_rng(3), 2000)
    frame, table = family(sweep), table_of(sweep)
    means = {
        name: [table[f"{name}-0-{seed}"].mean() for seed in range(count)]
        for name, count in (("d1", 4), ("reconstruction", 3))
    }
    # So many samples that the trainings decide: a sum of two Student's numbers, drawn.
    rng = np.random.default_rng(0)
    drawn = [stats.sem(m) * rng.standard_t(len(m) - 1, 200_000) for m in means.values()]
    difference = np.mean(means["d1"]) - np.mean(means["reconstruction"])
    expected = np.mean(np.abs(drawn[0] + drawn[1]) >= abs(difference))
    assert frame.loc[0, "p"] == pytest.approx(expected, abs=0.02)


def test_from_three_seeds_on_their_spread_counts() -> None:
    sweep = Population(factor=1.0, seeds=3, seed_noise=0.1).draw(np.random.default_rng(7), 2000)
    frame, table = family(sweep), table_of(sweep)
    assert set(frame["test"]) == {RANDOM_SEEDS}
    seeds = [
        [table[f"{scenario}-0-{seed}"].mean() for seed in range(3)]
        for scenario in ("d1", "reconstruction")
    ]
    alone = stats.ttest_rel(*seeds).pvalue
    samples = [
        table[[f"{scenario}-0-{seed}" for seed in range(3)]].mean(axis=1)
        for scenario in ("d1", "reconstruction")
    ]
    without = stats.ttest_rel(*samples).pvalue
    assert without < frame.loc[0, "p"]
    assert frame.loc[0, "p"] == pytest.approx(alone, abs=0.1)


def test_without_samples_there_is_no_test(sweep_dir: Path) -> None:
    sweep = dataclasses.replace(read_sweep(str(sweep_dir)), samples=None)
    frame = significance(assemble(sweep, 10))
    assert frame["p"].isna().all()
    assert frame["note"].str.contains("per-sample").any()


def test_a_misspelt_family_is_refused_with_the_valid_ones(sweep_dir: Path) -> None:
    assembled = assemble(read_sweep(str(sweep_dir)), 10)
    with pytest.raises(AnalysisError, match=naming("'tsak'", "mllm", "task")):
        significance(assembled, families=["tsak"])
