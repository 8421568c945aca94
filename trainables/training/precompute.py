"""Pre-computing inputs of training, teacher features and codec latents, a shard at a time.

    world/images_{split}, rows [a, b)         --+-- teacher --> image_id, pooled, tokens   (fp16)
                                                +-- codec ----> image_id, y_hat            (fp16)

A shard is one Parquet file, written atomically: a file that exists is complete. Unreadable images
have no row; the file's metadata lists them.

Shapes: `B` images, `M` latent channels, `L` patches, `D` width, `P` joint width, `C` classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.space import Space
from trainables.datasets.images.decode import UnreadableImageError
from trainables.datasets.images.files import replacing
from trainables.datasets.images.image_store import ShardReport, read_images
from trainables.datasets.tensors import decode_image, tensor_column, to_tensor
from trainables.encoders.load import load_tower
from trainables.encoders.partial_encoder import Teacher

BATCH_SIZE = 32
_REPORT = b"report"


class TeacherFeatures:
    """Writes shards of the teacher's features, pooled and tokens, as far as the loss uses them.

    Tokens are the bulk: half a megabyte an image for CLIP ViT-L/14.
    """

    def __init__(self, space: Space, device: torch.device | str = "cpu") -> None:
        surrogate = space.surrogate
        self._device = torch.device(device)
        self._wanted = {"pooled": surrogate.pooled > 0, "tokens": surrogate.tokens > 0}
        self._teacher = Teacher(
            load_tower(space.teacher.model), surrogate.token_layer, surrogate.double_norm
        ).to(self._device)

    def __call__(self, world: Path, split: str, rows: tuple[int, int], out: Path) -> ShardReport:
        """Write the features of rows [start, stop) of a split to the file `out`.

        Returns:
            The number of images that were read, and the unreadable ones.
        """
        return _write_shard(world, split, rows, out, self._compute)

    @torch.no_grad()
    def _compute(self, images: Tensor) -> dict[str, Tensor]:
        features = self._teacher(images.to(self._device), **self._wanted)
        values = {"pooled": features.pooled, "tokens": features.tokens}
        return {name: value for name, value in values.items() if value is not None}


class CodecLatents:
    """Writes shards of a base codec's latents, exactly those that its decoder gets."""

    def __init__(
        self, codec: CodecSpec, codec_dir: Path, device: torch.device | str = "cpu"
    ) -> None:
        # Imported late: the teacher's features need no CompressAI.
        from trainables.codecs import load_codec

        self._device = torch.device(device)
        self._codec = load_codec(codec, codec_dir).to(self._device)

    def __call__(self, world: Path, split: str, rows: tuple[int, int], out: Path) -> ShardReport:
        """Write the latents of rows [start, stop) of a split to the file `out`."""
        return _write_shard(world, split, rows, out, self._compute)

    def _compute(self, images: Tensor) -> dict[str, Tensor]:
        return {"y_hat": self._codec.latents(images.to(self._device))}


def _write_shard(
    world: Path,
    split: str,
    rows: tuple[int, int],
    out: Path,
    compute: Callable[[Tensor], Mapping[str, Tensor]],
) -> ShardReport:
    table = read_images(world, split, rows, ["image_id", "png"])
    ids: list[str] = []
    images: list[NDArray[np.uint8]] = []
    unreadable: list[tuple[str, str]] = []
    columns: dict[str, list[NDArray[np.float16]]] = {}

    def flush() -> None:
        for name, value in compute(to_tensor(images)).items():
            columns.setdefault(name, []).append(_half(name, value))
        images.clear()

    for record in table.to_pylist():
        try:
            image = decode_image(record["png"])
        except UnreadableImageError as error:
            unreadable.append((record["image_id"], str(error)))
            continue
        ids.append(record["image_id"])
        images.append(image)
        if len(images) == BATCH_SIZE:
            flush()
    if images:
        flush()
    report = ShardReport(len(ids), unreadable)
    field_arrays = [tensor_column(name, np.concatenate(parts)) for name, parts in columns.items()]
    schema = pa.schema(
        [pa.field("image_id", pa.string(), nullable=False), *(field for field, _ in field_arrays)],
        metadata={_REPORT: json.dumps({"images": len(ids), "unreadable": unreadable})},
    )
    arrays = [pa.array(ids, pa.string()), *(array for _, array in field_arrays)]
    with replacing(out) as temporary:
        # Floats do not compress; plain pages are read seven times as fast as dictionaries.
        pq.write_table(
            pa.Table.from_arrays(arrays, schema=schema),
            temporary,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
        )
    return report


def _half(name: str, value: Tensor) -> NDArray[np.float16]:
    half = value.half()
    if not bool(torch.isfinite(half).all()):
        raise ValueError(f"{name} does not fit into half precision")
    array: NDArray[np.float16] = half.cpu().numpy()
    return array
