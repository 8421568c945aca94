"""Stored features and latents against the models that made them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from search_spaces import Stages
from tests.trainables.conftest import Small
from tests.trainables.shards import compute_shard, write_shards
from tests.trainables.small import SHARD, make_clip, write_images
from trainables.codecs import load_codec
from trainables.datasets.arrays import decode_image, read_tensor
from trainables.datasets.rows import Rows, part_file
from trainables.datasets.shards import read_shard
from trainables.datasets.tensors import to_tensor
from trainables.encoders.pretrained import Preprocessing
from trainables.training.precompute import CodecLatents, TeacherFeatures


def images(world: Path, split: str) -> torch.Tensor:
    data = pq.read_table(world / f"images_{split}.parquet").column("png").to_pylist()
    return to_tensor([decode_image(png) for png in data])


def test_features_are_the_teachers(small_stages: Small) -> None:
    clip = make_clip()
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    pixels = Preprocessing(56, mean, std)(images(small_stages.world, "val"))
    with torch.no_grad():
        tower = clip.vision_model(pixel_values=pixels, output_hidden_states=True)
        pooled = clip.get_image_features(pixel_values=pixels).pooler_output
    table = pq.read_table(part_file(small_stages.features, "val", 0))
    assert table.column("image_id").to_pylist() == [f"val-{i:03d}" for i in range(6)]
    for name, expected in (("pooled", pooled), ("tokens", tower.hidden_states[-2])):
        stored = read_tensor(table, name)
        assert stored.dtype == np.float16
        np.testing.assert_allclose(stored, expected, rtol=2e-3, atol=2e-3)


def test_tokens_are_stored_only_where_the_loss_uses_them(
    small_stages: Small, tmp_path: Path
) -> None:
    space = small_stages.space
    surrogate = space.surrogate.model_copy(update={"tokens": 0.0})
    without = space.model_copy(update={"surrogate": surrogate})
    out = tmp_path / "part.parquet"
    compute_shard(TeacherFeatures(without), small_stages.world, "val", (0, 6), out)
    assert pq.read_schema(tmp_path / "part.parquet").names == ["image_id", "pooled"]
    assert Stages(space).features() != Stages(without).features()


def test_latents_are_what_the_decoder_gets(small_stages: Small) -> None:
    codec = load_codec(small_stages.space.codecs[0], small_stages.codec)
    decoded = codec.decode(codec.encode(images(small_stages.world, "val")))
    stored = read_tensor(pq.read_table(part_file(small_stages.latents, "val", 0)), "y_hat")
    np.testing.assert_allclose(stored, decoded, rtol=1e-3, atol=1e-3)


def test_unreadable_images_are_listed_and_left_out(small_stages: Small, tmp_path: Path) -> None:
    shutil.copy(small_stages.world / "classes.json", tmp_path)
    write_images(tmp_path, "train", 10, unreadable=(1, 4))
    space, codec = small_stages.space, small_stages.space.codecs[0]
    teacher, latents = TeacherFeatures(space), CodecLatents(codec, small_stages.codec)
    for write, name in ((teacher, "features"), (latents, "latents")):
        reports = write_shards(write, tmp_path, tmp_path / name, ["train"])
        assert [report.images for report in reports] == [6, 2]
        assert [[i for i, _ in report.unreadable] for report in reports] == [
            ["train-001", "train-004"],
            [],
        ]
        for shard, report in enumerate(reports):
            assert all(reason for _, reason in report.unreadable)
            metadata = pq.read_schema(part_file(tmp_path / name, "train", shard)).metadata
            stored = json.loads(metadata[b"report"])
            assert stored["images"] == report.images
            assert stored["unreadable"] == [list(image) for image in report.unreadable]
    columns = ("y_hat", "pooled", "image")
    rows = Rows("train", columns, tmp_path, tmp_path / "latents", tmp_path / "features", SHARD)
    assert len(rows) == 8
    # What an image's neighbours are does not change its features.
    whole = read_tensor(pq.read_table(part_file(small_stages.features, "train", 0)), "pooled")
    mine = read_tensor(pq.read_table(part_file(tmp_path / "features", "train", 0)), "pooled")
    np.testing.assert_allclose(mine, whole[[0, 2, 3, 5, 6, 7]], atol=2e-3)


def test_a_shard_without_a_readable_image_is_empty(small_stages: Small, tmp_path: Path) -> None:
    shutil.copy(small_stages.world / "classes.json", tmp_path)
    write_images(tmp_path, "train", 10, unreadable=(8, 9))
    reports = write_shards(TeacherFeatures(small_stages.space), tmp_path, tmp_path, ["train"])
    assert [report.images for report in reports] == [8, 0]
    rows = Rows("train", ("tokens",), tmp_path, None, tmp_path, SHARD)
    assert len(rows) == 8


def test_nothing_half_written_stays(small_stages: Small) -> None:
    for directory in (small_stages.features, small_stages.latents):
        assert not [path for path in directory.rglob("*") if "tmp" in path.name]


def test_features_that_overflow_half_precision_are_refused(
    small_stages: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = TeacherFeatures(small_stages.space)
    monkeypatch.setattr(teacher, "compute", lambda x: {"pooled": torch.full((len(x), 2), 1e6)})
    with pytest.raises(ValueError, match="pooled"):
        teacher(read_shard(small_stages.world, "val", (0, 6)))
