"""Rows in Parquet: the images of a world, in one file per split or in parts, and their reports.

world/images_train.parquet                     scenes
world/images_train/part-00000.parquet, ...     data sets
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

_REPORT: Final = b"report"
_PART: Final = re.compile(r"part-([0-9]{5}|[1-9][0-9]{5,})\.parquet")


@dataclass(frozen=True)
class ShardReport:
    """What became of a shard's images."""

    images: int
    """Images that were read and have a row."""
    unreadable: list[tuple[str, str]]
    """(image_id, reason) of those that were not."""
    treated: dict[str, int] = field(default_factory=dict)
    """How many of the images needed what (images/decode.py)."""

    def attached(self, table: pa.Table) -> pa.Table:
        """The shard's table with this report in its metadata."""
        metadata = {**(table.schema.metadata or {}), _REPORT: json.dumps(asdict(self)).encode()}
        return table.replace_schema_metadata(metadata)

    @property
    def rows(self) -> int:
        """Images that it was made from."""
        return self.images + len(self.unreadable)

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes]) -> Self:
        """The report that the metadata of a shard's table, or of its file, carries."""
        content = json.loads(metadata[_REPORT])
        unreadable = [(image_id, reason) for image_id, reason in content["unreadable"]]
        return cls(content["images"], unreadable, content["treated"])


def part_files(directory: Path) -> list[Path]:
    """The Parquet files of a split in parts, in order; no copies of them beside."""
    parts = (path for path in directory.glob("part-*.parquet") if _PART.fullmatch(path.name))
    return sorted(parts, key=lambda path: (len(path.name), path.name))


def image_files(world: Path, split: str) -> list[Path]:
    """The Parquet files of a split's images, in order."""
    single = world / f"images_{split}.parquet"
    return [single] if single.exists() else part_files(world / f"images_{split}")


def class_names(world: Path) -> list[str]:
    """The names of the world's classes, in the order of their indices."""
    names: list[str] = json.loads((world / "classes.json").read_text(encoding="utf-8"))["names"]
    return names


def count_images(world: Path, split: str) -> int:
    """Images of a split."""
    return sum(_rows(file) for file in image_files(world, split))


def image_column(world: Path, split: str, name: str) -> pa.ChunkedArray:
    """A column of all images of a split."""
    files = image_files(world, split)
    return pa.concat_tables([pq.read_table(file, columns=[name]) for file in files]).column(name)


def read_images(world: Path, split: str, rows: tuple[int, int], columns: Sequence[str]) -> pa.Table:
    """Rows [start, stop) of a split's images."""
    start, stop = rows
    tables: list[pa.Table] = []
    first = 0
    for file in image_files(world, split):
        size = _rows(file)
        file_rows = max(start - first, 0), min(stop - first, size)
        if file_rows[0] < file_rows[1]:
            tables.append(read_rows(file, file_rows, columns))
        first += size
    return pa.concat_tables(tables)


def read_rows(file: Path, rows: tuple[int, int], columns: Sequence[str]) -> pa.Table:
    """Rows [start, stop) of a Parquet file; only the row groups that hold them are read."""
    start, stop = rows
    with pq.ParquetFile(file) as parquet:
        groups: list[int] = []
        first = seen = 0
        for group in range(parquet.num_row_groups):
            size = parquet.metadata.row_group(group).num_rows
            if seen < stop and seen + size > start:
                first = seen if not groups else first
                groups.append(group)
            seen += size
        table = parquet.read_row_groups(groups, columns=list(columns), use_threads=False)
    return table.slice(start - first, stop - start)


def _rows(file: Path) -> int:
    # Footers of thousands of parts, asked for with every shard: a part never changes.
    return _part_rows(file) if file.parent.name.startswith("images_") else _footer(file)


def _footer(file: Path) -> int:
    rows: int = pq.read_metadata(file).num_rows
    return rows


@lru_cache(maxsize=100_000)
def _part_rows(file: Path) -> int:
    return _footer(file)
