"""Images and arrays as Parquet columns; without torch, so that a process starts at once."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from trainables.datasets.images.decode import DAMAGED, UnreadableImageError

Pixels = NDArray[np.uint8]
"""An image, (H, W, 3)."""


def decode_image(data: bytes) -> Pixels:
    """An encoded image as (H, W, 3).

    Raises:
        UnreadableImageError: the bytes are no image that Pillow reads, or a damaged one.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except DAMAGED as error:
        raise UnreadableImageError(str(error)) from error


def tensor_column(name: str, values: NDArray[Any]) -> tuple[pa.Field, pa.Array]:
    """A column of arrays of one shape, (rows, ...): the bytes of each, little endian.

    Of a list Parquet keeps two levels beside each number; without them it is read ten times as
    fast.
    """
    data = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    kind = pa.binary(data.itemsize * int(np.prod(data.shape[1:])))
    array = pa.FixedSizeBinaryArray.from_buffers(kind, len(data), [None, pa.py_buffer(data)])
    metadata = {"shape": json.dumps(list(data.shape[1:])), "dtype": data.dtype.str}
    return pa.field(name, kind, nullable=False, metadata=metadata), array


def read_tensor(table: pa.Table, name: str) -> NDArray[Any]:
    """A column written by `tensor_column`: (rows, ...)."""
    metadata = table.schema.field(name).metadata
    shape = json.loads(metadata[b"shape"])
    dtype = np.dtype(metadata.get(b"dtype", b"<f2").decode())
    parts: list[NDArray[Any]] = [np.empty((0, *shape), dtype)]
    for chunk in filter(len, table.column(name).chunks):
        whole = np.frombuffer(chunk.buffers()[1], dtype).reshape(-1, *shape)
        parts.append(whole[chunk.offset : chunk.offset + len(chunk)])
    return parts[-1] if len(parts) <= 2 else np.concatenate(parts)


def table_of(ids: Sequence[str], columns: dict[str, NDArray[Any]]) -> pa.Table:
    """A table of images: `image_id` and a column per array (rows, ...)."""
    field_arrays = [tensor_column(name, values) for name, values in columns.items()]
    fields = [pa.field("image_id", pa.string(), nullable=False), *(f for f, _ in field_arrays)]
    return pa.Table.from_arrays(
        [pa.array(ids, pa.string()), *(array for _, array in field_arrays)],
        schema=pa.schema(fields),
    )
