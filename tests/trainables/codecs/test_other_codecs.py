"""Operating points of the other kinds of codecs: trained from d1 on, used from their bitstreams."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from search_spaces import Space
from tests.trainables.codecs.plugin import installed
from tests.trainables.conftest import Small
from tests.trainables.shards import write_shards
from tests.trainables.small import NAMES, SHARD, SIDE, make_space, point, write_images
from trainables.codecs.entropy.bitstream import unpack
from trainables.datasets.arrays import decode_image
from trainables.datasets.images.convert import TASKS_SCHEMA
from trainables.datasets.rows import Rows
from trainables.datasets.tensors import to_tensor
from trainables.evaluation.evaluate import PointFiles, TaskEvaluation, evaluate_point
from trainables.points.contract import load_point, method_of
from trainables.points.inputs import Inputs
from trainables.points.models import BridgedPoint, CodedPoint, PointModel
from trainables.scenarios.d2 import JointLearner
from trainables.training.context import LocalContext
from trainables.training.loop import validate
from trainables.training.precompute import CodecLatents
from trainables.training.train import train_codec, train_point

CODECS: list[dict[str, Any]] = [
    {"arch": "tic", "N": 16, "M": 16, "depths": (1, 1, 1, 1, 1)},
    {"arch": "mbt2018-mean-vbr", "N": 12, "M": 12, "qualities": (3,)},
    {"arch": "mbt2018-vbr", "N": 12, "M": 12, "qualities": (3,)},
    {"arch": "elic2022-chandelier", "N": 16, "M": 24, "groups": (4, 8, 12), "context_width": 0.1},
    {"arch": "strided-8"},
]
RATE = 2
"""Index of the variable-rate codecs' rate above."""
FAST = {"steps": 12, "batch_size": 4, "lr": 3e-3, "validate_every": 6, "checkpoint_every": 12}


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path) -> Iterator[None]:
    with installed(tmp_path / "site"):
        yield


def space_of(small: Small, codec: dict[str, Any]) -> Space:
    data = {"kind": "folder", "uri": "made by hand", "size": SIDE, "shard_size": SHARD}
    joint = {**FAST, "codec_lr": 1e-3, "delta": 20.0}
    return make_space(
        small.root / "teacher",
        codecs=[{**codec, "train": {**FAST, "steps": 4}}],
        data={**data, "train": 20, "val": 6, "test": 5},
        mllms=[],
        tasks=["classification"],
        evaluation={"examples": 0},
        d1=FAST,
        d2={**joint, "gamma": 255.0**2},
        d3=joint,
    )


def with_test_images(world: Path, out: Path) -> Path:
    """The world with five test images, each to be classified."""
    shutil.copytree(world, out)
    write_images(out, "test", 5)
    samples = []
    for row in pq.read_table(out / "images_test.parquet").to_pylist():
        number = row["classes"][0]
        reference = json.dumps({"class": f"{number} {NAMES[number]}"})
        name = row["image_id"]
        samples.append((f"{name}-classification", "classification", [name], "<image>", reference))
    rows = [dict(zip(TASKS_SCHEMA.names, sample, strict=True)) for sample in samples]
    pq.write_table(pa.Table.from_pylist(rows, TASKS_SCHEMA), out / "tasks_test.parquet")
    return out


def test_images(world: Path) -> dict[str, Tensor]:
    rows = pq.read_table(world / "images_test.parquet").to_pylist()
    return {row["image_id"]: to_tensor([decode_image(row["png"])]) for row in rows}


test_images.__test__ = False  # type: ignore[attr-defined]  # pytest's, by its name


