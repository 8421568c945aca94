"""What must hold however sweeps share their points, with shares that Hypothesis draws."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.curves.assemble import missing_points
from analysis.io.merge import merge
from analysis.io.schema import KEY, AnalysisError
from analysis.io.sweep import Sweep
from tests.analysis.messages import naming

LAMBDAS = (0.001, 0.01, 0.1)
SCENARIOS = ("reconstruction", "d1")
KEYS = [f"{scenario}-{lmbda}" for scenario in SCENARIOS for lmbda in LAMBDAS]


def described(key: str) -> dict[str, Any]:
    scenario, _, lmbda = key.partition("-")
    point = {"codec": "c", "lmbda": float(lmbda), "scenario": scenario, "seed": 0}
    return {"point_key": key, **point}


def sweep(name: str, keys: set[str]) -> Sweep:
    """A sweep that expects all points and has some; values and samples depend on the point."""
    rows, samples = [], []
    for key in sorted(keys):
        number = KEYS.index(key)
        point = {"point_key": key, "mllm": "m", "task": "vqa", "metric": "accuracy"}
        more = {"dataset": "s", "split": "test", "value": 0.5 + number / 100, "bpp": 0.1 + number}
        rows.append({**described(key), **point, **more, "sweep": name, "n_samples": 2})
        samples += [
            {**point, "dataset": "s", "sample_id": f"{i}", "value": float(i), "bpp": 0.1 + number}
            for i in range(2)
        ]
    empty = dict.fromkeys(("value_low", "value_high", "bpp_estimated", "psnr"), float("nan"))
    points = pd.DataFrame(rows).assign(**empty, run_id=None)
    manifest = {
        "sweep": name,
        "expected": [described(key) for key in KEYS],
        "missing": [{**described(key), "reason": "lost"} for key in KEYS if key not in keys],
    }
    return Sweep(points, pd.DataFrame(samples), manifest)


parts = st.lists(st.sets(st.sampled_from(KEYS), min_size=1), min_size=2, max_size=4)


def content(merged: Sweep) -> tuple[list[Any], list[Any], set[Any]]:
    """Points, samples and missing points, without their order."""
    assert merged.samples is not None
    points = merged.points[[*KEY, "value", "bpp"]].itertuples(index=False, name=None)
    columns = ["point_key", "task", "sample_id", "value"]
    samples = merged.samples[columns].astype(str).itertuples(index=False, name=None)
    gone = {(point.scenario, point.lmbda) for point in missing_points(merged)}
    return sorted(points), sorted(samples), gone


@settings(max_examples=30)
@given(parts)
def test_each_point_is_there_once_and_what_no_sweep_has_is_missing(keys: list[set[str]]) -> None:
    merged = merge([sweep(f"s{i}", part) for i, part in enumerate(keys)])
    union = set().union(*keys)
    assert sorted(merged.points["point_key"]) == sorted(union)
    assert merged.samples is not None
    assert len(merged.samples) == 2 * len(union)
    gone = {f"{point.scenario}-{point.lmbda}" for point in missing_points(merged)}
    assert gone == set(KEYS) - union


@settings(max_examples=30)
@given(parts, st.randoms(use_true_random=False))
def test_neither_order_nor_grouping_changes_the_content(keys: list[set[str]], random: Any) -> None:
    sweeps = [sweep(f"s{i}", part) for i, part in enumerate(keys)]
    whole = content(merge(sweeps))
    shuffled = list(sweeps)
    random.shuffle(shuffled)
    assert content(merge(shuffled)) == whole
    first, *rest = sweeps
    assert content(merge([first, merge([*rest, rest[0]])])) == whole


@settings(max_examples=30)
@given(parts, st.floats(1e-6, 0.4), st.data())
def test_a_shared_key_with_another_value_is_refused_and_named(
    keys: list[set[str]], by: float, data: st.DataObject
) -> None:
    sweeps = [sweep(f"s{i}", part) for i, part in enumerate(keys)]
    key = data.draw(st.sampled_from(sorted(keys[0])))
    points = sweeps[0].points
    changed = points["value"].where(points["point_key"] != key, points["value"] + by)
    odd = dataclasses.replace(sweeps[0], points=points.assign(value=changed))
    with pytest.raises(AnalysisError, match=naming(key)):
        merge([*sweeps, odd])


@settings(max_examples=30)
@given(parts)
def test_apart_every_sweep_keeps_its_own_curves(keys: list[set[str]]) -> None:
    merged = merge([sweep(f"s{i}", part) for i, part in enumerate(keys)], apart=True)
    assert len(merged.points) == sum(map(len, keys))
    by_variant = merged.points.groupby("variant")["point_key"].agg(set).to_dict()
    assert by_variant == {f"s{i}": part for i, part in enumerate(keys)}
