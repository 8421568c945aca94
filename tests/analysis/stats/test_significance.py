"""Paired tests against scipy and published examples, and what is not tested."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.curves.assemble import assemble
from analysis.curves.curve import MEAN
from analysis.io.read import read_sweep
from analysis.io.sweep import Sweep
from analysis.stats.significance import (
    MCNEMAR,
    PAIRED_T,
    SIGN,
    _t_test,
    holm,
    mcnemar,
    significance,
)
from tests.analysis.messages import holds
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


def test_between_two_rates_of_the_anchor_its_samples_are_interpolated() -> None:
    sweep = Population(factor=2**0.5, spread=0.0).draw(np.random.default_rng(0), 200)
    frame, table = family(sweep), table_of(sweep)
    for i in range(3):  # half way to the next in log rate
        around = [table[f"reconstruction-{j}-0"] for j in (i, i + 1)]
        expected = stats.ttest_rel(table[f"d1-{i}-0"], (around[0] + around[1]) / 2)
        assert frame.loc[i, "p"] == pytest.approx(expected.pvalue)
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


def test_welch_and_satterthwaite_are_scipys() -> None:
    """The difference of two independent means is a sum of two with variances of their own."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.3, 1, 12), rng.normal(0, 2, 30)
    variances = np.array([a.var(ddof=1) / 12, b.var(ddof=1) / 30])
    said = _t_test(a.mean() - b.mean(), variances, np.array([11, 29]))
    assert said["p"] == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)


def test_equal_differences_leave_the_signs() -> None:
    none = np.array([0.0])
    assert _t_test(0.0, none, np.array([9])) == {"test": SIGN, "p": 1.0}
    assert _t_test(0.1, none, np.array([9]))["p"] == pytest.approx(2 * 0.5**10)


def test_from_three_seeds_on_their_spread_counts() -> None:
    sweep = Population(factor=1.0, seeds=3, seed_noise=0.1).draw(np.random.default_rng(7), 2000)
    frame, table = family(sweep), table_of(sweep)
    assert set(frame["test"]) == {PAIRED_T}
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
