"""Equal meaning, equal key: properties over many spaces."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Space, Stages, evaluation_stage, operating_points, point_stage

CODEC: dict[str, Any] = {"arch": "mbt2018-mean", "N": 8, "M": 12}
positive = st.integers(1, 10**6)
rate = st.floats(1e-6, 1.0, allow_nan=False)
SPACES = st.fixed_dictionaries(
    {
        "name": st.just("x"),
        "mllms": st.just(["m"]),
        "codecs": st.lists(rate, min_size=1, max_size=3, unique=True).map(
            lambda lambdas: [{**CODEC, "lambdas": lambdas}]
        ),
        "scenarios": st.lists(st.sampled_from(["d1", "d2", "d3"]), min_size=1, unique=True),
        "seeds": st.lists(st.integers(0, 9), min_size=1, max_size=2, unique=True),
        "d1": st.fixed_dictionaries({"steps": positive, "lr": rate}),
        "d2": st.fixed_dictionaries({"gamma": st.floats(0, 1e5), "delta": rate}),
    }
)


def shuffled(value: Any, seed: int) -> Any:
    """The same mappings with their keys in another order."""
    if not isinstance(value, dict):
        return value
    items = list(value.items())
    random.Random(seed).shuffle(items)
    return {key: shuffled(inner, seed) for key, inner in items}


def keys(space: Space) -> dict[tuple[object, ...], tuple[str, ...]]:
    """Identity of each point -> keys of it and of its evaluations."""
    stages = Stages(space)
    return {
        (p.scenario, p.lmbda, p.seed): (
            point_stage(stages, p).key,
            *(evaluation_stage(stages, p, m).key for m in space.measurements),
        )
        for p in operating_points(space)
    }


@settings(max_examples=40)
@given(SPACES, st.integers())
def test_the_order_of_settings_and_of_scenarios_changes_no_key(
    data: dict[str, Any], seed: int
) -> None:
    other = shuffled(data, seed)
    other["scenarios"] = other["scenarios"][::-1]
    assert keys(Space.model_validate(data)) == keys(Space.model_validate(other))


@settings(max_examples=40)
@given(SPACES)
def test_a_space_that_was_written_and_read_is_the_same_space(data: dict[str, Any]) -> None:
    space = Space.model_validate(data)
    read = Space.model_validate_json(space.model_dump_json())
    assert read == space
    assert keys(read) == keys(space)


@settings(max_examples=40)
@given(SPACES, st.text(max_size=20), st.integers(0, 5))
def test_names_and_resources_change_no_key(
    data: dict[str, Any], description: str, failures: int
) -> None:
    other = {**data, "name": "other", "description": description}
    other["resources"] = {"max_failures": failures, "workers_per_point": 2}
    other["codecs"] = [{**codec, "name": "nickname"} for codec in data["codecs"]]
    assert keys(Space.model_validate(data)) == keys(Space.model_validate(other))


@settings(max_examples=40)
@given(SPACES, positive, rate)
def test_another_training_changes_exactly_the_points_that_rest_on_it(
    data: dict[str, Any], steps: int, delta: float
) -> None:
    before = keys(Space.model_validate(data))
    of_d2 = {**data, "d2": {**data["d2"], "delta": delta}}
    changed = {k[0] for k, v in keys(Space.model_validate(of_d2)).items() if v != before[k]}
    assert changed == ({"d2"} & set(data["scenarios"]) if delta != data["d2"]["delta"] else set())
    of_d1 = {**data, "d1": {**data["d1"], "steps": steps}}
    changed = {k[0] for k, v in keys(Space.model_validate(of_d1)).items() if v != before[k]}
    started = {"d1", "d2", "d3"} & set(data["scenarios"])
    assert changed == (started if steps != data["d1"]["steps"] else set())


@settings(max_examples=40)
@given(SPACES)
def test_no_two_points_of_a_space_share_a_key(data: dict[str, Any]) -> None:
    space = Space.model_validate(data)
    assert len({point for point, *_ in keys(space).values()}) == len(operating_points(space))
