"""The simulated sweep with every scenario that there may be, surrogate terms and example images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.io.read import read_sweep, write_points
from tests.analysis.pictures import blurred, entry, scene
from tests.analysis.sweeps import MLLM, make_sweep

DERIVED = {
    ("end_to_end_oracle", None): ("d3", 0.92),
    ("transfer", None): ("d1", 1.2),
    ("shared_neck", None): ("d1", 1.1),
    ("transfer_tuned", None): ("d1", 0.95),
    ("feature_coding", "tokens"): ("d2", 1.5),
    ("classical", "jpeg"): ("reconstruction", 2.4),
    ("classical", "jpeg2000"): ("reconstruction", 1.9),
    ("classical", "webp"): ("reconstruction", 1.5),
    ("classical", "avif"): ("reconstruction", 1.15),
    ("brand_new", None): ("post_processing", 0.8),
    ("newer_still", None): ("post_processing", 1.3),
}
"""(scenario, codec) -> (simulated scenario, factor on its rate)."""
IMAGES = ("test-00000", "test-00001")
QUESTIONS = {
    "captioning": ("<image> Describe the scene.", "a red seven left of a blue three on grass"),
    "vqa": ("<image> What colour is the digit on the left?", "red"),
    "rec": ("<image> Where is the blue three?", "loc8 loc16 loc40 loc48"),
    "fewshot": ("<image> Which digit is this?", "seven"),
}

WANTED, ELSEWHERE = (0.25, 0.5, 0.5, 0.75), (0.625, 0.125, 0.875, 0.375)
"""The box that is wanted, and the one of a wrong answer."""


def make_rich(directory: Path, codecs: tuple[str, ...] = ("elic",), n: int = 200) -> Path:
    """`make_sweep` with the scenarios of `DERIVED`, surrogate terms, and examples with boxes."""
    make_sweep(directory, n=n, codecs=codecs, examples=False)
    sweep = read_sweep(str(directory))
    assert sweep.samples is not None
    manifest: dict[str, Any] = dict(sweep.manifest)
    points, samples = [sweep.points], [sweep.samples]
    for (scenario, codec), (source, factor) in DERIVED.items():
        own = sweep.points[sweep.points["scenario"] == source]
        own = own[own["codec"] == codecs[0]] if codec else own
        keys = {key: f"{scenario}-{codec or ''}-{key}" for key in own["point_key"].unique()}
        new = own.assign(
            scenario=scenario,
            point_key=own["point_key"].map(keys),
            bpp=own["bpp"] * factor,
            run_id=own["run_id"].str.replace("0" * 4, "abcd", n=1),
        )
        points.append(new if codec is None else new.assign(codec=codec))
        copied = sweep.samples[sweep.samples["point_key"].isin(list(keys))]
        samples.append(
            copied.assign(point_key=copied["point_key"].map(keys), bpp=copied["bpp"] * factor)
        )
        for old, key in keys.items():
            made = manifest["points"][old]
            manifest["points"][key] = {**made, "spec": {**made["spec"], "scenario": scenario}}
    everything = pd.concat(points, ignore_index=True)
    manifest["expected"] = [
        {name: (None if pd.isna(row[name]) else row[name]) for name in row.index}
        for _, row in everything.drop_duplicates("point_key")[
            ["point_key", "codec", "lmbda", "scenario", "seed"]
        ].iterrows()
    ]
    manifest["tracking_uri"] = "http://mlflow.example:5000"
    rng = np.random.default_rng(0)
    of_point = everything["point_key"].map(everything.groupby("point_key")["value"].mean())
    error = 0.4 * (1.02 - of_point / 2.2) * np.exp(rng.normal(0, 0.05, len(everything)))
    bound = everything["scenario"] == "uncompressed"
    everything["distill_pooled"] = (error * 0.3).where(~bound, 0.0)
    everything["distill_tokens"] = error.where(~bound, 0.0)
    write_points(everything.drop(columns="variant"), str(directory))
    asked = _ask(pd.concat(samples, ignore_index=True))
    asked.to_parquet(directory / "samples.parquet")
    boxes = asked[asked["task"] == "rec"].set_index(["point_key", "sample_id"])["value"]
    rates = everything.drop_duplicates("point_key").set_index("point_key")["bpp"]
    for key, made in manifest["points"].items():
        made["examples"] = []
        for number, image in enumerate(IMAGES):
            ids = [f"{image}-{task}-0" for task in QUESTIONS]
            answered = WANTED if boxes[key, f"{image}-rec-0"] > 0 else ELSEWHERE
            shown = blurred(number, 24) if _decodes(key) else None
            made["examples"].append(
                entry(
                    *(directory, MLLM, image, scene(number), shown, ids, float(rates[key])),
                    {f"{image}-rec-0": (WANTED, answered)},
                )
            )
    (directory / "sweep.json").write_text(json.dumps(manifest, default=float), encoding="utf-8")
    return directory


def _decodes(key: str) -> bool:
    return "d1" not in key and "uncompressed" not in key


def _ask(samples: pd.DataFrame) -> pd.DataFrame:
    """The first samples of each task belong to the example images and have words."""
    number = samples["sample_id"].str[-5:].astype(int)
    shown = number < len(IMAGES)
    image = number.map(lambda i: IMAGES[i] if i < len(IMAGES) else "")
    named = (image + "-" + samples["task"] + "-0").where(shown, samples["sample_id"])
    asked = samples["task"].map(QUESTIONS)
    wrong = asked.map(lambda q: q[1].replace("red", "green").replace("seven", "nine"))
    return samples.assign(
        sample_id=named,
        prompt=asked.str[0],
        reference=asked.map(lambda q: json.dumps({"answer": q[1]})),
        answer=asked.str[1].where(samples["value"] > 0, wrong + " or so"),
    )
