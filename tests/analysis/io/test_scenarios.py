"""What a sweep says of its scenarios, and what holds for those that it does not describe."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from analysis.curves.assemble import assemble, bounds
from analysis.io.read import AnalysisError, Sweep, read_sweep
from analysis.io.scenarios import NOT_DESCRIBED, Scenarios
from analysis.io.sweep import read_manifest
from analysis.stats.compare import compare
from analysis.stats.significance import significance


@pytest.fixture(scope="module")
def sweep(sweep_dir: Path) -> Sweep:
    return read_sweep(str(sweep_dir))


def renamed(sweep: Sweep, names: dict[str, str], block: dict[str, Any]) -> Sweep:
    """The sweep with scenarios of other names and another description of them."""
    points = sweep.points.assign(scenario=sweep.points["scenario"].replace(names))
    expected = [
        {**point, "scenario": names.get(point["scenario"], point["scenario"])}
        for point in sweep.manifest["expected"]
    ]
    manifest = {**sweep.manifest, "expected": expected, "scenarios": block}
    return dataclasses.replace(sweep, points=points, manifest=manifest)


def test_a_sweep_describes_its_own_anchor_and_bound(sweep: Sweep) -> None:
    names = {"reconstruction": "decoded", "uncompressed": "pristine"}
    block = {
        "decoded": {"title": "decoded image", "role": "anchor", "order": 1},
        "pristine": {"title": "pristine image", "role": "bound", "order": 0},
    }
    other = renamed(sweep, names, block)
    assert (other.anchor, other.bound) == ("decoded", "pristine")
    frames = [compare(s, n_resamples=50).set_index(["scenario", "task"]) for s in (sweep, other)]
    for scenario in ("d1", "d2", "post_processing"):
        a, b = (frame.loc[scenario]["bd_rate"] for frame in frames)
        assert b.tolist() == a.tolist()
    assert bounds(other)["value"].tolist() == bounds(sweep)["value"].tolist()


def test_without_a_description_installed_scenarios_have_their_looks(sweep: Sweep) -> None:
    bare = Sweep(sweep.points, None)
    assert bare.scenarios.look("d2") == Scenarios().look("d2")
    assert (bare.anchor, bare.bound) == (sweep.anchor, sweep.bound) != ("", "")
    look = bare.scenarios.look("never_heard_of")
    assert (look.title, look.order, look.role) == ("never_heard_of", NOT_DESCRIBED, "curve")
    assert look.order > max(known.order for known in Scenarios().looks.values())


def test_a_standards_curve_has_its_codecs_name() -> None:
    block = {"code": {"title": "a standard", "codec": "standard"}}
    scenarios = Scenarios.described_by({"scenarios": block})
    assert scenarios.name("jxl", "code", "v") == "jxl v"
    assert scenarios.name("", "code") == "a standard"
    assert scenarios.name("jxl", "other") == "other"


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"x": {"order": 3}}, "scenarios.x.title"),
        ({"x": {"title": "x", "colour": "red"}}, "scenarios.x.colour"),
        ({"x": {"title": "x", "role": "king"}, "y": {"title": "y", "order": "a"}}, "scenarios.y"),
        (["x"], "scenarios must be"),
    ],
)
def test_a_description_with_mistakes_is_refused(block: Any, words: str) -> None:
    data = json.dumps({"schema": 1, "scenarios": block}).encode()
    with pytest.raises(AnalysisError) as caught:
        read_manifest(data, "sweep.json")
    assert words in str(caught.value)
    assert "sweep.json" in str(caught.value)


def test_names_that_nothing_has_are_errors_that_list_the_valid_ones(sweep: Sweep) -> None:
    assembled = assemble(sweep, 2)
    with pytest.raises(AnalysisError) as anchor:
        compare(sweep, "reconstrction", assembled=assembled)
    for name in ("'reconstrction'", "reconstruction", "post_processing", "d1"):
        assert name in str(anchor.value)
    with pytest.raises(AnalysisError) as codec:
        compare(sweep, codec="hyper", assembled=assembled)
    assert "'hyper'" in str(codec.value)
    assert "hyperprior" in str(codec.value)
    with pytest.raises(AnalysisError) as families:
        significance(assembled, families=["tsak"])
    assert "'tsak'" in str(families.value)
    assert "task" in str(families.value)


def test_a_sweep_without_an_anchor_says_so_and_compares_nothing(sweep: Sweep) -> None:
    names = {"reconstruction": "decoded"}
    frame = compare(renamed(sweep, names, {"decoded": {"title": "decoded"}}), n_resamples=10)
    curves = frame[frame["scenario"] != "uncompressed"]
    assert curves["bd_rate"].isna().all()
    assert (curves["note"] != "").all()
