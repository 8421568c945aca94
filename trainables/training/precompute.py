"""Pre-computing inputs of training, teacher features and codec latents, a shard at a time.

    world/images_{split}, rows [a, b) --read_shard--> image_id, pixels
        --+-- TeacherFeatures --> image_id, pooled, tokens   (fp16)
          +-- CodecLatents -----> image_id, y_hat            (fp16)
        --write_shard--> a Parquet file

Each table carries the shard's report in its metadata. Unreadable images have no row; the report
lists them.

Shapes: `B` images, `M` latent channels, `L` patches, `D` width, `P` joint width, `C` classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.space import Space
from trainables.arithmetic.precision import exact
from trainables.datasets.arrays import read_tensor, table_of
from trainables.datasets.images.image_store import ShardReport
from trainables.datasets.tensors import to_tensor
from trainables.encoders.load import load_tower
from trainables.encoders.partial_encoder import Teacher

BATCH_SIZE = 32


class ShardModel:
    """Computes what is stored of a shard's images, `BATCH_SIZE` at a time."""

    def __call__(self, images: pa.Table) -> pa.Table:
        """A shard's images as `read_shard` gives them -> its table of features or latents.

        Raises:
            ValueError: a value does not fit into half precision.
        """
        pixels = read_tensor(images, "pixels")
        parts: dict[str, list[NDArray[np.float16]]] = {}
        for start in range(0, len(pixels), BATCH_SIZE):
            batch = to_tensor(list(pixels[start : start + BATCH_SIZE]))
            for name, value in self.compute(batch).items():
                parts.setdefault(name, []).append(_half(name, value))
        columns = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        ids = images.column("image_id").to_pylist()
        return ShardReport.of(images.schema.metadata).attached(table_of(ids, columns))

    def compute(self, images: Tensor) -> Mapping[str, Tensor]:
        """Images (B, 3, H, W) in [0, 1] -> what is stored, by column, (B, ...)."""
        raise NotImplementedError


class TeacherFeatures(ShardModel):
    """The teacher's features, pooled and tokens, as far as the loss uses them.

    Tokens are the bulk: half a megabyte an image for CLIP ViT-L/14.
    """

    def __init__(self, space: Space, device: torch.device | str = "cpu") -> None:
        surrogate = space.surrogate
        self._device = torch.device(device)
        self._wanted = {"pooled": surrogate.pooled > 0, "tokens": surrogate.tokens > 0}
        self._teacher = Teacher(
            load_tower(space.teacher.model), surrogate.token_layer, surrogate.double_norm
        ).to(self._device)

    @torch.no_grad()
    def compute(self, images: Tensor) -> Mapping[str, Tensor]:
        """`pooled` (B, P) and `tokens` (B, 1 + L, D)."""
        with exact(self._device):
            features = self._teacher(images.to(self._device), **self._wanted)
        values = {"pooled": features.pooled, "tokens": features.tokens}
        return {name: value for name, value in values.items() if value is not None}


class CodecLatents(ShardModel):
    """A base codec's latents: those that its decoder gets, rounded to half precision."""

    def __init__(
        self, codec: CodecSpec, codec_dir: Path, device: torch.device | str = "cpu"
    ) -> None:
        # Imported late: the teacher's features need no CompressAI.
        from trainables.codecs import load_codec

        self._device = torch.device(device)
        self._codec = load_codec(codec, codec_dir).to(self._device)

    def compute(self, images: Tensor) -> Mapping[str, Tensor]:
        """`y_hat` (B, M, h, w)."""
        return {"y_hat": self._codec.latents(images.to(self._device))}


def _half(name: str, value: Tensor) -> NDArray[np.float16]:
    half = value.half()
    if not bool(torch.isfinite(half).all()):
        raise ValueError(f"{name} does not fit into half precision")
    array: NDArray[np.float16] = half.cpu().numpy()
    return array
