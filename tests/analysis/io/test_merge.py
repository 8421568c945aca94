"""Several sweeps read as one, and what cannot be."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.curves.assemble import assemble, curves, missing_points
from analysis.curves.curve import MEAN
from analysis.curves.missing import in_words
from analysis.io.merge import merge
from analysis.io.read import read_sweep, write_points
from analysis.io.scenarios import Scenarios
from analysis.io.schema import KEY, AnalysisError
from analysis.io.sweep import Sweep
from analysis.qualitative.matched_rate import panels
from analysis.report.gallery import gallery
from analysis.stats.compare import compare
from tests.analysis.messages import naming
from tests.analysis.sweeps import GAIN, TASKS, make_sweep


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two sweeps of the same points, in each of which others are missing."""
    root = tmp_path_factory.mktemp("two")
    first = make_sweep(root / "a", {("d3", x): "killed" for x in (0.0005, 0.004)}, examples=False)
    second = make_sweep(root / "b", {("d1", 0.012): "diverged"}, examples=False)
    whole = read_sweep(str(make_sweep(root / "whole", examples=False)))
    assert whole.samples is not None
    for one in (first, second):  # content-addressed: the same point is the same measurement
        keys = set(read_sweep(str(one)).points["point_key"])
        write_points(whole.points[whole.points["point_key"].isin(keys)], str(one))
        samples = whole.samples[whole.samples["point_key"].isin(keys)]
        samples.to_parquet(one / "samples.parquet")
    return first, second


def test_shared_points_are_there_once_and_what_one_has_is_not_missing(
    two: tuple[Path, Path],
) -> None:
    sweep = read_sweep(*map(str, two))
    assert not sweep.points.duplicated(list(KEY)).any()
    assert sweep.points["point_key"].nunique() == 21
    assert sweep.samples is not None
    assert not sweep.samples.duplicated(["point_key", "task", "metric", "sample_id"]).any()
    assert missing_points(sweep) == []
    assert sweep.name == "demo 1 + demo 2"
    assert {c.scenario for c in curves(sweep) if c.complete} == set(GAIN)
    frame = compare(sweep, n_resamples=300)
    d3 = frame[(frame["scenario"] == "d3") & (frame["task"] == MEAN)].iloc[0]
    assert d3["bd_rate_low"] < d3["bd_rate"] < d3["bd_rate_high"]


def test_what_no_sweep_has_is_missing(two: tuple[Path, Path]) -> None:
    first = read_sweep(str(two[0]))
    assert set(in_words(missing_points(merge([first, first])), Scenarios())) == {
        "d3 lambda 0.0005, 0.004: killed"
    }


def test_one_key_with_two_values_clashes(two: tuple[Path, Path]) -> None:
    first, second = (read_sweep(str(one)) for one in two)
    points = second.points.copy()
    own = (points["scenario"] == "d2") & (points["task"] == "vqa")
    points.loc[own, "value"] += 0.01
    with pytest.raises(
        AnalysisError, match=naming("clashing keys", "4 points", "in demo 1", "in demo 2")
    ):
        merge([first, dataclasses.replace(second, points=points)])


def other_keys(sweep: Sweep, scenario: str, add: float) -> Sweep:
    """A sweep whose scenario was trained otherwise: other keys, other values."""
    own = sweep.points["scenario"] == scenario
    points = sweep.points.copy()
    points.loc[own, "point_key"] += "-other"
    points.loc[own, "value"] += add
    assert sweep.samples is not None
    keys = sweep.samples["point_key"].astype("str")
    keys = keys.where(~keys.str.startswith(scenario), keys + "-other")
    samples = sweep.samples.assign(point_key=keys)
    return dataclasses.replace(sweep, points=points, samples=samples, manifest={"sweep": "longer"})


def test_one_name_with_two_keys_clashes_or_is_kept_apart(sweep_dir: Path) -> None:
    first = read_sweep(str(sweep_dir))
    second = other_keys(first, "d1", -0.05)
    with pytest.raises(
        AnalysisError,
        match=naming("demo", "longer", "d1", "hyperprior", "lambda 0.0005", "seed 0", "--apart"),
    ):
        merge([first, second])
    apart = merge([first, second], apart=True)
    assert set(apart.points["variant"]) == {"demo", "longer"}
    frame = compare(apart, n_resamples=50)
    d1 = frame[(frame["scenario"] == "d1") & (frame["task"] == MEAN)].set_index("variant")
    assert d1.loc["longer", "bd_rate"] > d1.loc["demo", "bd_rate"] + 5
    same = frame[(frame["scenario"] == "d2") & (frame["task"] == MEAN)]
    assert same["bd_rate"].nunique() == 1


def test_other_test_samples_are_refused_by_the_uncompressed_value(sweep_dir: Path) -> None:
    first = read_sweep(str(sweep_dir))
    second = other_keys(first, "uncompressed", -0.02)
    for apart in (False, True):
        with pytest.raises(
            AnalysisError, match=naming("test samples", "uncompressed", "demo", "longer")
        ):
            merge([first, second], apart=apart)


def test_variants_of_a_sweep_keep_their_names_behind_the_sweeps(sweep_dir: Path) -> None:
    plain = read_sweep(str(sweep_dir))
    shared = plain.points["scenario"].isin(["reconstruction", "uncompressed"])
    k1 = plain.points.assign(variant=np.where(shared, "", "k1"))
    more = k1[~shared].assign(variant="k2", point_key=k1["point_key"] + "-k2")
    varied = dataclasses.replace(
        plain, points=pd.concat([k1, more]), samples=None, manifest={"sweep": "ablation"}
    )
    both = merge([plain, varied], apart=True)
    names = set(both.points["variant"])
    assert names == {"demo", "ablation k1", "ablation k2", "ablation k1+ablation k2"}
    frame = compare(both, n_resamples=10)
    assert frame.loc[frame["scenario"] == "d2", "bd_rate"].notna().all()


