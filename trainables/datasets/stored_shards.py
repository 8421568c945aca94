"""Shards of training data on disk: the rows that each holds, and reading one.

    footers of all files --> rows per shard --> a shard is read when it is needed, its ids checked

Only the footers are read before the training begins, many at once: a data set has thousands of
parts. Where a part has fewer rows than the world, the ids of this shard are read, too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.datasets.arrays import Pixels, read_tensor
from trainables.datasets.images.image_store import image_files, read_rows

FOOTER_THREADS: Final = 16
"""Files that are opened at once: of a network's file system, opening is all waiting."""
_STORED_NAMES: Final = {"image": "png", "classes": "classes"}
"""Column of a batch -> column of the world's files."""


@dataclass(frozen=True)
class Part:
    """Features or latents: a Parquet file per shard, and the columns that are read."""

    files: Sequence[Path]
    columns: Sequence[str]


@dataclass
class Shard:
    """The rows of a shard that all sources hold, in the world's order.

    Attributes:
        ids: of the images.
        columns: `image` as encoded bytes, `classes` as lists of indices, any other as an array
            (rows, ...) in half precision.
        n_bytes: of what is in memory, `pixels` included.
        pixels: decoded images by row.
    """

    ids: list[str]
    columns: dict[str, Any]
    n_bytes: int
    pixels: dict[int, Pixels] = field(default_factory=dict)


class StoredImages:
    """The images of a world's split, in one file or in parts.

    Args:
        world: directory of the world.
    """

    def __init__(self, world: Path, split: str) -> None:
        self.world = world
        self._files = image_files(world, split)
        self._starts = [0, *accumulate(_row_counts(self._files))]

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, start: int, stop: int, columns: Sequence[str]) -> pa.Table:
        """Rows [start, stop); at least one."""
        tables: list[pa.Table] = []
        number = bisect_right(self._starts, start) - 1
        while self._starts[number] < stop:
            first, end = self._starts[number], self._starts[number + 1]
            rows = max(start - first, 0), min(stop, end) - first
            tables.append(read_rows(self._files[number], rows, columns))
            number += 1
            if number == len(self._files):
                break
        return pa.concat_tables(tables)


class StoredShards:
    """The shards of a split, each the rows that all sources hold.

    Args:
        images: of the world.
        parts: further sources.
        columns: those of `image` and `classes` that are read.
        shard_size: rows of the world per shard.

    Attributes:
        sizes: rows of each shard.

    Raises:
        ValueError: a part that lacks rows does not belong to the world. Of other parts `read`
            finds it.
    """

    def __init__(
        self, images: StoredImages, parts: Sequence[Part], columns: Sequence[str], shard_size: int
    ) -> None:
        self._images, self._parts = images, parts
        self._columns = [name for name in _STORED_NAMES if name in columns]
        n = len(images)
        self._spans = [(start, min(start + shard_size, n)) for start in range(0, n, shard_size)]
        self.sizes = [stop - start for start, stop in self._spans]
        counts = zip(*(_row_counts(part.files) for part in parts), strict=True)
        incomplete = [
            shard
            for shard, (size, rows) in enumerate(zip(self.sizes, counts, strict=False))
            if set(rows) != {size}
        ]
        with ThreadPoolExecutor(FOOTER_THREADS) as threads:
            for shard, ids in zip(incomplete, threads.map(self._read_ids, incomplete), strict=True):
                self.sizes[shard] = len(ids)

    def read(self, shard: int) -> Shard:
        """Read a shard.

        Raises:
            ValueError: a part does not belong to the world.
        """
        stored = [_STORED_NAMES[name] for name in self._columns]
        world = self._images.read(*self._spans[shard], ["image_id", *stored])
        tables = [_read_part(part, shard, part.columns) for part in self._parts]
        ids = self._common_ids(shard, world, tables)
        assert len(ids) == self.sizes[shard], "a file has changed since its footer was read"
        columns: dict[str, Any] = {}
        world = _select(world, ids)
        if "image" in self._columns:
            columns["image"] = world.column("png").combine_chunks()
        if "classes" in self._columns:
            columns["classes"] = world.column("classes").to_pylist()
        n_bytes = world.get_total_buffer_size()
        for part, table in zip(self._parts, tables, strict=True):
            kept = _select(table, ids)
            columns |= {name: read_tensor(kept, name) for name in part.columns}
            n_bytes += kept.get_total_buffer_size()
        return Shard(ids, columns, n_bytes)

    def _read_ids(self, shard: int) -> list[str]:
        world = self._images.read(*self._spans[shard], ["image_id"])
        return self._common_ids(shard, world, [_read_part(part, shard) for part in self._parts])

    def _common_ids(self, shard: int, world: pa.Table, tables: Sequence[pa.Table]) -> list[str]:
        """The ids that all sources hold; each must have the world's order."""
        world_ids = world.column("image_id")
        listed: list[str] = world_ids.to_pylist()
        common = listed
        for part, table in zip(self._parts, tables, strict=True):
            part_ids = table.column("image_id")
            if part_ids.equals(world_ids):
                continue
            members = set(part_ids.to_pylist())
            if part_ids.to_pylist() != [image_id for image_id in listed if image_id in members]:
                raise ValueError(
                    f"{part.files[shard]} holds other images, or another order, than "
                    f"{self._images.world}"
                )
            common = [image_id for image_id in common if image_id in members]
        return common


def _row_counts(files: Sequence[Path]) -> list[int]:
    """Rows of Parquet files, from their footers."""
    with ThreadPoolExecutor(FOOTER_THREADS) as threads:
        return list(threads.map(lambda file: int(pq.read_metadata(file).num_rows), files))


def _read_part(part: Part, shard: int, columns: Sequence[str] = ()) -> pa.Table:
    return pq.read_table(part.files[shard], columns=["image_id", *columns], use_threads=False)


def _select(table: pa.Table, ids: Sequence[str]) -> pa.Table:
    """The rows of these ids, in their order."""
    if len(table) == len(ids):
        return table
    row_of_id = {image_id: row for row, image_id in enumerate(table.column("image_id").to_pylist())}
    return table.take([row_of_id[image_id] for image_id in ids])
