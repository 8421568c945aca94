"""Curves by variant: the same numbers as if each variant had been a scenario of its own."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import PchipInterpolator

from analysis.curves.assemble import assemble, curves
from analysis.curves.missing import in_words
from analysis.figures.ablation import draw_ablation
from analysis.io.complexity import Costs
from analysis.io.read import Sweep, read_sweep, write_points
from analysis.io.scenarios import Scenarios
from analysis.report.summary import summary_sentence, summary_table
from analysis.stats.compare import compare
from analysis.stats.costs import costs_and_savings
from analysis.stats.variants import ablation
from tests.analysis.figures.test_figures import extents

AS = {"d1": "k0", "d2": "k2", "d3": "k4+k8"}
"""What of the simulated sweep is taken for d1 under which variants."""


@pytest.fixture(scope="module")
def plain(sweep_dir: Path) -> Sweep:
    return read_sweep(str(sweep_dir))


@pytest.fixture(scope="module")
def varied(plain: Sweep) -> Sweep:
    variant = plain.points["scenario"].map(AS)
    points = plain.points.assign(
        variant=variant, scenario=plain.points["scenario"].where(variant.isna(), "d1")
    )
    space = {"variants": {"k8": {}, "k4": {}, "k2": {}, "k0": {"teacher.block": 0}}}
    expected = [
        {**e, "scenario": "d1", "variant": AS[e["scenario"]]} if e["scenario"] in AS else e
        for e in plain.manifest["expected"]
    ]
    manifest = {**plain.manifest, "space": space, "expected": expected}
    return dataclasses.replace(plain, points=points, manifest=manifest)


def test_curves_are_told_apart_by_variant_in_the_spaces_order(varied: Sweep) -> None:
    found = dict.fromkeys((c.scenario, c.variant) for c in curves(varied))
    assert list(found) == [
        ("reconstruction", ""),
        ("post_processing", ""),
        ("d1", "k4+k8"),
        ("d1", "k2"),
        ("d1", "k0"),
    ]
    assert all(c.complete and len(c.frame) == 4 for c in curves(varied))


def test_a_missing_point_is_missing_in_its_variant_alone(varied: Sweep) -> None:
    gone = (varied.points["variant"] == "k2") & (varied.points["lmbda"] == 0.004)
    assembled = assemble(dataclasses.replace(varied, points=varied.points[~gone]))
    (missing,) = assembled.missing
    assert in_words([missing], Scenarios()) == ["d1 k2 lambda 0.004: not in the points"]
    holes = {(c.variant, c.holes) for c in assembled.means if c.scenario == "d1"}
    assert holes == {("k0", ()), ("k2", (0.004,)), ("k4+k8", ())}


def test_comparison_equals_that_of_scenarios(plain: Sweep, varied: Sweep) -> None:
    numbers = ["bd_rate", "bd_rate_low", "bd_rate_high", "saved", "saved_low", "overlap"]
    one, other = compare(plain, n_resamples=200), compare(varied, n_resamples=200)
    for scenario, variant in AS.items():
        expected = one[one["scenario"] == scenario][numbers]
        own = other[(other["scenario"] == "d1") & (other["variant"] == variant)]
        np.testing.assert_array_equal(own[numbers], expected)
        assert (own["bd_rate"].notna() == (own["overlap"] >= 0.25)).all()
        assert own["bd_rate"].notna().sum() >= 4
    sentence = summary_sentence(varied, other)
    assert "d1 k4+k8 needs" in sentence
    assert "d1 k2" in set(summary_table(varied, other)["curve"])


def test_a_variant_is_compared_with_its_own_anchor(varied: Sweep) -> None:
    of_two = varied.points["scenario"] == "reconstruction"
    worse = varied.points[of_two].assign(variant="k0", bpp=lambda p: 2 * p["bpp"])
    worse["point_key"] += "-k0"
    shared = varied.points[of_two].assign(variant="k2+k4+k8")
    points = pd.concat([varied.points[~of_two], worse, shared])
    sweep = dataclasses.replace(varied, points=points, samples=None, manifest={})
    found, before = compare(sweep), compare(dataclasses.replace(varied, samples=None))
    for variant, factor in (("k0", 0.5), ("k2", 1.0), ("k4+k8", 1.0)):
        rates = [
            frame.loc[(frame["scenario"] == "d1") & (frame["variant"] == variant), "bd_rate"]
            for frame in (found, before)
        ]
        assert 1 + rates[0].to_numpy() / 100 == pytest.approx(
            factor * (1 + rates[1].to_numpy() / 100), nan_ok=True
        )
        assert np.isfinite(rates[0]).sum() >= 4


def test_the_ablation_has_a_row_per_variant_with_its_means(plain: Sweep, varied: Sweep) -> None:
    assembled = assemble(varied, 200)
    frame = ablation(assembled, compare(varied, n_resamples=200, assembled=assembled))
    own = frame[frame["scenario"] == "d1"].set_index("variant")
    assert list(own.index) == ["k8", "k4", "k2", "k0"]
    assert own.loc["k8", "accuracy"] == own.loc["k4", "accuracy"]
    primary = {(t.name, t.primary) for t in assembled.tasks.values()}
    for scenario, variant in (("d1", "k0"), ("d2", "k2"), ("d3", "k4")):
        points = plain.points[plain.points["scenario"] == scenario]
        is_primary = [
            pair in primary for pair in zip(points["task"], points["metric"], strict=True)
        ]
        assert own.loc[variant, "accuracy"] == pytest.approx(points.loc[is_primary, "value"].mean())
        assert own.loc[variant, "psnr"] == pytest.approx(points["psnr"].mean())
    assert (own["accuracy_low"] < own["accuracy"]).all()
    assert (own["accuracy"] < own["accuracy_high"]).all()
    assert own.loc["k0", "settings"] == "teacher.block = 0"
    shared = frame[frame["variant"] == ""]
    assert list(shared["scenario"]) == ["reconstruction", "post_processing"]


def test_variants_of_other_bits_are_compared_at_bits_that_all_have(varied: Sweep) -> None:
    assembled = assemble(varied, 200)
    frame = ablation(assembled, compare(varied, n_resamples=200, assembled=assembled))
    curves_of = {(c.scenario, c.variant): c.frame for c in assembled.means}
    low = max(curve["bpp"].min() for curve in curves_of.values())
    high = min(curve["bpp"].max() for curve in curves_of.values())
    (bpp,) = frame["matched_bpp"].unique()
    assert bpp == pytest.approx(np.sqrt(low * high))

    def accuracy(curve: pd.DataFrame) -> float:
        return float(PchipInterpolator(np.log(curve["bpp"]), curve["value"])(np.log(bpp)))

    base = accuracy(curves_of["reconstruction", ""])
    own = frame[frame["scenario"] == "d1"].set_index("variant")
    for variant in ("k0", "k2"):
        expected = accuracy(curves_of["d1", variant]) - base
        assert own.loc[variant, "gained"] == pytest.approx(expected)
    assert (own["gained_low"] < own["gained"]).all()
    assert (own["gained"] < own["gained_high"]).all()


def test_a_rate_that_a_variant_lacks_counts_for_none(varied: Sweep) -> None:
    gone = (varied.points["variant"] == "k2") & (varied.points["lmbda"] == 0.012)
    less = assemble(dataclasses.replace(varied, points=varied.points[~gone]), 200)
    frame = ablation(less, compare(less.sweep, n_resamples=200, assembled=less))
    own = frame[frame["scenario"] == "d1"].set_index("variant")
    assert set(own["n_rates"]) == {3}
    k0 = next(c for c in less.means if c.variant == "k0").frame
    assert own.loc["k0", "accuracy"] == pytest.approx(k0["value"][k0["lmbda"] < 0.012].mean())


def test_only_a_space_with_variants_has_an_ablation_figure(plain: Sweep, varied: Sweep) -> None:
    drawn = []
    for sweep in (plain, varied):
        assembled = assemble(sweep, 200)
        drawn.append(draw_ablation(assembled, compare(sweep, n_resamples=200, assembled=assembled)))
    assert drawn[0] == []
    (plot,) = drawn[1]
    assert plot.name == "ablation"
    assert "d1 k2 0." in plot.alt
    for text in (">k8<", ">k0<", "mean accuracy", "BD-rate (%)", "PSNR (dB)", ">reconstruction<"):
        assert text in plot.svg
    assert "gain at" not in plot.svg, "the variants have the same bits"


def test_where_a_variant_changes_the_bits_the_figure_has_the_gain_at_matched_bits(
    varied: Sweep,
) -> None:
    more = varied.points["bpp"].where(varied.points["variant"] != "k2", 1.5 * varied.points["bpp"])
    other = dataclasses.replace(varied, points=varied.points.assign(bpp=more), samples=None)
    assembled = assemble(other, 200)
    comparison = compare(other, n_resamples=200, assembled=assembled)
    (bpp,) = ablation(assembled, comparison)["matched_bpp"].unique()
    (plot,) = draw_ablation(assembled, comparison)
    assert f">gain at {bpp:.3g} bpp<" in plot.svg
    assert "mean accuracy" not in plot.svg


def test_variants_without_a_number_say_so_side_by_side(plain: Sweep) -> None:
    """Seven of eight variants: the words of neighbours must not touch."""
    names = [f"k{i}" for i in range(8)]
    d1 = plain.points[plain.points["scenario"] == "d1"]
    rest = plain.points[plain.points["scenario"].isin(["reconstruction", "uncompressed"])]
    many = [d1.assign(variant=name, point_key=d1["point_key"] + name) for name in names]
    points = pd.concat([rest.assign(variant=""), *many], ignore_index=True)
    manifest = {"space": {"variants": {name: {} for name in names}}}
    assembled = assemble(dataclasses.replace(plain, points=points, samples=None, manifest=manifest))
    comparison = compare(assembled.sweep, assembled=assembled)
    gone = comparison["variant"].isin(names[1:])
    (plot,) = draw_ablation(assembled, comparison.assign(bd_rate=comparison["bd_rate"].mask(gone)))
    words = [box for text, box in extents(plot)[1] if text == "no number"]
    assert len(words) == 7
    assert not [pair for pair in itertools.combinations(words, 2) if pair[0].overlaps(pair[1])]


def test_each_variant_has_the_cost_that_was_counted_for_it(varied: Sweep) -> None:
    costs = {"k0": 1.0, "k2": 2.0, "k4": 3.0, "k8": 3.0}
    rows = [("d1", name, own) for name, own in costs.items()] + [("reconstruction", "", 5.0)]
    totals = pd.DataFrame(rows, columns=["scenario", "variant", "own"]).assign(
        codec="hyperprior", sender=1.0, receiver=1.0, own_parameters=10
    )
    assembled = assemble(varied, 20)
    comparison = compare(varied, n_resamples=20, assembled=assembled)
    found = costs_and_savings(assembled, comparison, Costs(totals, 128, "t"))
    by = found.set_index(["scenario", "variant"])["receiver_without_common"].to_dict()
    assert by == {
        ("reconstruction", ""): 5,
        ("d1", "k0"): 1,
        ("d1", "k2"): 2,
        ("d1", "k4+k8"): 3,
    }


@pytest.mark.parametrize("name", ["points.parquet", "points.csv"])
def test_the_points_file_keeps_variants_whatever_they_look_like(
    varied: Sweep, tmp_path: Path, name: str
) -> None:
    points = varied.points.assign(variant=varied.points["variant"].replace({"k0": "007", "": None}))
    write_points(points, str(tmp_path))
    again = read_sweep(str(tmp_path / name))
    assert set(again.points["variant"]) == {"", "007", "k2", "k4+k8"}
    assert list(again.variants) == ["007", "k2", "k4", "k8"]
