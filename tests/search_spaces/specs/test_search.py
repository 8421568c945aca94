"""A search is refused where its trials could not be compared, and says what could be searched."""

import pytest

from search_spaces import SpaceError, load_space, operating_points

ONE = ["codecs.0.lambdas=[0.02]", "scenarios=[d1]", "baselines=[reconstruction]"]


def test_a_search_does_not_change_what_is_swept() -> None:
    over = "search={over: {d1.lr: {log_uniform: [0.0001, 0.01]}, neck.layers: {choice: [1, 2]}}}"
    space, plain = load_space("smoke", [*ONE, over]), load_space("smoke", ONE)
    assert operating_points(space) == operating_points(plain)
    assert space.search is not None
    assert space.search.over["d1.lr"].ends == (0.0001, 0.01)
    assert space.changed({}) == plain
    assert space.changed({"d1.lr": 0.5}) == load_space("smoke", [*ONE, "d1.lr=0.5"])


@pytest.mark.parametrize(
    ("over", "line"),
    [
        ("{d1.lrr: {uniform: [0, 1]}}", "search.over.d1.lrr: d1.lrr: "),
        ("{d1.lr: {uniform: [0, 1]}}", "search.over.d1.lr: d1.lr = 0.0: "),
        ("{d1.lr: {uniform: [1, 0]}}", "search.over.d1.lr: uniform: 1.0 "),
        ("{d1.lr: {}}", "uniform, log_uniform, integers, choice"),
        ("{d1.lr: {choice: [1]}}", "search.over.d1.lr: choice: "),
        ("{d1.steps: {choice: [8, 9]}}", "; valid: d1.*, neck.*"),
        ("{d2.lr: {choice: [1, 2]}}", "search.over.d2.lr: "),
        ("{surrogate.tokens: {choice: [1, 2]}}", "search.over.surrogate.tokens: "),
        ("{}", "search: over "),
    ],
)
def test_what_cannot_be_searched_is_named(over: str, line: str) -> None:
    with pytest.raises(SpaceError) as error:
        load_space("smoke", [*ONE, f"search={{over: {over}}}"])
    (said,) = str(error.value).splitlines()
    assert line in said


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("scenarios=[d1, d2]", "2: d1, d2"),
        ("variants={a: {}, b: {d1.lr: 1}}", "variants"),
    ],
)
def test_a_search_is_of_one_scenario(setting: str, line: str) -> None:
    with pytest.raises(SpaceError, match=line):
        load_space("smoke", [*ONE, "search={over: {d1.lr: {choice: [1, 2]}}}", setting])


@pytest.mark.parametrize(
    "setting", ["seeds=[0, 1]", "codecs.0.lambdas=[0.1, 0.2]", "resources.workers_per_point=2"]
)
def test_a_search_takes_several_points_and_workers(setting: str) -> None:
    space = load_space("smoke", [*ONE, "search={over: {d1.lr: {choice: [1, 2]}}}", setting])
    assert space.search is not None
