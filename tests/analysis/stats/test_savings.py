"""Savings and gains at stated targets: closed forms, and words where there is no number."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.integrate import trapezoid

from analysis.curves.assemble import assemble
from analysis.curves.curve import MEAN
from analysis.io.read import read_sweep
from analysis.io.schema import AnalysisError
from analysis.stats.as_text import with_interval
from analysis.stats.pairs import Pair
from analysis.stats.savings import gains, savings
from tests.analysis.messages import holds, naming
from tests.analysis.simulated import LINE, RATES, Population
from tests.analysis.stats.test_compare import RATES as FOUR
from tests.analysis.stats.test_compare import RISING, drawn, half
from tests.analysis.sweeps import GAIN


def only(frame: pd.DataFrame, task: str = "vqa") -> pd.DataFrame:
    return frame[frame["task"] == task].reset_index(drop=True)


Points = tuple[tuple[float, ...], tuple[float, ...]]


def pair_of(anchor: Points, test: Points) -> Pair:
    """Two curves drawn by hand, without samples."""
    known = {c.scenario: c for c in assemble(drawn(a=anchor, b=test), 10).curves}
    return Pair(known["a"], known["b"])


def test_half_the_bits_is_50_percent_at_every_target_and_a_slope_at_every_rate() -> None:
    assembled = assemble(drawn(reconstruction=(FOUR, RISING), d1=(half(FOUR), RISING)))
    at_own = only(savings(assembled))
    assert at_own["target"].tolist() == list(RISING)
    np.testing.assert_allclose(at_own["saved"], 50)
    np.testing.assert_allclose(only(savings(assembled, [0.45, 0.8]))["saved"], 50)
    gained = only(gains(assembled))
    assert gained["rate"].tolist() == list(FOUR)
    np.testing.assert_allclose(gained["gained"][:3], 0.15)  # one doubling
    assert np.isnan(gained["gained"][3])
    assert holds(gained["note"][3], "0.8 bpp", "d1", "0.05 to 0.4")
    assert all(holds(note, "no interval", "per-sample") for note in gained["note"][:3])


def test_targets_beyond_a_curve_have_no_number_and_say_whose_fault_it_is() -> None:
    assembled = assemble(drawn(reconstruction=(FOUR, RISING), d1=(FOUR, (0.5, 0.6, 0.65, 0.7))), 10)
    said = only(savings(assembled, [0.3, 0.45, 0.6, 0.8, 0.9]))
    assert np.isfinite(said["saved"]).tolist() == [False, False, True, False, False]
    assert holds(said["note"][0], "reconstruction", "above 0.300", "0.400")
    assert holds(said["note"][1], "d1", "above 0.450", "0.500")
    assert holds(said["note"][3], "d1", "not reach 0.800", "0.700")
    assert holds(said["note"][4], "reconstruction", "not reach 0.900", "0.850")


def test_targets_may_be_shares_of_the_uncompressed_bound(sweep_dir: Path) -> None:
    assembled = assemble(read_sweep(str(sweep_dir)), 200)
    found = savings(assembled, of_bound=[0.9])
    bounds = assembled.bounds.set_index(["task", "metric"])["value"]
    own = found[found["scenario"] == "d2"]
    kinds = pd.MultiIndex.from_frame(own[["task", "metric"]])
    np.testing.assert_allclose(own["target"], 0.9 * bounds.loc[kinds].to_numpy())
    d2 = own.set_index("task").loc[MEAN]
    assert d2["saved"] == pytest.approx(100 * (1 - 1 / GAIN["d2"]), abs=8)
    assert d2["saved_low"] < d2["saved"] < d2["saved_high"]
    without = drawn(reconstruction=(FOUR, RISING), d1=(FOUR, RISING))
    nothing = only(savings(assemble(without, 10), of_bound=[0.9]))
    assert nothing["saved"].isna().all()
    assert nothing["note"].str.contains("no bound").all()


def test_what_is_no_target_is_refused() -> None:
    assembled = assemble(drawn(reconstruction=(FOUR, RISING), d1=(FOUR, RISING)), 10)
    with pytest.raises(AnalysisError, match=naming("target", "nan")):
        savings(assembled, [float("nan")])
    with pytest.raises(AnalysisError, match=naming("of_bound", 0)):
        savings(assembled, of_bound=[0.0])
    with pytest.raises(AnalysisError, match=naming("rate", -1)):
        gains(assembled, [-1.0])


def test_a_gain_where_both_curves_have_a_point_is_the_paired_difference() -> None:
    """On the same bitstreams, at both ends of the range too."""
    sweep = Population(factor=1.0).draw(np.random.default_rng(1), 300)
    assembled = assemble(sweep, 4000)
    found = only(gains(assembled))
    assert sweep.samples is not None
    table = sweep.samples.pivot_table(index="sample_id", columns="point_key", values="value")
    for i, row in found.iterrows():
        difference = table[f"d1-{i}-0"] - table[f"reconstruction-{i}-0"]
        half = stats.norm.ppf(0.975) * stats.sem(difference)
        assert row["gained"] == pytest.approx(difference.mean())
        assert row["gained_low"] == pytest.approx(difference.mean() - half, abs=0.006)
        assert row["gained_high"] == pytest.approx(difference.mean() + half, abs=0.006)


def test_a_gain_at_the_end_of_one_curve_has_an_interval() -> None:
    sweep = Population(factor=0.5).draw(np.random.default_rng(1), 300)
    found = only(gains(assemble(sweep, 400)))  # at the anchor's rates; the test's end at half
    known = found["gained"].notna()
    assert known.tolist() == [True, True, True, False]
    assert found.loc[known, "gained_low"].notna().all()
    rates = sweep.points.loc[sweep.points["scenario"] == "d1", "bpp"]
    at_end = only(gains(assemble(sweep, 400), [float(rates.max())])).iloc[0]
    assert at_end["gained_low"] < at_end["gained"] < at_end["gained_high"]


def test_a_saving_at_the_anchors_end_is_as_certain_as_elsewhere() -> None:
    """The anchor's own point stays where it is; its samples' errors divide by the test's slope."""
    lower = Population(test_accuracy=(0.40, 0.50, 0.60, 0.70), factor=0.5)
    found = only(savings(assemble(lower.draw(np.random.default_rng(4), 2000), 1000)))
    assert found["saved"].notna().tolist() == [True, True, True, False]
    widths = (found["saved_high"] - found["saved_low"])[:3]
    assert widths.max() < 2.5 * widths.min()


