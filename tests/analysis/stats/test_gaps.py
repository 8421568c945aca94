"""What compression costs, and what receivers of the same streams get back: closed forms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.curves.assemble import assemble
from analysis.curves.curve import MEAN
from analysis.figures.gaps import draw_gaps, main_gaps
from analysis.io.read import AnalysisError
from analysis.io.sweep import Sweep
from analysis.stats.gaps import GAPS, gaps
from tests.analysis.messages import holds
from tests.analysis.simulated import hits
from tests.analysis.stats.test_compare import RATES, RISING, drawn, half

BETTER = (0.5, 0.6, 0.72, 0.84)
BOUND = {"uncompressed": ((24.0,), (0.9,))}
P = {"uncompressed": 0.95, "reconstruction": 0.5, "d1": 0.7}
"""How probable a right answer is; each scenario has one rate."""


def only(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of the only task."""
    return found[found["task"] == "vqa"].reset_index(drop=True)


def answered(rng: np.random.Generator, n: int, tasks: tuple[str, ...] = ("vqa",)) -> Sweep:
    """A sweep of one rate in which n images are answered right with the probabilities `P`."""
    rows, samples = [], []
    for task in tasks:
        difficulty = rng.uniform(size=n)
        for scenario, p in P.items():
            luck = np.where(rng.uniform(size=n) < 0.6, difficulty, rng.uniform(size=n))
            right = (luck < p).astype(np.float64)
            about = {"point_key": scenario, "mllm": "m", "task": task, "metric": "accuracy"}
            bpp = 24.0 if scenario == "uncompressed" else 0.1
            ids = [f"i{number}" for number in range(n)]
            table = pd.DataFrame({"sample_id": ids, "image_id": ids, "value": right, "bpp": bpp})
            samples.append(table.assign(**about))
            rows.append(
                {
                    **about,
                    **{"sweep": "s", "codec": "c", "lmbda": 0.001, "scenario": scenario},
                    **{"seed": 0, "dataset": "d", "split": "test", "value": right.mean()},
                    **{"value_low": np.nan, "value_high": np.nan, "n_samples": n, "bpp": bpp},
                    **{"bpp_estimated": np.nan, "psnr": np.nan, "run_id": None},
                }
            )
    return Sweep(pd.DataFrame(rows), pd.concat(samples, ignore_index=True))


def test_lost_is_what_is_recovered_and_what_is_left() -> None:
    sweep = drawn(**BOUND, reconstruction=(RATES, RISING), d1=(RATES, BETTER))
    found = only(gaps(assemble(sweep, 10)))
    assert found["scenario"].tolist() == ["d1"] * 4
    np.testing.assert_allclose(found["rate"], RATES)
    np.testing.assert_allclose(found["lost"], 0.9 - np.array(RISING))
    np.testing.assert_allclose(found["recovered"], np.array(BETTER) - RISING)
    np.testing.assert_allclose(found["left"], 0.9 - np.array(BETTER))
    assert found["recovered_low"].isna().all()
    assert all(holds(note, "no interval", "per-sample") for note in found["note"])


def test_a_curve_of_other_streams_has_no_number_and_is_named() -> None:
    sweep = drawn(**BOUND, reconstruction=(RATES, RISING), d2=(half(RATES), RISING))
    # Three of its rates are rates of the anchor, but those of another lambda.
    found = only(gaps(assemble(sweep, 10)))
    (row,) = found.itertuples()
    assert np.isnan(row.lost)
    assert holds(row.note, "streams", "reconstruction")


def test_without_a_bound_what_is_recovered_is_known_all_the_same() -> None:
    sweep = drawn(reconstruction=(RATES, RISING), d1=(RATES, BETTER))
    assembled = assemble(sweep, 10)
    found = gaps(assembled)
    assert found[["lost", "left"]].isna().all(axis=None)
    np.testing.assert_allclose(only(found)["recovered"], np.array(BETTER) - RISING)
    assert found["note"].str.contains("no bound").all()
    assert draw_gaps(assembled, found) == []


