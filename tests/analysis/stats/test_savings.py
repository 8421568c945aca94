"""Savings and gains at stated targets: closed forms, and words where there is no number."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import trapezoid

from analysis.curves.assemble import assemble
from analysis.curves.curve import MEAN
from analysis.io.read import read_sweep
from analysis.io.schema import AnalysisError
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


def test_a_target_at_the_edge_has_a_number_and_no_interval() -> None:
    """The curve may as well have reached its lowest accuracy at rates below those measured."""
    sweep = Population().draw(np.random.default_rng(1), 300)
    assembled = assemble(sweep, 400)
    lowest = next(c for c in assembled.curves if c.scenario == "d1").frame["value"].min()
    edge = max(lowest, sweep.points.loc[sweep.points["scenario"] != "d1", "value"].min())
    said = only(savings(assembled, [float(edge), 0.6]))
    assert np.isfinite(said["saved"]).all()
    assert np.isnan(said["saved_low"][0])
    assert said["note"][0].startswith("no interval:")
    assert said["saved_low"][1] < said["saved"][1] < said["saved_high"][1]


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
