"""Names of MLLMs and of the teacher: on points and plots, never in stage keys."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from search_spaces import Space, Stages, operating_points
from search_spaces.scenarios import evaluation_stage

SPACE: dict[str, Any] = {
    "name": "s",
    "codecs": [{"arch": "mbt2018-mean", "lambdas": [0.01], "N": 16, "M": 32}],
    "data": {"kind": "folder", "uri": "/images"},
    "tasks": ["classification"],
    "benchmarks": [{"format": "pope", "annotations": "/a", "images": "/i"}],
    "teacher": {"model": "shipped:clip-scenes"},
    "mllms": ["shipped:llava-scenes", "/models/other"],
}
NAMED = {
    **SPACE,
    "teacher": {"model": "shipped:clip-scenes", "name": "my-clip"},
    "mllms": [{"model": "shipped:llava-scenes", "name": "my-llava"}, "/models/other"],
}


def keys(space: Space) -> list[str]:
    stages = Stages(space)
    points = operating_points(space)
    return [evaluation_stage(stages, p, m).key for p in points for m in space.measurements]


def test_names_are_on_measurements_and_not_in_keys() -> None:
    plain, named = Space.model_validate(SPACE), Space.model_validate(NAMED)
    labels = [m.label for m in named.measurements]
    assert labels == ["my-clip", "my-llava", "other"]
    labels = [m.label for m in plain.measurements]
    assert labels == ["shipped:clip-scenes", "shipped:llava-scenes", "other"]
    assert keys(plain) == keys(named)


def test_a_text_stays_a_text_when_a_space_is_written() -> None:
    dumped = Space.model_validate(NAMED).model_dump(mode="json")
    assert dumped["mllms"] == NAMED["mllms"]
    assert Space.model_validate(dumped) == Space.model_validate(NAMED)


@pytest.mark.parametrize(
    ("mllms", "setting"),
    [
        (["a", "a"], "mllms"),
        (["a", {"model": "a", "name": "b"}], "mllms"),
        ([{"model": "a", "name": "b"}, {"model": "c", "name": "b"}], "mllms.name"),
        ([{"model": "a", "name": "b/c"}], "mllms.0.name"),
        ([{"name": "b"}], "mllms.0.model"),
    ],
)
def test_mistakes_name_the_setting(mllms: list[Any], setting: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        Space.model_validate({**SPACE, "mllms": mllms})
    assert setting in str(raised.value)


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t"])
@pytest.mark.parametrize(
    ("place", "changed"),
    [
        ("codecs.0.name", lambda name: {"codecs": [{**SPACE["codecs"][0], "name": name}]}),
        ("mllms.0.name", lambda name: {"mllms": [{"model": "some/model", "name": name}]}),
        ("mllms.0.name", lambda name: {"mllms": [f"/models/{name}"]}),
        ("teacher.name", lambda name: {"teacher": {"model": "/models/a", "name": name}}),
        ("teacher.name", lambda name: {"teacher": {"model": f"/models/{name}"}}),
        ("data.name", lambda name: {"data": {**SPACE["data"], "uri": f"/data/{name}"}}),
        ("data.name", lambda name: {"data": {**SPACE["data"], "name": name}}),
    ],
)
def test_no_name_in_the_points_is_a_formula_of_a_spreadsheet(
    place: str, changed: Callable[[str], dict[str, Any]], sign: str
) -> None:
    with pytest.raises(ValidationError) as error:
        Space.model_validate({**SPACE, **changed(f"{sign}cmd")})
    assert place in str(error.value)
    Space.model_validate({**SPACE, **changed("a=+-@cmd" if "data" in place else "a-b")})