def test_intervals_are_those_of_paired_differences() -> None:
    sweep = answered(np.random.default_rng(3), 400)
    assert sweep.samples is not None
    table = sweep.samples.pivot(index="sample_id", columns="point_key", values="value")
    (row,) = only(gaps(assemble(sweep))).to_dict("records")
    pairs = {
        "lost": ("uncompressed", "reconstruction"),
        "recovered": ("d1", "reconstruction"),
        "left": ("uncompressed", "d1"),
    }
    assert set(pairs) == set(GAPS)
    for name, (more, less) in pairs.items():
        difference = (table[more] - table[less]).to_numpy()
        assert row[name] == pytest.approx(difference.mean())
        low, high = stats.norm.interval(0.95, difference.mean(), stats.sem(difference))
        assert row[f"{name}_low"] == pytest.approx(low, abs=0.012)
        assert row[f"{name}_high"] == pytest.approx(high, abs=0.012)


def test_intervals_hold_the_truth_of_a_mean_over_tasks() -> None:
    rng, held = np.random.default_rng(7), []
    for _ in range(100):
        found = gaps(assemble(answered(rng, 80, ("vqa", "rec")), 300))
        (row,) = found[found["task"] == MEAN].to_dict("records")
        truths = (
            ("lost", P["uncompressed"] - P["reconstruction"]),
            ("recovered", P["d1"] - P["reconstruction"]),
            ("left", P["uncompressed"] - P["d1"]),
        )
        held.append([hits(row[f"{n}_low"], truth, row[f"{n}_high"]) for n, truth in truths])
    # 95 % of 100, give or take three standard errors.
    assert (np.abs(np.mean(held, axis=0) - 0.95) < 0.066).all()


def test_an_anchor_that_is_not_there_is_refused() -> None:
    with pytest.raises(AnalysisError, match="reconstruction"):
        gaps(assemble(drawn(reconstruction=(RATES, RISING)), 10), anchor="d9")


def test_the_figure_has_what_is_lost_and_what_each_receiver_leaves() -> None:
    sweep = drawn(**BOUND, reconstruction=(RATES, RISING), d1=(RATES, BETTER))
    assembled = assemble(sweep, 10)
    (plot,) = draw_gaps(assembled, gaps(assembled))
    assert plot.drawing is not None
    ((panel,),) = plot.drawing.rows
    lost, left = panel.series
    assert [one.owner[1] for one in panel.series] == ["reconstruction", "d1"]
    np.testing.assert_allclose(np.asarray(lost.y), 0.9 - np.array(RISING))
    np.testing.assert_allclose(np.asarray(left.y), 0.9 - np.array(BETTER))
    assert "0.50 at 0.1 bpp" in plot.alt


def test_each_variant_is_compared_with_its_own_anchor() -> None:
    one = drawn(**BOUND, reconstruction=(RATES, RISING), d1=(RATES, BETTER)).points
    lower = tuple(value - 0.1 for value in RISING)
    two = drawn(reconstruction=(half(RATES), lower), d1=(half(RATES), RISING)).points
    is_bound = one["scenario"] == "uncompressed"
    points = pd.concat(
        [
            one.assign(variant=np.where(is_bound, "", "long")),
            two.assign(variant="short", point_key="short" + two["point_key"]),
        ],
        ignore_index=True,
    )
    assembled = assemble(Sweep(points, None), 10)
    found = gaps(assembled)
    short = only(found[found["variant"] == "short"])
    np.testing.assert_allclose(short["rate"], half(RATES))
    np.testing.assert_allclose(short["lost"], 0.9 - np.array(lower))
    np.testing.assert_allclose(short["recovered"], 0.1)
    (plot,) = draw_gaps(assembled, found)
    assert plot.drawing is not None
    ((panel,),) = plot.drawing.rows
    drawn_of = {one.owner[1:]: np.asarray(one.y) for one in panel.series}
    np.testing.assert_allclose(drawn_of["reconstruction", "short"], 0.9 - np.array(lower))
    np.testing.assert_allclose(drawn_of["reconstruction", "long"], 0.9 - np.array(RISING))
    np.testing.assert_allclose(drawn_of["d1", "short"], 0.9 - np.array(RISING))


