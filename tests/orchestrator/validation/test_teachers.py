"""Settings that do not fit the teacher are mistakes, found from its configuration."""

import json
import re
from pathlib import Path

import pytest

from orchestrator.validation.teachers import check_teacher
from search_spaces import Space, load_space


def space_with(directory: Path, config: dict[str, object], *settings: str) -> Space:
    """The smoke space with a teacher of which only the configuration exists."""
    (directory / "config.json").write_text(json.dumps(config))
    return load_space("smoke", [f"teacher.model={directory}", *settings])


@pytest.mark.parametrize(
    ("config", "settings", "named", "values"),
    [
        ({"model_type": "siglip2"}, [], "teacher.model", "NaFlex"),
        ({"model_type": "bert"}, [], "teacher.model", "'bert'"),
        ({"model_type": "clip"}, ["teacher.block=13"], "teacher.block", "13"),
        ({"model_type": "clip"}, ["surrogate.token_layer=1"], "surrogate.token_layer", "2 to 12"),
        (
            {"model_type": "clip"},
            ["surrogate.token_layer=-14"],
            "surrogate.token_layer",
            "-13 to 12",
        ),
        ({"model_type": "clip"}, ["neck.heads=5"], "neck.heads", "768"),
        ({"model_type": "clip"}, ["neck.init=encoder", "neck.heads=6"], "neck.heads", "12"),
        ({"model_type": "clip"}, ["neck.init=encoder", "neck.mlp_ratio=3"], "neck.mlp_ratio", "4"),
        ({"model_type": "clip_vision_model"}, [], "surrogate.phases", "ce to 0"),
        (
            {"model_type": "siglip", "vision_config": {"vision_use_head": False}},
            [],
            "surrogate.pooled",
            "0",
        ),
        ({"model_type": "clip", "vision_config": 3}, [], "teacher.model", "damaged"),
        ({"model_type": "clip", "vision_config": []}, [], "teacher.model", "damaged"),
        *(
            ({"model_type": "clip", "vision_config": {size: value}}, [], "teacher.model", size)
            for size in ("hidden_size", "patch_size", "num_hidden_layers")
            for value in ("x", 0, 1.5, None, True)
        ),
        (
            {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Theirs"}},
            [],
            "teacher.model",
            "own code (auto_map) is never run",
        ),
        ({"model_type": "siglip"}, ["surrogate.double_norm=true"], "surrogate.double_norm", "CLIP"),
    ],
)
def test_what_does_not_fit_the_teacher_is_named_with_valid_values(
    config: dict[str, object], settings: list[str], named: str, values: str, tmp_path: Path
) -> None:
    (problem,) = check_teacher(space_with(tmp_path, config, *settings))
    assert re.match(r"[\w.]+", problem)[0] == named  # type: ignore[index]
    assert values in problem


def test_what_fits_the_teacher_is_no_mistake(tmp_path: Path) -> None:
    settings = ("neck.heads=6", "teacher.block=11", "surrogate.token_layer=11", "neck.init=random")
    assert check_teacher(space_with(tmp_path, {"model_type": "clip"}, *settings)) == []


def test_zero_shot_tasks_need_a_teacher_with_a_text_tower(tmp_path: Path) -> None:
    settings = (
        "surrogate.phases=[{until: 1, ce: 0, distill: 1}]",
        f"data={{kind: folder, uri: {tmp_path}}}",
        "tasks=[classification]",
    )
    (problem,) = check_teacher(space_with(tmp_path, {"model_type": "clip_vision_model"}, *settings))
    assert problem.startswith("tasks: classification: ")
    assert check_teacher(space_with(tmp_path, {"model_type": "clip"}, *settings)) == []


def test_a_search_over_blocks_that_the_teacher_has_not_is_a_mistake() -> None:
    over = "search.over={teacher.block: {integers: [2, 40]}}"
    problems = check_teacher(load_space("demo-search", [over]))
    assert problems
    assert all(problem.startswith("teacher.block = 40: ") for problem in problems)
