"""Every curve against reconstruction: numbers where there are some, words where there are none."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.curves.assemble import assemble
from analysis.curves.curve import MEAN
from analysis.io.read import AnalysisError, Sweep, read_sweep
from analysis.report.summary import summary_sentence, summary_table
from analysis.sampling.bd import bd_rate
from analysis.stats.compare import compare
from analysis.stats.savings import savings
from analysis.stats.trainings import UNKNOWN
from tests.analysis.messages import holds, naming
from tests.analysis.sweeps import GAIN, MLLM, make_sweep

RATES = (0.1, 0.2, 0.4, 0.8)
RISING = (0.4, 0.55, 0.7, 0.85)


def drawn(**curves: tuple[tuple[float, ...], tuple[float, ...]]) -> Sweep:
    """A sweep of one task with just these (rates, accuracies), without samples."""
    rows = [
        {
            "sweep": "s",
            "point_key": f"{scenario}{i}",
            "codec": "c",
            "lmbda": [0.001, 0.002, 0.004, 0.008][i],
            "scenario": scenario,
            "seed": 0,
            "mllm": MLLM,
            "task": "vqa",
            "dataset": "d",
            "split": "test",
            "metric": "accuracy",
            "value": value,
            "value_low": np.nan,
            "value_high": np.nan,
            "n_samples": 100,
            "bpp": rate,
            "bpp_estimated": rate,
            "psnr": np.nan,
            "run_id": None,
        }
        for scenario, (rates, values) in curves.items()
        for i, (rate, value) in enumerate(zip(rates, values, strict=True))
    ]
    return Sweep(pd.DataFrame(rows), None, {}, None)


def row(sweep: Sweep, scenario: str, task: str = "vqa") -> pd.Series:
    frame = compare(sweep)
    return frame[(frame["scenario"] == scenario) & (frame["task"] == task)].iloc[0]


def half(rates: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(r / 2 for r in rates)


def test_half_the_bits_is_minus_50_percent_everywhere() -> None:
    got = row(drawn(reconstruction=(RATES, RISING), d1=(half(RATES), RISING)), "d1")
    assert got["bd_rate"] == pytest.approx(-50)
    assert got["saved"] == pytest.approx(50)
    assert got["saved_max"] == pytest.approx(50)
    assert got["overlap"] == pytest.approx(1)
    assert [a for a, _ in got["saved_at_anchor"]] == pytest.approx(RISING)
    assert np.isnan(got["bd_rate_low"])
    assert holds(got["note"], "no interval", "per-sample")


def test_identical_curves_are_zero_and_said_to_be() -> None:
    got = row(drawn(reconstruction=(RATES, RISING), d1=(RATES, RISING)), "d1")
    assert got["bd_rate"] == pytest.approx(0, abs=1e-12)
    assert "identical to reconstruction" in got["note"]


@pytest.mark.parametrize("flat", [False, True])
def test_identical_trainings_are_identical_however_many_are_averaged(flat: bool) -> None:
    """The mean of three times 5/27 is another float than 5/27."""
    values = (5 / 27,) * 4 if flat else (5 / 27, 0.4, 0.7, 0.85)
    assert np.mean([5 / 27] * 3) != 5 / 27
    sweep = drawn(reconstruction=(RATES, values), post_processing=(RATES, values))
    again = sweep.points[sweep.points["scenario"] == "post_processing"]
    more = [again.assign(seed=s, point_key=again["point_key"] + f"-{s}") for s in (1, 2)]
    sweep = dataclasses.replace(sweep, points=pd.concat([sweep.points, *more], ignore_index=True))
    got = row(sweep, "post_processing")
    assert got["n_seeds"] == 3
    assert got["saved"] == pytest.approx(0, abs=1e-6)
    assert np.isnan(got["bd_rate"]) if flat else got["bd_rate"] == pytest.approx(0, abs=1e-6)
    assert "identical to reconstruction" in got["note"]
    assert "no overlap" not in got["note"]
    table = savings(assemble(sweep), targets=[5 / 27])
    assert table["saved"].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_a_dip_is_left_out_and_said_and_the_other_points_decide() -> None:
    dipped = (0.4, 0.55, 0.5, 0.85)
    got = row(drawn(reconstruction=(RATES, RISING), d1=(half(RATES), dipped)), "d1")
    rates = half(RATES)
    without = drawn(
        reconstruction=(RATES, RISING),
        d1=((rates[0], rates[1], rates[3]), (0.4, 0.55, 0.85)),
    )
    without.points.loc[without.points["point_key"] == "d12", "lmbda"] = 0.008
    assert holds(got["note"], "d1", "0.050", "1 of 4", "(0.2 bpp)")
    # A point off the front is known, a missing one is a hole: only the former gives a number.
    whole = without.points[without.points["scenario"] == "d1"]
    expected = bd_rate(
        np.array(RATES), np.array(RISING), whole["bpp"].to_numpy(), whole["value"].to_numpy()
    )
    assert got["bd_rate"] == pytest.approx(expected)


def test_a_number_that_hangs_on_points_left_out_says_so() -> None:
    # On a line of half the bits, two neighbours swapped: their pool lies on that line.
    swapped = (0.4, 0.7, 0.55, 0.85)
    sweep = drawn(
        reconstruction=(RATES, RISING),
        d1=(tuple(r / 2 for r in RATES), swapped),
        d3=(RATES, RISING),
    )
    got = row(sweep, "d1")
    assert got["bd_rate"] < -55
    assert got["bd_rate_pooled"] == pytest.approx(-50)
    assert "BD-rate −50 % where points are pooled with neighbours, not left out" in got["note"]
    other = row(sweep, "d3")
    assert np.isnan(other["bd_rate_pooled"])
    assert "pooled" not in other["note"]


def test_no_overlap_gives_no_number_but_what_can_be_said() -> None:
    above = (0.9, 0.92, 0.94, 0.96)
    got = row(drawn(reconstruction=(RATES, RISING), d3=(RATES, above)), "d3")
    assert np.isnan(got["bd_rate"])
    assert np.isnan(got["saved"])
    assert holds(got["note"], "no BD-rate", "no saving", "overlap")
    assert got["bd_accuracy"] > 0  # at equal rates there is something to say
    assert holds(got["note"], "0.900", "0.850", "88 % fewer")
    below = drawn(reconstruction=(RATES, RISING), d1=(RATES, (0.1, 0.2, 0.3, 0.35)))
    assert holds(row(below, "d1")["note"], "no BD-rate", "0.350", "0.400")


def test_a_single_point_has_a_saving_and_no_bd_rate() -> None:
    got = row(drawn(reconstruction=(RATES, RISING), d1=((0.1,), (0.55,))), "d1")
    assert np.isnan(got["bd_rate"])
    assert got["saved"] == pytest.approx(50)
    assert holds(got["note"], "no BD-rate", "d1", "single")


def test_a_flat_curve_is_a_single_usable_point() -> None:
    got = row(drawn(reconstruction=(RATES, RISING), d1=(RATES, (0.6,) * 4)), "d1")
    assert np.isnan(got["bd_rate"])
    assert holds(got["note"], "d1", "3 of 4")


def test_accuracy_saturated_at_the_uncompressed_bound_is_said_and_its_end_not_counted() -> None:
    """More bits than 0.2 bpp buy nothing: those points are off the front, the bound stays out."""
    top = (0.4, 0.85, 0.85, 0.85)
    sweep = drawn(uncompressed=((24.0,), (0.85,)), reconstruction=(RATES, RISING), d1=(RATES, top))
    points = sweep.points.assign(codec=sweep.points["codec"].where(sweep.points["bpp"] < 24))
    sweep = dataclasses.replace(sweep, points=points)
    got = row(sweep, "d1")
    assert holds(got["note"], "saturated: 3 of 4", "2 of 4", "(0.4, 0.8 bpp)")
    expected = bd_rate(np.array(RATES), np.array(RISING), np.array(RATES[:2]), np.array(top[:2]))
    assert got["bd_rate"] == pytest.approx(expected)
    assert got["saved_max"] == pytest.approx(100 * (1 - 0.2 / 0.8))
    assert row(sweep, "uncompressed")["note"] == "the bound"


def test_bd_accuracy_is_there_where_rates_meet_and_accuracies_do_not() -> None:
    got = row(
        drawn(reconstruction=(RATES, (0.1, 0.2, 0.3, 0.4)), d3=(RATES, (0.5, 0.6, 0.7, 0.8))), "d3"
    )
    assert np.isnan(got["bd_rate"])
    assert got["bd_accuracy"] == pytest.approx(0.4)
    apart = row(drawn(reconstruction=(RATES, RISING), d1=((1.6, 3.2, 6.4, 12.8), RISING)), "d1")
    assert np.isnan(apart["bd_accuracy"])
    assert apart["bd_rate"] == pytest.approx(1500)


def test_partial_overlap_is_said_with_its_share() -> None:
    got = row(drawn(reconstruction=(RATES, RISING), d2=(RATES, (0.7, 0.8, 0.9, 1.0))), "d2")
    assert got["overlap"] == pytest.approx(0.15 / 0.6)
    assert got["bd_rate"] < -50
    assert (got["shared_low"], got["shared_high"]) == pytest.approx((0.7, 0.85))
    assert holds(got["note"], "25%")
    sweep = drawn(reconstruction=(RATES, RISING), d2=(RATES, (0.7, 0.8, 0.9, 1.0)))
    table = summary_table(sweep, compare(sweep))
    assert "over 0.70–0.85" in table[table["curve"] == "d2"]["BD-rate"].iloc[0]


def test_under_a_quarter_of_the_accuracies_is_no_bd_rate() -> None:
    got = row(drawn(reconstruction=(RATES, RISING), d2=(RATES, (0.75, 0.85, 0.95, 1.0))), "d2")
    assert got["overlap"] == pytest.approx(1 / 6)
    assert np.isnan(got["bd_rate"])
    assert np.isfinite(got["saved"])
    assert holds(got["note"], "no BD-rate", "0.75 to 0.85", "17%", "25%")


def test_a_sentence_without_a_bd_rate_is_true_beside_the_bits_of_the_table() -> None:
    sweep = drawn(reconstruction=(RATES, RISING), d2=(RATES, (0.75, 0.85, 0.95, 1.0)))
    comparison = compare(sweep)
    table = summary_table(sweep, comparison).set_index("curve")
    assert not table.loc["d2", "BD-rate"].any()
    assert table.loc["d2", "bits"].all()
    sentence = summary_sentence(sweep, comparison)
    assert "`" not in sentence, "the page shows it as it is"
    assert holds(
        sentence,
        "No curve has a BD-rate against reconstruction on the mean over tasks",
        "the report page, under 'Comparison with reconstruction', says why",
        "the column bits is at their middle alone",
    )


def test_a_sentence_explains_no_bits_where_the_table_has_none() -> None:
    sweep = drawn(reconstruction=(RATES, (0.1, 0.2, 0.3, 0.4)), d3=(RATES, (0.5, 0.6, 0.7, 0.8)))
    assert "column bits" not in summary_sentence(sweep, compare(sweep))


def test_curves_are_ranked_over_the_accuracies_that_all_of_them_share() -> None:
    """d1 saves most where only it has points, d2 where both have."""
    d1 = (tuple(r / f for r, f in zip(RATES, (4.0, 4.0, 1.6, 1.6), strict=True)), RISING)
    d2 = ((0.1, 0.2, 0.4), (0.7, 0.85, 0.95))
    sweep = drawn(reconstruction=(RATES, RISING), d1=d1, d2=d2)
    frame = compare(sweep).set_index(["scenario", "task"]).xs(MEAN, level="task")
    shared = frame.loc[["d1", "d2"], ["ranked_low", "ranked_high"]].to_numpy()
    np.testing.assert_allclose(shared, [(0.7, 0.85)] * 2)
    assert frame.loc["d1", "ranked_bd_rate"] == pytest.approx(100 * (1 / 1.6 - 1), abs=5)
    assert frame.loc["d1", "bd_rate"] < -50  # over all that it shares
    assert frame.loc["d2", "ranked_bd_rate"] == pytest.approx(-75, abs=1.5)
    assert frame.loc["d2", "next_curve"] == "d1"
    # Against each other: the ratio of what they need.
    needs = 1 + frame.loc[["d2", "d1"], "ranked_bd_rate"].to_numpy() / 100
    assert frame.loc["d2", "bd_rate_to_next"] == pytest.approx(100 * (needs[0] / needs[1] - 1))
    assert np.isnan(frame.loc["d1", "bd_rate_to_next"])
    sentence = summary_sentence(sweep, compare(sweep))
    assert holds(sentence, "over the accuracies 0.70–0.85", "d2 needs 7", "d1 needs 3")


def test_a_curve_that_leaves_too_little_is_in_no_ranking() -> None:
    low = (0.3, 0.38, 0.45, 0.54)
    half_rates = half(RATES)
    sweep = drawn(
        reconstruction=(RATES, RISING),
        d1=(half_rates, RISING),
        d2=(half_rates, tuple(v + 0.1 for v in RISING)),
        d3=(half_rates, low),
    )
    frame = compare(sweep).set_index(["scenario", "task"]).xs(MEAN, level="task")
    assert frame["ranked_low"].notna().to_dict() == {
        **{"reconstruction": False, "d1": True, "d2": True, "d3": False}
    }
    assert np.isfinite(frame.loc["d3", "bd_rate"])
    assert holds(summary_sentence(sweep, compare(sweep)), "not ranked: d3", "over 0.40–0.54")


def test_two_curves_are_told_apart_by_their_paired_difference(sweep_dir: Path) -> None:
    """Against each other, over the accuracies of the ranking, in every resample."""
    assembled = assemble(read_sweep(str(sweep_dir)), 500)
    frame = compare(assembled.sweep, assembled=assembled)
    head = frame[(frame["task"] == MEAN) & (frame["scenario"] == "d2")].iloc[0]
    direct = compare(assembled.sweep, anchor=head["next_curve"], assembled=assembled)
    whole = direct[(direct["task"] == MEAN) & (direct["scenario"] == "d2")].iloc[0]
    assert head["bd_rate_to_next"] == pytest.approx(whole["bd_rate"], abs=6)
    width = head["bd_rate_to_next_high"] - head["bd_rate_to_next_low"]
    assert 0 < width < 25
    ratio = (1 + head["ranked_bd_rate"] / 100) / (
        1
        + frame[(frame["task"] == MEAN) & (frame["scenario"] == head["next_curve"])].iloc[0][
            "ranked_bd_rate"
        ]
        / 100
    )
    assert head["bd_rate_to_next"] == pytest.approx(100 * (ratio - 1))


def test_a_hole_gives_no_number_and_a_missing_end_does() -> None:
    whole = drawn(reconstruction=(RATES, RISING), d1=(half(RATES), RISING))
    for gone, number in (("d12", False), ("d13", True)):
        points = whole.points[whole.points["point_key"] != gone]
        got = row(dataclasses.replace(whole, points=points), "d1")
        assert np.isfinite(got["bd_rate"]) == number
        lmbda = "0.004" if gone == "d12" else "0.008"
        assert holds(got["note"], "missing", f"d1 lambda {lmbda}")
        assert ("hole" in got["note"]) != number


def test_without_an_anchor_it_is_said() -> None:
    got = row(drawn(d1=(RATES, RISING)), "d1")
    assert np.isnan(got["bd_rate"])
    assert holds(got["note"], "no reconstruction")


def test_simulated_gains_are_found_again_with_intervals_that_hold_them(sweep_dir: Path) -> None:
    frame = compare(read_sweep(str(sweep_dir))).set_index(["scenario", "task"])
    for scenario in ("post_processing", "d1", "d2", "d3"):
        got = frame.loc[(scenario, MEAN)]
        truth = 100 * (1 / GAIN[scenario] - 1)
        assert got["bd_rate"] == pytest.approx(truth, abs=6)
        assert got["bd_rate_low"] < got["bd_rate"] < got["bd_rate_high"]
        assert got["bd_rate_high"] - got["bd_rate_low"] < 20
        assert got["saved_low"] < got["saved"] < got["saved_high"]
        assert got["bd_defined"] == 1
        tasks = frame.loc[scenario].drop(MEAN)
        of_tasks = tasks["bd_rate"].mean(skipna=False)
        assert got["bd_rate_of_tasks"] == pytest.approx(of_tasks, nan_ok=True)


def test_pairing_narrows_the_interval(sweep_dir: Path) -> None:
    """The same samples in all curves: shuffling them per point must widen the interval."""
    sweep = read_sweep(str(sweep_dir))
    assert sweep.samples is not None
    rng = np.random.default_rng(0)
    values = sweep.samples.groupby(["point_key", "task", "metric"])["value"]
    shuffled = sweep.samples.assign(value=values.transform(lambda v: rng.permutation(v)))
    widths = []
    for samples in (sweep.samples, shuffled):
        frame = compare(dataclasses.replace(sweep, samples=samples))
        got = frame[(frame["scenario"] == "d1") & (frame["task"] == MEAN)].iloc[0]
        widths.append(got["bd_rate_high"] - got["bd_rate_low"])
    assert widths[0] < 0.8 * widths[1]


def test_samples_that_contradict_the_points_give_no_interval(sweep_dir: Path) -> None:
    sweep = read_sweep(str(sweep_dir))
    assert sweep.samples is not None
    wrong = sweep.samples.assign(value=sweep.samples["value"] * 0.5)
    frame = compare(dataclasses.replace(sweep, samples=wrong))
    got = frame[(frame["scenario"] == "d1") & (frame["task"] == "vqa")].iloc[0]
    assert np.isfinite(got["bd_rate"])
    assert np.isnan(got["bd_rate_low"])
    assert holds(got["note"], "no interval", "per-sample", "average")


def test_two_codecs_are_each_compared_with_their_own_reconstruction(tmp_path: Path) -> None:
    make_sweep(tmp_path / "two", codecs=("hyperprior", "elic"), examples=False)
    sweep = read_sweep(str(tmp_path / "two"))
    frame = compare(sweep)
    heads = frame[(frame["task"] == MEAN) & (frame["scenario"] == "d2")]
    assert set(heads["codec"]) == {"hyperprior", "elic"}
    assert heads["bd_rate"].between(-52, -36).all()
    assert "elic d2" in set(summary_table(sweep, frame)["curve"])


def test_summary_is_short_text_with_a_row_per_curve_and_task(holey_dir: Path) -> None:
    sweep = read_sweep(str(holey_dir))
    comparison = compare(sweep)
    table = summary_table(sweep, comparison)
    assert list(table.columns) == ["curve", "task", "bpp", "accuracy", "BD-rate", "bits", "note"]
    assert len(table) == 6 * 5
    assert table.map(lambda x: isinstance(x, str)).all(axis=None)
    d3 = table[(table["curve"] == "d3") & (table["task"] == MEAN)].iloc[0]
    assert d3["BD-rate"].startswith("−6")
    (saved,) = comparison[(comparison["task"] == MEAN) & (comparison["scenario"] == "d3")]["saved"]
    assert saved > 0
    assert d3["bits"].startswith(f"−{saved:.0f} % [−"), "negative means fewer, as of the BD-rate"
    d2 = table[(table["curve"] == "d2") & (table["task"] == MEAN)].iloc[0]
    assert d2["BD-rate"] == ""
    assert holds(d2["note"], "missing", "d2 lambda 0.004", "diverged")
    sentence = summary_sentence(sweep, comparison)
    assert "2 of 21" in sentence
    assert "d3 needs 6" in sentence


def test_a_sentence_claims_no_more_than_the_interval_and_the_training_lengths(
    holey_dir: Path,
) -> None:
    sweep = read_sweep(str(holey_dir))
    comparison = compare(sweep)
    (row,) = comparison[(comparison["task"] == MEAN) & (comparison["scenario"] == "d3")].to_dict(
        "records"
    )
    row |= {"ranked_bd_rate": -13.0, "ranked_bd_rate_low": -24.0, "ranked_bd_rate_high": 6.0}
    trained = dataclasses.replace(sweep, manifest={**sweep.manifest, "space": {"name": "demo"}})
    sentence = summary_sentence(trained, pd.DataFrame([row]))
    assert "fewer" not in sentence
    assert holds(sentence, "d3", "no difference", "-13 %", "-24 to +6 %")
    assert UNKNOWN in sentence
    foreign = dataclasses.replace(sweep, manifest={})
    assert UNKNOWN not in summary_sentence(foreign, pd.DataFrame([row]))
    row |= {"ranked_bd_rate_low": float("nan"), "ranked_bd_rate_high": float("nan")}
    assert holds(summary_sentence(trained, pd.DataFrame([row])), "13 % fewer", "no interval")


def test_a_sentence_names_the_curves_that_save_most(holey_dir: Path) -> None:
    sweep = read_sweep(str(holey_dir))
    comparison = compare(sweep)
    (row,) = comparison[(comparison["task"] == MEAN) & (comparison["scenario"] == "d3")].to_dict(
        "records"
    )
    rates = [-70.0, -60, -50, -40, -30, -20, -10, 5]
    many = pd.DataFrame(
        [{**row, "scenario": f"s{i}", "ranked_bd_rate": r} for i, r in enumerate(rates)]
    )
    sentence = summary_sentence(sweep, many)
    assert [f"s{i} needs" in sentence for i in range(8)] == [True] * 6 + [False] * 2
    assert "2 more: -10 % to +5 %" in sentence


def test_a_sentence_says_which_neighbours_are_not_told_apart(holey_dir: Path) -> None:
    sweep = read_sweep(str(holey_dir))
    comparison = compare(sweep)
    (row,) = comparison[(comparison["task"] == MEAN) & (comparison["scenario"] == "d3")].to_dict(
        "records"
    )
    to_next = {"next_curve": "oracle", "bd_rate_to_next": -1.0, "bd_rate_to_next_low": -7.0}
    for high, is_apart in ((5.0, False), (-0.5, True)):
        rows = pd.DataFrame([{**row, **to_next, "bd_rate_to_next_high": high}])
        sentence = summary_sentence(sweep, rows)
        assert ("not told apart from oracle (−1 % [−7, +5])" in sentence) != is_apart


def guessing(values: tuple[float, ...], bound: float) -> Sweep:
    """One choice in eight: the anchor, and d1 with half the bits, at some accuracies."""
    sweep = drawn(
        uncompressed=((24.0,), (bound,)), reconstruction=(RATES, RISING), d1=(RATES, values)
    )
    points = sweep.points.assign(codec=sweep.points["codec"].where(sweep.points["bpp"] < 24))
    task = {"primary": "accuracy", "chance": 0.125}
    return dataclasses.replace(sweep, points=points, manifest={"tasks": {"vqa": task}})


def test_a_curve_that_never_leaves_chance_saves_nothing() -> None:
    """Noise about one in eight is no accuracy: it was worth 82 % of the bits."""
    sweep = guessing((0.12, 0.125, 0.11, 0.125), 0.9)
    points = sweep.points
    noise = [0.115, 0.12, 0.125, 0.12]
    both = points["scenario"] == "reconstruction"
    for base in (
        points,
        points.assign(value=points["value"].mask(both, np.resize(noise, len(points)))),
    ):
        got = row(dataclasses.replace(sweep, points=base), "d1")
        assert np.isnan(got[["bd_rate", "saved", "saved_max"]].astype(float)).all()
        assert holds(got["note"], "never leaves chance (0.125)")
        assert np.isfinite(got["bd_accuracy"])
    left = row(guessing((0.12, 0.2, 0.45, 0.6), 0.9), "d1")
    assert np.isfinite(left["saved"])


@pytest.mark.parametrize("which", ["both", "anchor", "test"])
def test_a_curve_that_gets_nothing_right_saves_nothing(which: str) -> None:
    """Bits at accuracy 0 equalise nothing, in a metric that nobody can guess."""
    nothing = (0.0,) * 4
    some = (0.0, 0.2, 0.4, 0.6)
    base, test = (some if which == end else nothing for end in ("test", "anchor"))
    rates = tuple(0.9 * rate for rate in RATES)
    got = row(drawn(reconstruction=(RATES, base), d1=(rates, test)), "d1")
    assert np.isnan(got[["bd_rate", "saved", "saved_max"]].astype(float)).all()
    assert got["saved_at_anchor"] == []
    name = "d1" if which == "test" else "reconstruction"
    assert f"no BD-rate, no saving: {name} never leaves 0" in got["note"]
    assert np.isfinite(got["bd_accuracy"])
    left = row(drawn(reconstruction=(RATES, some), d1=(rates, some)), "d1")
    assert left["bd_rate"] == pytest.approx(-10)


def test_an_interval_that_reaches_the_lower_end_is_no_accuracy_and_one_right_answer_is() -> None:
    """Jeffreys' interval of no right answer begins above 0; the accuracy does not."""
    sweep = drawn(reconstruction=(RATES, RISING), d1=(RATES, RISING))
    is_d1 = sweep.points["scenario"] == "d1"
    for value, low, shown in ((0.0, 1e-5, False), (0.1, 0.0, False), (0.1, 1e-3, True)):
        ends = {"value": value, "value_low": low, "value_high": 0.3}
        changed = {name: sweep.points[name].mask(is_d1, end) for name, end in ends.items()}
        of_both = sweep.points.assign(**changed)
        anchor = of_both["scenario"] == "reconstruction"
        of_both["value"] = of_both["value"].mask(anchor, np.resize((0.05, 0.1, 0.2, 0.3), 8))
        got = row(dataclasses.replace(sweep, points=of_both), "d1")
        assert np.isfinite(got["saved"]) == shown
        assert ("d1 never leaves 0" in got["note"]) != shown


