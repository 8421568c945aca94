"""Bits relative to the anchor: exact where the curves are copies, and BD-rate is its mean."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from analysis.curves.assemble import Assembled, assemble
from analysis.curves.curve import MEAN
from analysis.curves.tasks import Floor
from analysis.figures.difference import differences, draw_difference
from analysis.io.read import read_sweep
from analysis.report.interactive import interactive
from analysis.stats.compare import compare
from analysis.stats.pairs import Pair
from tests.analysis.rich import DERIVED
from tests.analysis.stats.test_compare import RATES, drawn


@pytest.fixture(scope="module")
def rich(rich_dir: Path) -> Assembled:
    return assemble(read_sweep(str(rich_dir)), 200)


def test_a_copy_with_more_bits_has_just_those_at_every_accuracy(rich: Assembled) -> None:
    found = {(c.scenario, c.codec): frame for c, frame in differences(rich)}
    for (scenario, codec), (source, factor) in DERIVED.items():
        if source == "reconstruction":
            frame = found[scenario, codec or "elic"]
            expected = 100 * (factor - 1)
            for column, precision in (("change", 1e-6), ("low", 8 * factor), ("high", 8 * factor)):
                known = frame[column].dropna()
                assert len(known) > 5
                # That none of 200 answers differs is no proof that none ever does.
                assert known.to_numpy() == pytest.approx(expected, abs=precision), column


def test_bd_rate_is_the_mean_of_the_difference(rich: Assembled) -> None:
    """Of its logarithm, over the shared accuracies; here by the trapezoidal rule."""
    heads = compare(rich.sweep, n_resamples=50, assembled=rich)
    heads = heads[heads["task"] == MEAN].set_index(["codec", "scenario"])
    found = {(c.codec, c.scenario): frame for c, frame in differences(rich)}
    assert {"d1", "d2", "d3", "end_to_end_oracle"} <= {scenario for _, scenario in found}
    for key, frame in found.items():
        logs = np.log(1 + frame["change"] / 100)
        span = frame["accuracy"].iloc[-1] - frame["accuracy"].iloc[0]
        steps = np.diff(frame["accuracy"])
        mean = (steps * (logs[1:].to_numpy() + logs[:-1].to_numpy()) / 2).sum()
        assert 100 * (np.exp(mean / span) - 1) == pytest.approx(heads.loc[key, "bd_rate"], abs=1.5)


def test_intervals_hold_the_difference(rich: Assembled) -> None:
    for _, frame in differences(rich, "vqa"):
        known = frame.dropna()
        assert (known["low"] <= known["change"] + 1e-9).mean() > 0.9
        assert (known["high"] >= known["change"] - 1e-9).mean() > 0.9


def test_no_difference_from_a_hole_or_a_point_or_apart(rich: Assembled) -> None:
    by_name = {c.scenario: c for c in rich.means}
    d2, anchor = by_name["d2"], by_name["reconstruction"]
    assert not Pair(anchor, d2).relative_difference().empty
    holed = dataclasses.replace(d2, frame=d2.frame.drop(index=1).reset_index(drop=True))
    assert holed.holes
    apart = dataclasses.replace(d2, frame=d2.frame.assign(value=d2.frame["value"] + 2))
    for wrong in (holed, apart):
        assert Pair(anchor, wrong).relative_difference().empty
    floor = Floor(2.0, "2")
    assert Pair(anchor, d2, floor=floor).relative_difference().empty


def test_a_single_shared_accuracy_is_a_marker_in_all_figures_of_it() -> None:
    """Half the bits at the one accuracy that both have: a line through it would have no length."""
    flat = (0.6,) * 4
    sweep = drawn(reconstruction=(RATES, flat), d1=(tuple(rate / 2 for rate in RATES), flat))
    (plot,) = draw_difference(assemble(sweep))
    (line,) = (line for line in plot.figure.axes[0].lines if np.size(line.get_xdata()) == 1)
    np.testing.assert_allclose(line.get_xydata(), [(0.6, -50.0)])
    assert line.get_marker() not in ("", "None", None)
    assert line.get_markevery() is None, "all of its points have a marker"
    assert plot.drawing is not None
    live = interactive(plot.drawing, {})["data"]
    (trace,) = (trace for trace in live if len(trace["x"]) == 1)
    assert "markers" in trace["mode"]
    assert plot.alt.count("-50 %") == 1


def test_without_samples_there_is_no_interval_and_without_an_anchor_no_figure(
    rich: Assembled,
) -> None:
    bare = assemble(dataclasses.replace(rich.sweep, samples=None))
    assert all(frame["low"].isna().all() for _, frame in differences(bare))
    points = rich.sweep.points[rich.sweep.points["scenario"] != "reconstruction"]
    none = assemble(dataclasses.replace(rich.sweep, points=points, samples=None, manifest={}))
    assert draw_difference(none) == []