def test_a_saving_whose_end_is_beyond_the_measured_rates_is_open_there() -> None:
    sweep = Population().draw(np.random.default_rng(1), 300)
    assembled = assemble(sweep, 400)
    highest = next(c for c in assembled.curves if c.scenario == "d1").frame["value"].max()
    anchor = sweep.points.loc[sweep.points["scenario"] != "d1", "value"].max()
    found = only(savings(assembled, [float(min(highest, anchor)), 0.6]))
    assert found["saved_low"][0] == -np.inf  # it may need more bits than any that were measured
    assert found["saved"][0] < found["saved_high"][0] < 100
    assert with_interval(found["saved"][0], -np.inf, 40.0).endswith("[−∞, 40]")
    assert found["saved_low"][1] < found["saved"][1] < found["saved_high"][1]


def test_a_single_point_has_a_saving_with_an_interval_at_its_own_accuracy() -> None:
    sweep = Population().draw(np.random.default_rng(2), 500)
    one = sweep.points[(sweep.points["scenario"] != "d1") | (sweep.points["lmbda"] == 0.004)]
    assembled = assemble(dataclasses.replace(sweep, points=one), 400)
    accuracy = float(one.loc[one["scenario"] == "d1", "value"].iloc[0])
    said = only(savings(assembled, [accuracy])).iloc[0]
    assert said["saved_low"] < 30 < said["saved_high"]


def test_relative_difference_is_the_factor_everywhere_and_the_bd_rate_on_average() -> None:
    known = {
        c.scenario: c for c in assemble(drawn(a=(FOUR, RISING), b=(half(FOUR), RISING))).curves
    }
    flat = Pair(known["a"], known["b"]).relative_difference(11)
    np.testing.assert_allclose(flat["change"], -50)
    assert flat.loc[flat["accuracy"] == 0.4, "measured"].tolist() == ["both"]

    pair = pair_of((FOUR, RISING), ((0.1, 0.15, 0.3, 0.9), (0.45, 0.6, 0.7, 0.9)))
    frame = pair.relative_difference(4001)
    assert set(frame["measured"]) == {"anchor", "test", "both", ""}
    assert frame["accuracy"].min() == 0.45
    assert frame["accuracy"].max() == 0.85
    logs = np.log10(1 + frame["change"].to_numpy() / 100)
    mean = trapezoid(logs, frame["accuracy"]) / 0.4
    assert 100 * (10**mean - 1) == pytest.approx(pair.bd_rate().value, abs=1e-3)


def test_relative_difference_has_pointwise_intervals_and_nothing_without_overlap() -> None:
    curves = assemble(Population().draw(np.random.default_rng(3), 500), 300)
    known = {c.scenario: c for c in curves.curves}
    frame = Pair(known["reconstruction"], known["d1"], curves.resampled).relative_difference(21)
    inside = frame[frame["accuracy"].between(0.55, 0.65)]
    assert (inside["low"] < inside["change"]).all()
    assert (inside["high"] > inside["change"]).all()
    apart = {
        c.scenario: c
        for c in assemble(drawn(a=(FOUR, LINE), b=(RATES, (0.8, 0.85, 0.9, 0.95)))).curves
    }
    assert Pair(apart["a"], apart["b"]).relative_difference().empty