def test_tasks_of_several_data_sets_are_told_apart_after_merging_too(sweep_dir: Path) -> None:
    first = read_sweep(str(sweep_dir))
    vqa = first.points["task"] == "vqa"
    more = first.points[vqa].assign(dataset="photos")
    samples = first.samples
    assert samples is not None
    samples = pd.concat(
        [
            samples.assign(dataset="scenes"),
            samples[samples["task"] == "vqa"].assign(dataset="photos"),
        ]
    )
    wider = Sweep(pd.concat([first.points, more]), samples, first.manifest)
    assert "vqa photos" in set(wider.points["task"])
    both = merge([first, wider])
    assert set(both.points["task"]) == {*(set(TASKS) - {"vqa"}), "vqa scenes", "vqa photos"}
    assert both.samples is not None
    assert set(both.samples["task"]) == set(both.points["task"])
    assert set(both.manifest["tasks"]) == set(both.points["task"])


def test_splits_of_a_data_set_are_not_averaged_as_if_they_were_trainings(sweep_dir: Path) -> None:
    first = read_sweep(str(sweep_dir))
    samples = first.samples
    assert samples is not None
    vqa = first.points["task"] == "vqa"
    other = first.points[vqa].assign(split="val", value=0.0)
    with pytest.raises(AnalysisError, match=naming("vqa", "scenes", "test, val")):
        Sweep(pd.concat([first.points, other]), samples, first.manifest)
    keys = {key: f"{key[:-1]}z" for key in first.points["point_key"]}
    of_val = first.points.assign(split="val", point_key=first.points["point_key"].map(keys))
    with pytest.raises(AnalysisError, match="split"):
        merge([first, Sweep(of_val, None, first.manifest)], apart=True)


def test_none_at_all_is_said() -> None:
    with pytest.raises(AnalysisError, match=naming("sweep")):
        read_sweep()


def test_manifests_of_several_sweeps_are_json(two: tuple[Path, Path]) -> None:
    assert json.dumps(read_sweep(*map(str, two)).manifest)


def test_example_images_of_several_sweeps_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the working directory is when they are drawn."""
    monkeypatch.chdir(tmp_path)
    make_sweep(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    both = read_sweep("a", "b")
    monkeypatch.chdir("/")
    alone = assemble(read_sweep(str(tmp_path / "a")), 20)
    together = assemble(both, 20)
    assert [len(one.shown) for one in panels(together)] == [len(one.shown) for one in panels(alone)]
    assert panels(alone)
    assert len(gallery(together).pictures) == len(gallery(alone).pictures) > 0
    assert gallery(together).cards == gallery(alone).cards


def with_answerer(sweep: Sweep, name: str, checksum: str) -> Sweep:
    """A sweep whose only MLLM has another name."""
    assert sweep.samples is not None
    manifest = {**sweep.manifest, "answerers": {name: checksum}}
    points, samples = (frame.assign(mllm=name) for frame in (sweep.points, sweep.samples))
    return dataclasses.replace(sweep, points=points, samples=samples, manifest=manifest)


def test_one_mllm_in_two_directories_is_one(two: tuple[Path, Path]) -> None:
    first, second = (read_sweep(str(one)) for one in two)
    first = with_answerer(first, "llava", "sha256:1")
    both = merge([first, with_answerer(second, "llava-copy", "sha256:1")])
    assert set(both.points["mllm"]) == {"llava"}
    assert both.samples is not None
    assert set(both.samples["mllm"]) == {"llava"}
    assert not both.points.duplicated(list(KEY)).any()
    assert missing_points(both) == []
    other = merge([first, with_answerer(second, "another", "sha256:2")])
    assert set(other.points["mllm"]) == {"llava", "another"}


def test_two_names_of_one_sweep_stay_two(two: tuple[Path, Path]) -> None:
    first, second = (read_sweep(str(one)) for one in two)
    first = with_answerer(first, "llava", "sha256:1")
    half = second.points["task"] == "vqa"
    points = second.points.assign(mllm=np.where(half, "llava", "a"))
    answerers = {"llava": "sha256:2", "a": "sha256:1"}
    manifest = {**second.manifest, "answerers": answerers}
    second = dataclasses.replace(second, points=points, samples=None, manifest=manifest)
    assert set(merge([first, second]).points["mllm"]) == {"llava", "a"}


def test_a_table_beside_a_sweep_makes_nothing_missing(tmp_path: Path, sweep_dir: Path) -> None:
    """It has neither task nor MLLM, and the sweep nothing of the table's."""
    (tmp_path / "mine.csv").write_text("bpp,accuracy\n0.1,0.5\n0.2,0.75\n")
    alone = missing_points(read_sweep(str(sweep_dir)))
    both = read_sweep(str(sweep_dir), str(tmp_path / "mine.csv"))
    assert missing_points(both) == alone
    lines = [curve for curve in curves(both) if curve.scenario == "mine"]
    assert [(curve.mllm, curve.task, list(curve.frame["value"])) for curve in lines] == [
        ("unknown", "unknown", [0.5, 0.75])
    ]
    sweep_kinds = {c.task for c in curves(both) if c.scenario != "mine"}
    assert sweep_kinds == {c.task for c in curves(read_sweep(str(sweep_dir)))}
