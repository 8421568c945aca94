"""A tiny world, teacher and space for the tests of training; every number in it is random."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    CLIPConfig,
    CLIPModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)

from search_spaces import OperatingPoint, Space
from search_spaces.codecs.hyperprior import HyperpriorCodec

WIDTH, PATCHES, BLOCKS, JOINT = 16, 16, 4, 12
SIDE = 64
NAMES = ["red", "green", "blue"]
TEMPLATES = ["{}", "a photo of {}"]
SHARD = 8
Model = TypeVar("Model", bound=PreTrainedModel)


VISION = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
TEXT = {
    "vocab_size": 10,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 3,
    "pad_token_id": 0,
}


def make_clip(seed: int = 0, **vision: Any) -> CLIPModel:
    torch.manual_seed(seed)
    config = CLIPConfig(
        projection_dim=JOINT,
        vision_config={**VISION, "initializer_factor": 3.0, **vision},
        text_config=TEXT,
    )
    return _shaken(CLIPModel(config))


def make_siglip(seed: int = 0, **vision: Any) -> SiglipModel:
    torch.manual_seed(seed)
    config = SiglipConfig(vision_config={**VISION, **vision}, text_config=TEXT)
    return _shaken(SiglipModel(config))


def _shaken(model: Model) -> Model:
    """No LayerNorm and no bias as it is at the start, so that leaving one out shows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def make_tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<bos>", "<unk>", "<eos>", "a", "photo", "of", *NAMES]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        unk_token="<unk>",
        eos_token="<eos>",
    )


def save_teacher(directory: Path) -> Path:
    make_clip().save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_images(world: Path, split: str, count: int, unreadable: tuple[int, ...] = ()) -> None:
    rng = np.random.default_rng(len(split))
    coarse = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    images = coarse.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    data = [b"no image" if i in unreadable else png(image) for i, image in enumerate(images)]
    classes = [sorted({int(image[0, 0, 0]) % 3, int(image[0, 0, 1]) % 3}) for image in images]
    table = pa.table(
        {
            "image_id": [f"{split}-{i:03d}" for i in range(count)],
            "png": pa.array(data, pa.binary()),
            "width": [SIDE] * count,
            "height": [SIDE] * count,
            "classes": pa.array(classes, pa.list_(pa.int64())),
        }
    )
    world.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, world / f"images_{split}.parquet", row_group_size=5)


def write_world(world: Path, train: int = 20, val: int = 6) -> Path:
    write_images(world, "train", train)
    write_images(world, "val", val)
    (world / "classes.json").write_text(json.dumps({"names": NAMES, "templates": TEMPLATES}))
    return world


def codec_spec(**settings: Any) -> HyperpriorCodec:
    train = {"steps": 6, "batch_size": 4, "lr": 1e-3, "validate_every": 4, "checkpoint_every": 3}
    return HyperpriorCodec(
        arch="mbt2018-mean",
        N=8,
        M=12,
        lambdas=(0.01,),
        train=train,
        **settings,  # type: ignore[arg-type]
    )


def make_space(teacher: Path, **settings: Any) -> Space:
    short = {"steps": 6, "batch_size": 4, "lr": 1e-3, "validate_every": 4, "checkpoint_every": 3}
    data: dict[str, Any] = {
        "name": "small",
        "codecs": [codec_spec().model_dump()],
        "data": {"size": SIDE, "train": 20, "val": 6, "shard_size": SHARD},
        "teacher": {"model": str(teacher), "block": 2},
        "mllms": ["none"],
        "neck": {"mlp_ratio": 4.0},
        "surrogate": {"pooled": 1.0, "tokens": 0.5, "templates": "data"},
        "d1": short,
        "d2": short,
        "d3": short,
        "post_processing": {**short, "channels": 4, "levels": 2},
    }
    return Space.model_validate({**data, **settings})


def point(space: Space, scenario: str, seed: int = 0) -> OperatingPoint:
    return OperatingPoint(space.codecs[0], space.codecs[0].lambdas[0], scenario, seed)