def test_equal_bits_of_another_codec_or_quality_are_no_same_streams() -> None:
    one = drawn(**BOUND, reconstruction=(RATES, RISING)).points
    other = drawn(d1=(RATES, BETTER)).points
    without = {"lmbda": np.nan}
    codecs = pd.concat([one.assign(**without), other.assign(**without, codec="elic")])
    assembled = assemble(Sweep(codecs.reset_index(drop=True), None), 10)
    (row,) = only(gaps(assembled)).to_dict("records")
    assert np.isnan(row["recovered"])
    assert holds(row["note"], "streams", "reconstruction")
    for shift, count in ((5, 0), (0, 4)):
        qualities = pd.concat(
            [
                one.assign(**without, quality=100 * one["bpp"]),
                other.assign(**without, quality=100 * other["bpp"] + shift),
            ]
        )
        found = only(gaps(assemble(Sweep(qualities.reset_index(drop=True), None), 10)))
        assert found["recovered"].notna().sum() == count


def test_a_missing_rate_costs_that_rate_alone() -> None:
    whole = drawn(**BOUND, reconstruction=(RATES, RISING), d1=(RATES, BETTER)).points
    for scenario in ("d1", "reconstruction"):
        holey = whole[(whole["scenario"] != scenario) | (whole["lmbda"] != 0.002)]
        found = only(gaps(assemble(Sweep(holey.reset_index(drop=True), None), 10)))
        np.testing.assert_allclose(found["rate"], (0.1, 0.4, 0.8))
        np.testing.assert_allclose(found["recovered"], np.delete(np.array(BETTER) - RISING, 1))


def test_seeds_that_both_have_are_paired() -> None:
    one = drawn(**BOUND, reconstruction=(RATES, RISING)).points
    other = drawn(d1=(RATES, BETTER)).points
    is_anchor = one["scenario"] == "reconstruction"
    again = one[is_anchor].assign(seed=1, bpp=one["bpp"] * 1.1, value=one["value"] - 0.2)
    again["point_key"] += "-1"
    points = pd.concat([one, again, other], ignore_index=True)
    found = only(gaps(assemble(Sweep(points, None), 10)))
    np.testing.assert_allclose(found["rate"], RATES)
    np.testing.assert_allclose(found["recovered"], np.array(BETTER) - RISING)


def test_the_anchor_s_line_has_the_rates_of_all_receivers() -> None:
    some = (RATES[1:], BETTER[1:])
    whole = drawn(
        **BOUND, reconstruction=(RATES, RISING), post_processing=some, d1=(RATES, BETTER)
    ).points
    shifted = whole["scenario"] == "post_processing"
    whole.loc[shifted, "lmbda"] *= 2
    assembled = assemble(Sweep(whole, None), 10)
    (plot,) = draw_gaps(assembled, gaps(assembled))
    assert plot.drawing is not None
    ((panel,),) = plot.drawing.rows
    (lost,) = [one for one in panel.series if one.owner[1] == "reconstruction"]
    np.testing.assert_allclose(np.asarray(lost.x), RATES)


def test_what_curves_are_compared_with_changes_no_gap() -> None:
    sweep = drawn(**BOUND, reconstruction=(RATES, RISING), d1=(RATES, BETTER))
    chosen = gaps(assemble(dataclasses.replace(sweep, compared_with="d1"), 10))
    pd.testing.assert_frame_equal(chosen, gaps(assemble(sweep, 10)))


def test_without_an_anchor_there_is_no_number() -> None:
    assert gaps(assemble(drawn(d1=(RATES, BETTER)), 10))["rate"].isna().all()


def test_samples_that_are_not_the_points_say_so() -> None:
    sweep = answered(np.random.default_rng(3), 50)
    wrong = sweep.points.assign(value=sweep.points["value"] * 0.9)
    (row,) = only(gaps(assemble(Sweep(wrong, sweep.samples), 50))).to_dict("records")
    assert np.isnan(row["lost_low"])
    assert holds(row["note"], "do not average")


def test_each_mllm_has_its_mean_or_its_tasks() -> None:
    found = pd.DataFrame(
        {"mllm": ["a", "a", "b"], "task": [MEAN, "vqa", "vqa"], "rate": [0.1, 0.1, 0.1]}
    )
    assert main_gaps(found)[["mllm", "task"]].to_numpy().tolist() == [["a", MEAN], ["b", "vqa"]]
