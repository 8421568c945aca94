"""How long curves were trained, and what is said of unequal or unfinished trainings."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

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
    assert "base codec by 7%" in training_caveat(sweep_of(d1=training("d1", 3200, before=[young])))


def test_equal_and_finished_trainings_need_no_caveat() -> None:
    both = {"d1": training("d1", 3200), "post_processing": training("post_processing", 3200)}
    assert training_caveat(sweep_of(**both)) == ""
    both["post_processing"] = training("post_processing", 576)
    caveat = training_caveat(sweep_of(**both))
    assert "d1 3,200" in caveat
    assert "576" in caveat
    assert "falling" not in caveat


def test_a_sweep_that_says_nothing_of_its_trainings_is_not_shown_to_have_converged() -> None:
    silent = sweep_of(d1={"steps": 200, "seconds": 4.0})
    assert trainings(silent).empty
    assert training_caveat(silent) == UNKNOWN
    foreign = Sweep(silent.points, None, {})
    assert training_caveat(foreign) == ""


def test_an_unknown_training_behind_a_known_one_makes_it_unknown() -> None:
    unknown = {**CODEC, "until": None, "fall_of_last_quarter": None}
    sweep = sweep_of(d1=training("d1", 3200, before=[unknown]))
    assert np.isnan(trainings(sweep)["fall"]).all()
    assert "Not known to have converged: d1." in training_caveat(sweep)
