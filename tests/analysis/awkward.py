"""Awkward sweeps, made from the simulated ones: what every figure must bear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.io.read import Sweep
from tests.analysis.sweeps import LAMBDAS

LONG_CODECS = ("released:elic-192-320-lambda-0.0045", "compressai:bmshj2018-hyperprior-mse-192-320")
LONG_MLLMS = (
    "llava-hf/llava-1.5-7b-hf",
    "llava-hf/llava-v1.6-mistral-7b-hf",
    "a-research-group-with-a-name/its-multimodal-model-2b-instruct-448",
)
LONG_VARIANTS: dict[str, dict[str, Any]] = {
    "entering-at-block-2": {"teacher.block": 2, "neck.layers": 1},
    "gamma-to-delta-80-to-1": {"d2.gamma": 65025.0, "surrogate.phases": [{"ce": 1, "steps": 20}]},
}


def some(sweep: Sweep, **wanted: Sequence[str]) -> Sweep:
    """The points with some values of columns, e.g. `task=["vqa"]`, their samples and what is said.

    Of what was expected only points that are left are kept.
    """
    points = sweep.points
    for column, values in wanted.items():
        points = points[points[column].isin(values)]
    assert sweep.samples is not None
    keys, tasks = set(points["point_key"]), set(points["task"])
    samples = sweep.samples[
        sweep.samples["point_key"].isin(keys) & sweep.samples["task"].isin(tasks)
    ]
    expected = [one for one in sweep.manifest["expected"] if one["point_key"] in keys]
    return Sweep(points, samples, {**sweep.manifest, "expected": expected})


def crowd(
    sweep: Sweep,
    mllms: Sequence[str],
    variants: dict[str, dict[str, Any]] | None = None,
    varied: Sequence[str] = ("d1", "d2", "d3"),
) -> Sweep:
    """The sweep with every MLLM, and some of its scenarios in every variant.

    Copies differ a little in their values, so that no two curves are the same.
    """
    assert sweep.samples is not None
    points, samples, expected = [], [], []
    made = dict(sweep.manifest["points"])
    owners = sweep.points.drop_duplicates("point_key").set_index("point_key")["scenario"]
    for index, variant in enumerate(variants or [""]):
        own = owners.isin(varied) if variant else pd.Series(False, owners.index)
        if index:
            own = own[own]
        keys = {key: f"{key}-{variant}" if own[key] else key for key in own.index}
        for number, mllm in enumerate(mllms):
            for frame, into in ((sweep.points, points), (sweep.samples, samples)):
                copy = frame[frame["point_key"].isin(list(keys))]
                bpp = copy["bpp"] * (1 + 0.1 * index * (copy["bpp"] < 20))
                copy = copy.assign(mllm=mllm, bpp=bpp, point_key=copy["point_key"].map(keys))
                if into is points:
                    value = copy["value"] * (1 - 0.05 * number)
                    variant_names = [
                        variant if owners[k] in varied else ""
                        for k in frame["point_key"][copy.index]
                    ]
                    copy = copy.assign(variant=variant_names, value=value)
                else:
                    copy = copy.assign(value=copy["value"] * (1 - 0.05 * number))
                into.append(copy)
        made |= {new: made[old] for old, new in keys.items()}
        expected += [
            {
                **one,
                "point_key": keys[one["point_key"]],
                "variant": variant * bool(own[one["point_key"]]),
            }
            for one in sweep.manifest["expected"]
            if one["point_key"] in keys
        ]
    space = {**sweep.manifest["space"], "variants": variants or {}}
    manifest = {**sweep.manifest, "points": made, "expected": expected, "space": space}
    return Sweep(
        pd.concat(points, ignore_index=True),
        pd.concat(samples, ignore_index=True),
        manifest,
    )


def single(sweep: Sweep) -> Sweep:
    """One rate of every curve, and nothing said of others."""
    lmbda = sweep.points["lmbda"]
    keys = sweep.points.loc[lmbda.isna() | (lmbda == LAMBDAS[2]), "point_key"]
    return some(sweep, point_key=list(keys.unique()))


def twins(sweep: Sweep, scenario: str = "d3", original: str = "d2") -> Sweep:
    """One scenario's values are another's, sample by sample."""
    assert sweep.samples is not None
    points, samples = sweep.points, sweep.samples
    frames = []
    for frame in (points, samples):
        source = frame[frame["point_key"].str.startswith(f"{original}-")]
        kept = frame[~frame["point_key"].str.startswith(f"{scenario}-")]
        keys = source["point_key"].astype("str").str.replace(original, scenario, n=1)
        frames.append(pd.concat([kept, source.assign(point_key=keys)], ignore_index=True))
    own = frames[0]["point_key"].str.startswith(f"{scenario}-")
    frames[0]["scenario"] = frames[0]["scenario"].mask(own, scenario)
    return Sweep(frames[0], frames[1], sweep.manifest)


def scaled(sweep: Sweep, factor: float, unit: str) -> Sweep:
    """Primary metrics on another scale, under names that say nothing: `score`."""
    assert sweep.samples is not None
    known = sweep.manifest["tasks"]
    frames = []
    for frame in (sweep.points, sweep.samples):
        primary = frame["task"].map({task: said["primary"] for task, said in known.items()})
        own = frame[frame["metric"].astype("str") == primary.astype("str")]
        columns = [name for name in ("value", "value_low", "value_high") if name in own]
        values = {name: factor * own[name] for name in columns}
        frames.append(own.assign(metric="score", **values))
    said = {"unit": unit, "low": 0, "high": factor, "higher_is_better": True}
    tasks = {
        task: {"primary": "score", "chance": None, "metrics": {"score": said}} for task in known
    }
    return Sweep(frames[0], frames[1], {**sweep.manifest, "tasks": tasks})


def lower(sweep: Sweep) -> Sweep:
    """One task's primary metric becomes an error rate, of which less is better."""
    assert sweep.samples is not None
    frames = []
    for frame in (sweep.points, sweep.samples):
        own = (frame["task"] == "vqa").to_numpy()
        changed = {name: (1 - frame[name]).where(own, frame[name]) for name in ("value",)}
        if "value_low" in frame:
            changed["value_low"] = (1 - frame["value_high"]).where(own, frame["value_low"])
            changed["value_high"] = (1 - frame["value_low"]).where(own, frame["value_high"])
        metric = frame["metric"].astype("str").mask(own, "error_rate")
        frames.append(frame.assign(metric=metric, **changed))
    said = {"unit": "fraction", "low": 0, "high": 1, "higher_is_better": False}
    tasks = dict(sweep.manifest["tasks"])
    tasks["vqa"] = {"primary": "error_rate", "chance": None, "metrics": {"error_rate": said}}
    return Sweep(frames[0], frames[1], {**sweep.manifest, "tasks": tasks})
