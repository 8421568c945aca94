"""Competitors in a space: which points they have, what their stages rest on, what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from search_spaces import (
    OperatingPoint,
    Space,
    Stage,
    Stages,
    operating_points,
    point_stage,
    select,
)
from search_spaces.scenarios import scenario_of

MEAN: dict[str, Any] = {"arch": "mbt2018-mean", "N": 8, "M": 16, "lambdas": [0.001, 0.01]}
VBR: dict[str, Any] = {
    "arch": "mbt2018-mean-vbr",
    "N": 8,
    "M": 16,
    "rate_lambdas": [0.0015, 0.002, 0.02],
}


def space(**settings: Any) -> Space:
    data = {"name": "x", "codecs": [MEAN, VBR], "mllms": ["m"], "scenarios": [], "baselines": []}
    return Space.model_validate({**data, **settings})


def refusal(**settings: Any) -> str:
    with pytest.raises(ValidationError) as error:
        space(**settings)
    return str(error.value)


def start_of(space: Space, point: OperatingPoint) -> OperatingPoint:
    start = scenario_of(point.scenario).start(space, point)
    assert start is not None
    return start


def test_each_competitor_has_its_points() -> None:
    names = ["feature_coding", "shared_neck", "transfer", "transfer_tuned", "end_to_end_oracle"]
    made = space(baselines=names, feature_coding={"lambdas": [1, 2, 3]}, seeds=[0, 1])
    found = {name: select(operating_points(made), [f"scenario={name}"]) for name in names}
    per_seed = {name: len(points) / 2 for name, points in found.items()}
    assert per_seed == {
        "feature_coding": 3,
        "shared_neck": 3,
        "transfer": 3,
        "transfer_tuned": 3,
        "end_to_end_oracle": 5,
    }
    assert {p.fields["codec"] for p in found["feature_coding"]} == {"tokens"}
    assert {p.fields["codec"] for p in found["shared_neck"]} == {"mbt2018-mean-vbr"}
    keys = {point_stage(Stages(made), p).key for p in operating_points(made)}
    assert len(keys) == len(operating_points(made))


def test_one_neck_rests_on_the_latents_of_all_rates() -> None:
    made = space(baselines=["shared_neck"])
    stages = Stages(made)
    points = operating_points(made)
    necks = {point_stage(stages, point).reads["start"] for point in points}
    assert len(necks) == 1
    (neck,) = necks
    assert isinstance(neck, Stage)
    assert neck.kind == "neck"
    assert [read.kind for read in neck.inputs].count("latents") == 3
    other = space(baselines=["shared_neck"], codecs=[MEAN, {**VBR, "qualities": [1, 2]}])
    fewer = point_stage(Stages(other), operating_points(other)[0]).reads["start"]
    assert isinstance(fewer, Stage)
    assert fewer.key != neck.key
    assert all(neck in point_stage(stages, point).inputs for point in points)


def test_transfer_takes_the_neck_of_the_nearest_lambda() -> None:
    made = space(baselines=["transfer"])
    starts = [start_of(made, point) for point in operating_points(made)]
    assert [(p.codec.label if p.codec else "", p.lmbda) for p in starts] == [
        ("mbt2018-mean", 0.001),
        ("mbt2018-mean", 0.001),
        ("mbt2018-mean", 0.01),
    ]
    back = space(baselines=["transfer"], transfer={"source": "mbt2018-mean-vbr"})
    assert [p.fields["codec"] for p in operating_points(back)] == ["mbt2018-mean"] * 2


def test_tuning_is_no_part_of_what_is_taken_as_it_is() -> None:
    settings: dict[str, Any] = {"baselines": ["transfer", "transfer_tuned"], "scenarios": ["d1"]}
    one, other = space(**settings), space(**settings, transfer={"steps": 7})
    for point in operating_points(one):
        same = point_stage(Stages(one), point).key == point_stage(Stages(other), point).key
        assert same == (point.scenario != "transfer_tuned")


def test_a_lambda_of_tokens_changes_its_own_point_alone() -> None:
    one = space(baselines=["feature_coding"], feature_coding={"lambdas": [1, 2]})
    other = space(baselines=["feature_coding"], feature_coding={"lambdas": [1, 3]})
    keys = [{point_stage(Stages(s), p).key for p in operating_points(s)} for s in (one, other)]
    assert len(keys[0] & keys[1]) == 1


def test_d2_still_starts_from_its_own_d1() -> None:
    made = space(scenarios=["d1", "d2"], codecs=[MEAN])
    codec = made.codecs[0].at(0.01)
    assert start_of(made, OperatingPoint(codec, 0.01, "d2", 3)) == OperatingPoint(
        codec, 0.01, "d1", 3
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"baselines": ["shared_neck"], "codecs": [MEAN]}, "there is none in codecs"),
        ({"baselines": ["transfer"], "codecs": [MEAN]}, "needs a codec beside mbt2018-mean"),
        (
            {"baselines": ["transfer"], "transfer": {"source": "elic"}},
            "transfer.source = 'elic': no such codec; there are mbt2018-mean, mbt2018-mean-vbr",
        ),
        (
            {"baselines": ["transfer"], "codecs": [MEAN, {**VBR, "M": 24}]},
            "they have 16 and 24",
        ),
        (
            {"baselines": ["feature_coding"], "feature_coding": {"lambdas": [1, 1]}},
            "feature_coding.lambdas [1.0, 1.0]: one or more different values",
        ),
        ({"baselines": ["end_to_end_oracle"], "tasks": ["fewshot"]}, "tasks has none of these"),
        (
            {
                "baselines": ["end_to_end_oracle"],
                "data": {"kind": "folder", "uri": "x"},
                "tasks": ["classification"],
            },
            "data of kind 'folder' has not",
        ),
    ],
)
def test_what_cannot_be_compared_is_said(settings: dict[str, Any], message: str) -> None:
    assert message in refusal(**settings)


def test_images_that_a_unet_cannot_halve_are_refused() -> None:
    message = refusal(baselines=["post_processing"], post_processing={"levels": 8})
    assert all(text in message for text in ("post_processing.levels = 8", "128", "256"))


def test_the_codecs_decide_which_sizes_of_images_are_valid() -> None:
    factorized = {"arch": "bmshj2018-factorized", "N": 8, "M": 16, "lambdas": [0.001]}
    kept = space(codecs=[factorized], data={"size": 144}, baselines=["reconstruction"])
    assert kept.data.size == 144
    message = refusal(data={"size": 144}, baselines=["reconstruction"])
    assert all(text in message for text in ("data.size = 144", "multiple of 64"))
