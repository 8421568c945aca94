"""Values over anything, and the front over everything."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.curves.axes import along, pareto, settings, with_settings
from analysis.io.read import read_sweep
from analysis.io.schema import AnalysisError
from analysis.io.sweep import Sweep
from tests.analysis.messages import naming
from tests.analysis.sweeps import GAIN, LAMBDAS, make_sweep


@pytest.fixture
def varied(sweep_dir: Path) -> Sweep:
    """d1 at three depths and three ratios of the loss's terms, as the manifest describes it."""
    sweep = read_sweep(str(sweep_dir))
    d1 = sweep.points[(sweep.points["scenario"] == "d1") & (sweep.points["metric"] == "accuracy")]
    parts, described = [], {}
    for k in (0, 1, 2):
        own = d1.assign(
            variant=f"k{k}", value=d1["value"] - 0.01 * k, point_key=d1["point_key"] + f"-k{k}"
        )
        parts.append(own)
        for key in own["point_key"]:
            phases = [{"until": 0.5, "ce": 1, "distill": 0}, {"ce": 1, "distill": 10.0**k}]
            described[key] = {
                "spec": {"teacher": {"block": k}, "surrogate": {"phases": phases}, "name": "d1"}
            }
    return Sweep(pd.concat(parts), None, {"sweep": "s", "points": described})


def test_settings_stand_under_their_dotted_path(varied: Sweep) -> None:
    found = settings(varied)
    assert {"teacher.block", "surrogate.phases.1.distill", "name"} <= set(found.columns)
    assert found.index.name == "point_key"
    assert sorted(found["teacher.block"].unique()) == [0, 1, 2]
    as_text = {
        key: {"spec": {"teacher.block": "2", "surrogate.phases": "[{'ce': 0.1, 'end': None}]"}}
        for key in varied.manifest["points"]
    }
    read = settings(dataclasses.replace(varied, manifest={"points": as_text}))
    assert read["teacher.block"].unique().tolist() == [2]  # MLflow keeps text
    assert read["surrogate.phases.0.ce"].unique().tolist() == [0.1]


def test_along_a_setting_the_variants_are_one_curve(varied: Sweep) -> None:
    points = with_settings(varied)
    over = along(points, "teacher.block")
    assert len(over) == 3 * len(LAMBDAS) * 2  # vqa and fewshot
    for _, own in over.groupby(["task", "lmbda"]):
        assert own["teacher.block"].tolist() == [0, 1, 2]
        np.testing.assert_allclose(np.diff(own["value"]), -0.01)
    points["ratio"] = points["surrogate.phases.1.ce"] / points["surrogate.phases.1.distill"]
    by_ratio = along(points, "ratio")
    assert sorted(by_ratio["ratio"].unique()) == pytest.approx([0.01, 0.1, 1])


def test_along_lambda_and_codec_all_else_is_equal(sweep_dir: Path, tmp_path: Path) -> None:
    points = read_sweep(str(sweep_dir)).points
    over = along(points[points["metric"] == "accuracy"], "lmbda")
    assert len(over) == len(GAIN) * 2 * len(LAMBDAS)  # the bound has no lambda
    d1 = over[(over["scenario"] == "d1") & (over["task"] == "vqa")]
    assert d1["lmbda"].tolist() == list(LAMBDAS)
    assert d1["bpp"].is_monotonic_increasing
    make_sweep(tmp_path / "two", codecs=("hyperprior", "elic"), examples=False, n=20)
    two = along(read_sweep(str(tmp_path / "two")).points, "codec")
    own = two[(two["scenario"] == "d2") & (two["task"] == "vqa") & (two["lmbda"] == 0.004)]
    assert own["codec"].tolist() == ["elic", "hyperprior"]


def test_seeds_are_averaged_and_what_else_differs_is_refused(varied: Sweep) -> None:
    points = varied.points[varied.points["variant"] == "k0"]
    again = points.assign(seed=1, value=points["value"] + 0.02, point_key=points["point_key"] + "s")
    both = along(pd.concat([points, again]), "lmbda")
    assert both["seeds"].tolist() == [(0, 1)] * len(both)
    np.testing.assert_allclose(both["value"], along(points, "lmbda")["value"] + 0.01)
    with pytest.raises(AnalysisError, match=naming("quality2")):
        along(varied.points.assign(quality2=1), "quality2")
    with pytest.raises(AnalysisError, match=naming("'k'", *points.columns[:3])):
        along(points, "k")


def test_nothing_on_the_pareto_front_is_matched_by_something_cheaper(sweep_dir: Path) -> None:
    points = read_sweep(str(sweep_dir)).points
    on = pareto(points)
    assert on.index.equals(points.index)
    for _, own in points.groupby(["mllm", "task", "dataset", "split", "metric"]):
        rate, value = own["bpp"].to_numpy(), own["value"].to_numpy()
        for i, index in enumerate(own.index):
            others = np.arange(len(own)) != i
            cheaper = (rate < rate[i]) | ((rate == rate[i]) & (value > value[i]))
            beaten = (others & cheaper & (value >= value[i] - 1e-9)).any()
            tied = (others[:i] & (rate[:i] == rate[i]) & (value[:i] == value[i])).any()
            assert on.loc[index] == (not beaten and not tied)
    first = points[points["metric"] == "accuracy"]
    down = pareto(first.assign(value=1 - first["value"]), lower_is_better=["accuracy"])
    assert down.equals(pareto(first))
