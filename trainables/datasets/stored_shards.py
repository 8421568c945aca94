"""Shards of training data on disk: the rows that each holds, and reading one.

    footers of all files --> rows per shard --> a shard is read when it is needed, its ids checked

A shard is a range of the world's rows, whatever the files are that hold them. Only the footers are
read before the training begins, many at once: a data set has thousands of files. Where a file has
fewer rows than the world, the ids of its shards are read, too.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.datasets.arrays import Pixels, read_tensor
from trainables.datasets.images.image_store import (
    ShardReport,
    image_files,
    part_files,
    read_rows,
)

SHARD_ROWS: Final = 512
"""Rows of the world that training reads at once. The order of training depends on it."""
FOOTER_THREADS: Final = 16
"""Files that are opened at once: of a network's file system, opening is all waiting."""
_STORED_NAMES: Final = {"image": "png", "classes": "classes"}
"""Column of a batch -> column of the world's files."""


class StoredPart:
    """Features or latents of a split, in Parquet files that each cover rows of the world.

    Args:
        directory: of the split.
        columns: that are read.

    Attributes:
        covered: number of the world's rows that the files cover together.
    """

    def __init__(self, directory: Path, columns: Sequence[str]) -> None:
        self.columns = columns
        self._files = part_files(directory)
        footers = _footers(self._files)
        sizes = [ShardReport.of(footer.metadata).rows for footer in footers]
        self._starts = [0, *accumulate(sizes)]
        self._lacks_rows = [f.num_rows != n for f, n in zip(footers, sizes, strict=True)]
        self.covered: int = self._starts[-1]

    def is_complete(self, start: int, stop: int) -> bool:
        """Whether the files have all of the world's rows [start, stop)."""
        return not any(self._lacks_rows[number] for number in self._overlapping(start, stop))

    def read(
        self, start: int, stop: int, world_ids: Sequence[str], columns: Sequence[str]
    ) -> pa.Table:
        """The rows that belong to the world's rows [start, stop): `image_id` and columns.

        Args:
            world_ids: of the world's rows.

        Raises:
            ValueError: the files hold other images, or another order.
        """
        members = set(world_ids)
        tables = []
        for number in self._overlapping(start, stop):
            file, first, end = self._files[number], *self._starts[number : number + 2]
            if start <= first and end <= stop:
                tables.append(_read(file, ["image_id", *columns]))
                continue
            ids = _read(file, ["image_id"]).column("image_id").to_pylist()
            rows = [row for row, image_id in enumerate(ids) if image_id in members]
            if rows:
                span = rows[0], rows[-1] + 1
                tables.append(read_rows(file, span, ["image_id", *columns]))
        names = ["image_id", *columns]
        table = pa.concat_tables(tables or [_read(self._files[0], names).slice(0, 0)])
        part_ids = table.column("image_id").to_pylist()
        present = set(part_ids)
        if part_ids != [image_id for image_id in world_ids if image_id in present]:
            files = [self._files[number] for number in self._overlapping(start, stop)]
            listed = " and ".join(map(str, files))
            raise ValueError(f"{listed}: other images, or another order, than those of the world")
        return table

    def _overlapping(self, start: int, stop: int) -> range:
        """The numbers of the files that cover any of the world's rows [start, stop)."""
        return range(bisect_right(self._starts, start) - 1, bisect_left(self._starts, stop))


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
        self._starts: list[int] = [
            0,
            *accumulate(footer.num_rows for footer in _footers(self._files)),
        ]

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
        ValueError: a part does not belong to the world. Of a part of its size, `read` finds it.
    """

    def __init__(
        self,
        images: StoredImages,
        parts: Sequence[StoredPart],
        columns: Sequence[str],
        shard_size: int,
    ) -> None:
        self._images, self._parts = images, parts
        self._columns = [name for name in _STORED_NAMES if name in columns]
        n = len(images)
        if any(part.covered != n for part in parts):
            counts = ", ".join(str(part.covered) for part in parts)
            raise ValueError(f"{images.world} has {n} rows, and what is made from it {counts}")
        self._spans = [(start, min(start + shard_size, n)) for start in range(0, n, shard_size)]
        self.sizes = [stop - start for start, stop in self._spans]
        incomplete = [
            shard
            for shard, span in enumerate(self._spans)
            if not all(part.is_complete(*span) for part in parts)
        ]
        with ThreadPoolExecutor(FOOTER_THREADS) as threads:
            for shard, ids in zip(incomplete, threads.map(self._read_ids, incomplete), strict=True):
                self.sizes[shard] = len(ids)

    def read(self, shard: int) -> Shard:
        """Read a shard.

        Raises:
            ValueError: a part does not belong to the world.
        """
        span, stored = self._spans[shard], [_STORED_NAMES[name] for name in self._columns]
        world = self._images.read(*span, ["image_id", *stored])
        world_ids: list[str] = world.column("image_id").to_pylist()
        tables = [part.read(*span, world_ids, part.columns) for part in self._parts]
        ids = _common_ids(world_ids, tables)
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
        span = self._spans[shard]
        world_ids = self._images.read(*span, ["image_id"]).column("image_id").to_pylist()
        return _common_ids(world_ids, [part.read(*span, world_ids, ()) for part in self._parts])


def _common_ids(world_ids: list[str], tables: Sequence[pa.Table]) -> list[str]:
    """The ids that all sources hold, in the world's order."""
    common = world_ids
    for table in tables:
        if len(table) != len(world_ids):
            members = set(table.column("image_id").to_pylist())
            common = [image_id for image_id in common if image_id in members]
    return common


def _footers(files: Sequence[Path]) -> list[pq.FileMetaData]:
    with ThreadPoolExecutor(FOOTER_THREADS) as threads:
        return list(threads.map(pq.read_metadata, files))


def _read(file: Path, columns: Sequence[str]) -> pa.Table:
    return pq.read_table(file, columns=list(columns), use_threads=False)


def _select(table: pa.Table, ids: Sequence[str]) -> pa.Table:
    """The rows of these ids, in their order."""
    if len(table) == len(ids):
        return table
    row_of_id = {image_id: row for row, image_id in enumerate(table.column("image_id").to_pylist())}
    return table.take([row_of_id[image_id] for image_id in ids])
