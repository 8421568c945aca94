"""Shards of a world's images on their way to a model, and what it computed on its way to a file.

Without torch: the processes that read and write start at once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainables.datasets.arrays import Pixels, decode_image, table_of
from trainables.datasets.images.decode import UnreadableImageError
from trainables.datasets.images.files import replacing
from trainables.datasets.images.image_store import ShardReport, read_images
from trainables.datasets.stored_shards import SHARD_ROWS


def read_shard(world: Path, split: str, rows: tuple[int, int]) -> pa.Table:
    """Decode the images of rows [start, stop) of a split.

    Returns:
        `image_id` and `pixels`, (H, W, 3) bytes each, of those that are readable; with the
        shard's report.
    """
    ids: list[str] = []
    images: list[Pixels] = []
    unreadable: list[tuple[str, str]] = []
    for record in read_images(world, split, rows, ["image_id", "png"]).to_pylist():
        try:
            images.append(decode_image(record["png"]))
            ids.append(record["image_id"])
        except UnreadableImageError as error:
            unreadable.append((record["image_id"], str(error)))
    pixels = np.stack(images) if images else np.empty((0, 1, 1, 3), np.uint8)
    return ShardReport(len(ids), unreadable).attached(table_of(ids, {"pixels": pixels}))


def write_shard(table: pa.Table, out: Path) -> None:
    """Write a shard's features or latents to a file, whole."""
    with replacing(out) as temporary:
        # Floats do not compress; plain pages are read seven times as fast as dictionaries.
        pq.write_table(
            table,
            temporary,
            row_group_size=SHARD_ROWS,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
        )
