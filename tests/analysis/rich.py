"""The simulated sweep with every scenario that there may be, surrogate terms and example pages."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from analysis.points import read_sweep, write_points
from tests.analysis.sweeps import make_sweep

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
    "rec": ("<image> Where is the blue three?", "8 16 40 48"),
    "fewshot": ("<image> Which digit is this?", "seven"),
}


def make_rich(directory: Path, codecs: tuple[str, ...] = ("elic",), n: int = 200) -> Path:
    """`make_sweep` with the scenarios of `DERIVED`, surrogate terms, and pages of examples."""
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
        of = sweep.samples[sweep.samples["point_key"].isin(list(keys))]
        samples.append(of.assign(point_key=of["point_key"].map(keys), bpp=of["bpp"] * factor))
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
    _ask(pd.concat(samples, ignore_index=True)).to_parquet(directory / "samples.parquet")
    for key, made in manifest["points"].items():
        made["examples"] = [f"examples/{key}/{image}.png" for image in IMAGES]
        for number, path in enumerate(made["examples"]):
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(_page(number, "d1" not in key))
    (directory / "sweep.json").write_text(json.dumps(manifest, default=float), encoding="utf-8")
    return directory


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


@functools.cache
def _page(number: int, decoded: bool) -> bytes:
    """A page as `trainables.evaluation.examples` lays it out (a test compares the two)."""
    page = Image.new("RGB", (1228, 340), "white")
    page.paste(scene(number), (24, 68))
    blurred = scene(number).resize((24, 24)).resize((256, 256))
    page.paste(blurred if decoded else Image.new("RGB", (256, 256), (245, 246, 248)), (296, 68))
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def scene(number: int) -> Image.Image:
    """256 x 256 pixels of something that has edges and slopes."""
    y, x = np.mgrid[0:256, 0:256]
    channels = [
        127 + 120 * np.sin(x / (20 + 9 * number) + c) * np.cos(y / (31 - 7 * c)) for c in range(3)
    ]
    pixels = np.stack(channels, -1)
    pixels[60:140, 40 + 60 * number : 120 + 60 * number] = (210, 40, 40)
    return Image.fromarray(pixels.astype(np.uint8))
