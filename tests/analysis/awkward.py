"""Awkward sweeps, made from the simulated ones: what every figure must bear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.points import Sweep

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
    for at, variant in enumerate(variants or [""]):
        own = owners.isin(varied) if variant else pd.Series(False, owners.index)
        if at:
            own = own[own]
        keys = {key: f"{key}-{variant}" if own[key] else key for key in own.index}
        for number, mllm in enumerate(mllms):
            for frame, into in ((sweep.points, points), (sweep.samples, samples)):
                copy = frame[frame["point_key"].isin(list(keys))]
                bpp = copy["bpp"] * (1 + 0.1 * at * (copy["bpp"] < 20))
                copy = copy.assign(mllm=mllm, bpp=bpp, point_key=copy["point_key"].map(keys))
                if into is points:
                    value = copy["value"] * (1 - 0.05 * number)
                    of = [
                        variant if owners[k] in varied else ""
                        for k in frame["point_key"][copy.index]
                    ]
                    copy = copy.assign(variant=of, value=value)
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
