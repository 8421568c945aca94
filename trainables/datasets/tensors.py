"""Images and arrays as tensors, and arrays as Parquet columns."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trainables.datasets.images.decode import DAMAGED, UnreadableImageError

Pixels = NDArray[np.uint8]
"""An image, (H, W, 3)."""


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """An encoded image as (H, W, 3).

    Raises:
        UnreadableImageError: the bytes are no image that Pillow reads, or a damaged one.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except DAMAGED as error:
        raise UnreadableImageError(str(error)) from error


def to_tensor(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """(H, W, 3) bytes each, all of one size -> (B, 3, H, W) in [0, 1]."""
    stacked = torch.from_numpy(np.stack(images))
    return stacked.permute(0, 3, 1, 2).float().div_(255.0)


def to_bytes(images: Tensor) -> list[Pixels]:
    """(B, 3, H, W) in [0, 1] -> (H, W, 3) bytes each, rounded; the inverse of `to_tensor`."""
    levels = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [np.ascontiguousarray(image) for image in levels]


def psnr_of(x_hat: Tensor, x: Tensor) -> Tensor:
    """PSNR of images (B, 3, H, W) in [0, 1], (B,) in dB; at most 100, that of equal images."""
    return -10 * (x_hat - x).square().flatten(1).mean(1).clamp(min=1e-10).log10()


def tensor_column(name: str, values: NDArray[np.float16]) -> tuple[pa.Field, pa.Array]:
    """A Parquet column of arrays of one shape, (rows, ...): the bytes of each, little endian.

    Of a list Parquet keeps two levels beside each number; without them it is read ten times as
    fast.
    """
    data = np.ascontiguousarray(values, "<f2")
    kind = pa.binary(data.itemsize * int(np.prod(data.shape[1:])))
    array = pa.FixedSizeBinaryArray.from_buffers(kind, len(data), [None, pa.py_buffer(data)])
    shape = json.dumps(list(data.shape[1:]))
    return pa.field(name, kind, nullable=False, metadata={"shape": shape}), array


def read_tensor(table: pa.Table, name: str) -> NDArray[np.float16]:
    """A column written by `tensor_column`: (rows, ...)."""
    shape = json.loads(table.schema.field(name).metadata[b"shape"])
    parts: list[NDArray[np.float16]] = [np.empty((0, *shape), "<f2")]
    for chunk in table.column(name).chunks:
        whole = np.frombuffer(chunk.buffers()[1], "<f2").reshape(-1, *shape)
        parts.append(whole[chunk.offset : chunk.offset + len(chunk)])
    return parts[-1] if len(parts) <= 2 else np.concatenate(parts)
