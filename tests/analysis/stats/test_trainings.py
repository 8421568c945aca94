"""How long curves were trained, and what is said of unequal or unfinished trainings."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.io.merge import merge
from analysis.io.read import read_sweep
from analysis.io.sweep import Sweep
from analysis.stats.trainings import UNKNOWN, is_unfinished, training_caveat, trainings

CODEC = {"of": "base codec", "steps": 500, "images": 8000, "seconds": 90.0, "until": "plateau"}
CODEC |= {"fall_of_last_quarter": 0.2}


def training(of: str, images: int, fall: float | None = 0.0, **more: Any) -> dict[str, Any]:
    """The `info.json` of a training behind the base codec."""
    info = {"of": of, "steps": images // 16, "images": images, "seconds": 2.0, "until": "steps"}
    return {**info, "fall_of_last_quarter": fall, "before": [CODEC], **more}


def sweep_of(**infos: dict[str, Any]) -> Sweep:
    """A sweep with a point for each scenario, made as its `info.json` says."""
    points = pd.DataFrame(
        {
            "sweep": "s",
            "point_key": list(infos),
            "codec": "elic",
            "scenario": list(infos),
            "task": "vqa",
            "dataset": "scenes",
            "split": "test",
        }
    )
    described = {name: {"info": info} for name, info in infos.items()}
    return Sweep(points, None, {"space": {"name": "s"}, "points": described})


def test_a_curve_has_the_images_of_its_points_and_of_what_they_start_from() -> None:
    d2 = training("d2", 960, before=[CODEC, {**training("d1", 3200), "before": None}])
    reconstruction = {"of": "reconstruction", "steps": 0, "images": 0, "seconds": 0.0}
    frame = trainings(sweep_of(reconstruction={**reconstruction, "before": [CODEC]}, d2=d2))
    assert frame["scenario"].tolist() == ["reconstruction", "d2"]
    assert frame["images"].tolist() == [0, 960]
    assert frame["images_before"].tolist() == [8000, 11200]
    assert frame["fall"].tolist() == [0, 0], "the codec's training ended at a plateau"


@pytest.mark.parametrize(
    ("fall", "until", "unfinished"),
    [
        (0.0, "steps", False),
        (0.01, "steps", False),
        (0.011, "steps", True),
        (None, "steps", True),
        (0.3, "plateau", False),
    ],
)
def test_a_training_is_unfinished_where_its_loss_fell_until_the_end(
    fall: float | None, until: str, unfinished: bool
) -> None:
    frame = trainings(sweep_of(d1=training("d1", 3200, fall, until=until)))
    assert is_unfinished(frame).tolist() == [unfinished]


def test_what_a_point_starts_from_counts_as_its_own_training() -> None:
    young = {**CODEC, "until": "steps", "fall_of_last_quarter": 0.07}
    frame = trainings(sweep_of(d1=training("d1", 3200, before=[young])))
    assert frame["fall"].tolist() == [0.07]
    assert frame["of"].tolist() == ["base codec"]
    of_both = {name: training(name, 3200, before=[young]) for name in ("d1", "post_processing")}
    caveat = training_caveat(sweep_of(**of_both))
    assert "base codec by 7 % in its last quarter (d1, post-processing)" in caveat


def test_of_the_points_of_a_curve_the_worst_counts() -> None:
    """The base codec of one lambda is at its plateau, that of another is not."""
    young = {**CODEC, "until": "steps", "fall_of_last_quarter": 0.07}
    unknown = {**young, "fall_of_last_quarter": None}
    for other, fall in ((young, 0.07), (unknown, np.nan)):
        infos = [training("d1", 3200, before=[before]) for before in (other, CODEC)]
        sweep = sweep_of(low=infos[0], high=infos[1])
        points = sweep.points.assign(scenario="d1")
        frame = trainings(Sweep(points, None, sweep.manifest))
        assert frame["fall"].tolist() == pytest.approx([fall], nan_ok=True)


def test_a_fall_is_named_before_what_is_unknown() -> None:
    unknown = {**CODEC, "until": "steps", "fall_of_last_quarter": None}
    frame = trainings(sweep_of(d1=training("d1", 3200, 0.08, before=[unknown])))
    assert frame[["fall", "of"]].to_numpy().tolist() == [[0.08, "d1"]]


def test_equal_and_finished_trainings_need_no_caveat() -> None:
    both = {"d1": training("d1", 3200), "post_processing": training("post_processing", 3200)}
    assert training_caveat(sweep_of(**both)) == ""
    both["post_processing"] = training("post_processing", 576)
    caveat = training_caveat(sweep_of(**both))
    assert "d1 3,200" in caveat
    assert "576" in caveat
    assert "fell" not in caveat


def test_a_sweep_that_says_nothing_of_its_trainings_is_not_shown_to_have_converged() -> None:
    silent = sweep_of(d1={"steps": 200, "seconds": 4.0})
    assert trainings(silent).empty
    assert training_caveat(silent) == UNKNOWN
    foreign = Sweep(silent.points, None, {})
    assert training_caveat(foreign) == ""


def test_sweeps_that_are_merged_keep_the_caveat_of_unequal_trainings() -> None:
    results = Path(__file__).parents[3] / "docs" / "results"
    both = [read_sweep(str(results / name)) for name in ("demo", "demo-converged")]
    said = training_caveat(merge(both, apart=True))
    assert "different numbers of images" in said
    assert "6,400" in said


def test_an_unknown_training_behind_a_known_one_makes_it_unknown() -> None:
    unknown = {**CODEC, "until": None, "fall_of_last_quarter": None}
    sweep = sweep_of(d1=training("d1", 3200, before=[unknown]))
    assert np.isnan(trainings(sweep)["fall"]).all()
    assert "Not known to have converged: d1." in training_caveat(sweep)