def test_below_chance_is_said_before_that_no_accuracy_is_shared() -> None:
    got = row(guessing((0.01, 0.01, 0.01, 0.01), 0.9), "d1")
    assert holds(got["note"], "d1 never leaves chance (0.125)")
    assert "no overlap" not in got["note"]


def test_a_bound_at_chance_is_warned_of() -> None:
    sweep = guessing((0.1, 0.2, 0.45, 0.6), 0.12)
    for scenario in ("d1", "uncompressed"):
        assert holds(row(sweep, scenario)["note"], "uncompressed itself is at chance (0.125)")
    assert holds(summary_sentence(sweep, compare(sweep)), "Warning", "is at chance in vqa")
    assert "chance" not in summary_sentence(sweep, compare(guessing((0.1, 0.2, 0.45, 0.6), 0.9)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"anchor": "reconstrucion"}, ["anchor 'reconstrucion'", "reconstruction", "d1"]),
        ({"anchor": 200}, ["anchor 200", "reconstruction"]),
        ({"codec": "hyper"}, ["codec 'hyper'", "there are c"]),
    ],
)
def test_a_misspelt_name_is_refused_with_the_valid_ones(
    wrong: dict[str, Any], words: list[str]
) -> None:
    sweep = drawn(reconstruction=(RATES, RISING), d1=(RATES, RISING))
    with pytest.raises(AnalysisError, match=naming(*words)):
        compare(sweep, **wrong)