def psnr_of(model: PointModel, image: Tensor, stream: bytes) -> float:
    assert isinstance(model, CodedPoint)
    decoded = model.codec.synthesis(model.codec.decode([stream]))
    return float(-10 * np.log10(np.mean((decoded - image).numpy().astype(np.float64) ** 2)))


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: str(codec["arch"]))
def test_d1_then_d2_and_d3_train_and_are_measured_from_what_was_written(
    small_stages: Small, tmp_path: Path, codec: dict[str, Any]
) -> None:
    space = space_of(small_stages, codec)
    spec, lmbda = space.codecs[0], space.codecs[0].lambdas[0]
    world = with_test_images(small_stages.world, tmp_path / "world")
    base, latents = tmp_path / "codec", tmp_path / "latents"
    inputs = Inputs(world, text=small_stages.text, features=small_stages.features)
    train_codec(spec, lmbda, inputs, base, LocalContext(tmp_path / "run"))
    write_shards(CodecLatents(spec, base), world, latents)
    base_weights = load_file(base / "model.safetensors")
    inputs = replace(inputs, codec=base, latents=latents, start=tmp_path / "d1")
    for scenario in ("d1", "d2", "d3"):
        out, chosen = tmp_path / scenario, point(space, scenario)
        context = LocalContext(tmp_path / f"{scenario}-run")
        before = validation_loss(space, scenario, inputs, context) if scenario != "d1" else None
        train_point(space, chosen, inputs, out, context)
        after = json.loads((out / "info.json").read_text())["val_loss"]
        if before is not None:
            assert after < 0.98 * before, "the objective of the scenario falls"
        used = load_point(space, chosen, base, out)
        moved = check_what_moved(used, base_weights)
        assert bool(moved) == (scenario != "d1")
        assert bool([n for n in moved if n.startswith("g_s.")]) == (scenario == "d2")

        (measurement,) = space.measurements
        found = tmp_path / f"{scenario}-found"
        evaluation = TaskEvaluation(measurement, world, world, found)
        files = PointFiles(out, base, small_stages.text)
        evaluate_point(space, chosen, [evaluation], files, tmp_path / f"{scenario}-w")
        summary = json.loads((found / "summary.json").read_text())["classification"]
        assert summary["n_samples"] == 5
        assert (summary["psnr"] is None) == (scenario == "d3")
        rates = {r["image_id"]: r for r in pq.read_table(found / "images.parquet").to_pylist()}
        for name, image in test_images(world).items():
            assert isinstance(used, BridgedPoint)
            (stream,) = used.codec.encode(image)
            assert unpack(stream).rate == (RATE if "vbr" in spec.arch else None)
            assert rates[name]["bpp"] == pytest.approx(8 * len(stream) / SIDE**2)
            y_hat = used.codec.decode([stream])
            assert torch.equal(y_hat, used.codec.latents(image))
            entry = used.enter(used.decode([stream], (SIDE, SIDE)))
            assert entry.block == 2
            assert entry.given.shape == (1, 17, 16)
            if scenario != "d3":
                assert rates[name]["psnr"] == pytest.approx(psnr_of(used, image, stream), abs=1e-3)


def validation_loss(space: Space, scenario: str, inputs: Inputs, context: LocalContext) -> float:
    """Of d1's neck and the base codec, before the scenario trains either."""
    learner = method_of(scenario).learner(space, point(space, scenario), inputs)
    assert isinstance(learner, JointLearner)
    rows = Rows("val", learner.columns, inputs.world, inputs.latents, inputs.features, SHARD)
    return validate(learner, [rows], 4, context)["loss"]


def check_what_moved(used: PointModel, base: dict[str, Tensor]) -> list[str]:
    """Names of the codec's weights that are not the base codec's any more."""
    assert isinstance(used, CodedPoint)
    assert used.codec.rate == (RATE if used.codec.rates > 1 else 0)
    own = {n: v for n, v in used.codec.net.named_parameters() if n in base}
    moved = [name for name, value in own.items() if not torch.equal(value, base[name])]
    for name in moved:
        if name == "Gain":
            changed = (own[name] != base[name]).nonzero().flatten().tolist()
            assert changed == [RATE], "a point has one rate; the others' steps stay"
    return moved
