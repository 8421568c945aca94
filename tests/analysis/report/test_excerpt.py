"""An excerpt of a sweep, and the one that ships."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import EXAMPLE, compare, read_sweep
from analysis.curves.assemble import assemble
from analysis.qualitative.examples import examples_of
from analysis.qualitative.matched_rate import panels
from analysis.report.excerpt import main, write_excerpt
from tests.analysis.messages import holds
from tests.analysis.sweeps import make_sweep


def test_an_excerpt_says_what_the_sweep_says(rich_dir: Path, tmp_path: Path) -> None:
    assert write_excerpt(str(rich_dir), str(tmp_path)) == []
    whole, part = read_sweep(str(rich_dir)), read_sweep(str(tmp_path))
    pd.testing.assert_frame_equal(
        part.points.drop(columns="run_id"), whole.points.drop(columns="run_id")
    )
    assert part.points["run_id"].isna().all()
    for name in ("expected", "space", "tasks"):
        assert part.manifest[name] == whole.manifest[name]
    pd.testing.assert_frame_equal(compare(part, n_resamples=100), compare(whole, n_resamples=100))
    (panel,), (other, _) = panels(assemble(part, 2)), panels(assemble(whole, 2))
    assert [one.key for one in panel.shown] == [one.key for one in other.shown]
    np.testing.assert_array_equal(panel.pixels, other.pixels)
    examples = [one for made in part.manifest["points"].values() for one in made["examples"]]
    assert len(examples) == len(panel.shown)
    images = [image for one in examples for image in one["images"]]
    named = {image[kind] for image in images for kind in ("input", "decoded")} - {None}
    there = {str(p.relative_to(tmp_path)) for p in tmp_path.glob("examples/**/*.png")}
    assert named == there
    assert len(there) == 2  # the points have the same decoded image


def test_places_of_the_machine_are_left_out_or_said(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", {("d1", 0.004): "killed"}, n=20, examples=False)
    file = sweep / "sweep.json"
    said = json.loads(file.read_text())
    said["tracking_uri"] = "sqlite:////home/me/mlflow.db"
    said["missing"][0]["log"] = "/home/me/logs/x.log"
    said["space"]["data"] = {"uri": "/home/me/images"}
    file.write_text(json.dumps(said))
    assert write_excerpt(str(sweep), str(tmp_path / "out")) == ["space.data.uri = /home/me/images"]
    text = (tmp_path / "out" / "sweep.json").read_text()
    assert re.findall(r"/home/me/\w+", text) == ["/home/me/images"]
    assert read_sweep(str(tmp_path / "out")).manifest["missing"][0]["reason"] == "killed"


def test_what_is_no_sweep_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path / "sweep", n=20, examples=False)
    (sweep / "sweep.json").unlink()
    assert main([str(sweep), str(tmp_path / "out")]) == 2
    assert holds(capsys.readouterr().err, sweep, "points.parquet", "sweep.json")


def test_the_example_that_ships_is_a_whole_sweep_and_names_no_place() -> None:
    sweep = read_sweep(EXAMPLE)
    manifest = sweep.manifest
    assert {one["point_key"] for one in manifest["expected"]} == set(sweep.points["point_key"])
    assert manifest["missing"] == []
    codes = [made["provenance"]["code"] for made in manifest["points"].values()]
    assert len({code["commit"] for code in codes}) == 1
    assert not any(code["dirty"] for code in codes)
    # Every point is the mean of its samples, so both are of the same run.
    assert assemble(sweep, 2).resampled.disagree == set()
    text = Path(EXAMPLE, "sweep.json").read_text(encoding="utf-8")
    assert re.findall(r'"(?:/|~|\w+://|sqlite:)[^"]*"', text) == []
    size = sum(file.stat().st_size for file in Path(EXAMPLE).rglob("*") if file.is_file())
    assert size < 2_000_000


def test_the_example_that_ships_has_a_panel() -> None:
    sweep = read_sweep(EXAMPLE)
    assert examples_of(sweep)
    (panel,) = panels(assemble(sweep, 2), 1)
    assert {"reconstruction", "d1"} <= {one.scenario for one in panel.shown}
