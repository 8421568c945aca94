"""Completeness: what was expected, what was found, and lines that stop at holes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.curves.assemble import assemble, curves, missing_points
from analysis.curves.curve import MEAN
from analysis.curves.missing import Missing, in_words
from analysis.curves.tasks import tasks
from analysis.io.read import read_sweep
from analysis.io.scenarios import Scenarios
from tests.analysis.sweeps import GAIN, LAMBDAS, TASKS


def test_a_curve_per_scenario_and_metric_in_the_usual_order(sweep_dir: Path) -> None:
    found = curves(read_sweep(str(sweep_dir)))
    assert len(found) == len(GAIN) * (len(TASKS) + 1)
    assert list(dict.fromkeys(c.scenario for c in found)) == list(GAIN)
    for curve in found:
        assert curve.complete
        assert curve.expected == LAMBDAS
        assert curve.seeds == (0,)
        assert curve.frame["bpp"].is_monotonic_increasing
        assert len(curve.segments) == 1


def test_missing_points_are_named_with_their_reason_and_break_the_line(holey_dir: Path) -> None:
    sweep = read_sweep(str(holey_dir))
    by_name = {(c.scenario, c.metric): c for c in curves(sweep)}
    d2 = by_name["d2", "accuracy@0.5"]
    assert in_words(d2.missing, sweep.scenarios) == ["d2 lambda 0.004: diverged"]
    assert d2.holes == (0.004,)
    assert [part["lmbda"].tolist() for part in d2.segments] == [[0.0005, 0.0015], [0.012]]
    end = by_name["post_processing", "accuracy@0.5"]
    assert end.holes == ()
    assert len(end.segments) == 1
    assert len(missing_points(sweep)) == 2


def test_a_long_reason_is_one_short_line_in_plots() -> None:
    gone = Missing("c", 0.01, "d2", 0, "RuntimeError: no\n" + "trace " * 50)
    (line,) = in_words([gone], Scenarios())
    assert line.startswith("d2 lambda 0.01: RuntimeError: no trace")
    assert "\n" not in line
    assert len(line) < 90


def test_a_curve_whose_points_are_all_missing_is_still_there(sweep_dir: Path) -> None:
    sweep = read_sweep(str(sweep_dir))
    points = sweep.points[sweep.points["scenario"] != "d3"]
    d3 = [c for c in curves(dataclasses.replace(sweep, points=points)) if c.scenario == "d3"]
    assert len(d3) == len(TASKS) + 1
    assert all(c.frame.empty and len(c.missing) == len(LAMBDAS) for c in d3)


def test_without_a_manifest_a_lambda_of_another_curve_is_expected_here_too(holey_dir: Path) -> None:
    sweep = dataclasses.replace(read_sweep(str(holey_dir)), manifest={})
    assert set(in_words(missing_points(sweep), sweep.scenarios)) == {
        "d2 lambda 0.004: not in the points",
        "post-processing lambda 0.012: not in the points",
    }


def test_mean_over_tasks_averages_primary_metrics_where_all_tasks_are_there(
    sweep_dir: Path,
) -> None:
    sweep = read_sweep(str(sweep_dir))
    assembled = assemble(sweep)
    d1 = next(c for c in assembled.means if c.scenario == "d1")
    primary = {(t.name, t.primary) for t in tasks(sweep).values()}
    own = sweep.points[sweep.points["scenario"] == "d1"]
    own = own[[pair in primary for pair in zip(own["task"], own["metric"], strict=True)]]
    expected = own.groupby("lmbda")["value"].mean()
    np.testing.assert_allclose(d1.frame["value"], expected)
    assert (d1.frame["low"] < d1.frame["value"]).all()
    assert (d1.frame["high"] > d1.frame["value"]).all()
    bound = assembled.bounds
    assert len(bound[bound["task"] == MEAN]) == 1

    less = sweep.points[~((sweep.points["task"] == "vqa") & (sweep.points["lmbda"] == 0.004))]
    partly = assemble(dataclasses.replace(sweep, points=less))
    assert [len(c.frame) for c in partly.means] == [3] * len(GAIN)
    assert any("no value of this metric" in m.reason for m in partly.missing)


def test_seeds_are_averaged_and_counted(sweep_dir: Path) -> None:
    sweep = read_sweep(str(sweep_dir))
    again = sweep.points[sweep.points["scenario"] == "d1"]
    again = again.assign(seed=1, value=again["value"] + 0.02, point_key=again["point_key"] + "-1")
    both = dataclasses.replace(
        sweep, points=pd.concat([sweep.points, again]), samples=None, manifest={}
    )
    one = next(c for c in curves(sweep) if c.scenario == "d1" and c.task == "vqa")
    two = next(c for c in curves(both) if c.scenario == "d1" and c.task == "vqa")
    assert two.seeds == (0, 1)
    assert two.frame["value"].to_numpy() == pytest.approx(one.frame["value"].to_numpy() + 0.01)
    assert not missing_points(both)
