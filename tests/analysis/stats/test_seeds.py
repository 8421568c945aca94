"""What a comparison says of points and curves that rest on different numbers of trainings."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from analysis.curves.assemble import assemble
from analysis.curves.curve import MEAN
from analysis.figures.rate_accuracy import draw_curves
from analysis.io.sweep import Sweep
from analysis.stats.compare import compare
from tests.analysis.messages import holds
from tests.analysis.stats.test_compare import RATES, RISING, drawn, half

CURVES = {"reconstruction": (RATES, RISING), "d1": (half(RATES), RISING), "d2": (RATES, RISING)}


def trained(**seeds: dict[int, tuple[int, ...]]) -> Sweep:
    """A sweep in which the points of some curves, by their number, were trained with more seeds."""
    sweep = drawn(**CURVES)
    more = []
    for scenario, of_points in seeds.items():
        for number, further in of_points.items():
            point = sweep.points[sweep.points["point_key"] == f"{scenario}{number}"]
            more += [point.assign(seed=s, point_key=f"{scenario}{number}-{s}") for s in further]
    points = pd.concat([sweep.points, *more], ignore_index=True)
    return dataclasses.replace(sweep, points=points)


def head(sweep: Sweep, scenario: str) -> pd.Series:
    frame = compare(sweep)
    return frame[(frame["scenario"] == scenario) & (frame["task"] == MEAN)].iloc[0]


def test_points_of_unequal_numbers_of_trainings_are_named_with_their_seeds() -> None:
    sweep = trained(d1={0: (16,), 1: (16,), 2: (16,)}, d2=dict.fromkeys(range(4), (16,)))
    got = head(sweep, "d1")
    assert (got["n_seeds"], got["n_seeds_least"]) == (2, 1)
    assert holds(
        got["note"],
        "d1 rests on seeds 0 and 16 at 0.05, 0.1, 0.2 bpp, on seed 0 at 0.4 bpp",
        "d1 at 0.4 bpp: one training",
        "over test samples only",
    )
    assert holds(head(sweep, "d2")["note"], "2 seeds: intervals are over test samples only")
    assert "d2 rests" not in head(sweep, "d2")["note"]
    figures = {plot.name: plot for plot in draw_curves(assemble(sweep))}
    remarks = figures["mean"].drawing.remarks if figures["mean"].drawing else ()
    assert any(holds(remark, "d1", "on seed 0 at 0.4 bpp") for remark in remarks)


def test_curves_of_other_numbers_of_trainings_are_named_with_their_seeds() -> None:
    sweep = trained(d1=dict.fromkeys(range(4), (7,)))
    assert "other numbers of trainings: here seeds 0 and 7, d2 seed 0" in head(sweep, "d1")["note"]
    assert "other numbers of trainings: here seed 0, d1 seeds 0 and 7" in head(sweep, "d2")["note"]
    equal = trained(d1=dict.fromkeys(range(4), (7,)), d2=dict.fromkeys(range(4), (8,)))
    for name in ("d1", "d2"):
        assert "other numbers" not in head(equal, name)["note"]
    assert np.isfinite(head(sweep, "d1")["bd_rate"])


def test_one_training_of_everything_is_said_once() -> None:
    note = head(drawn(**CURVES), "d1")["note"]
    assert note.count("one training") == 1
    assert "rests on" not in note
    assert "other numbers" not in note
