"""A data set becomes a world: its images resized, cropped and kept without loss, and its classes.

    index rows [a, b) -> bytes, label -> decode_png -> PNG --> images_{split}/part-*.parquet
    all parts --> classes.json and, of test images, tasks_test.parquet

Each image is decoded from its original once; training and every evaluation read what is kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from search_spaces.specs.data import DataSpec
from trainables.datasets.images import tables
from trainables.datasets.images.decode import Decode, UnreadableImageError, decode_png
from trainables.datasets.images.files import replacing, write_json
from trainables.datasets.images.image_store import ShardReport, class_names, image_files, read_rows
from trainables.datasets.images.samples import ImageTask
from trainables.datasets.images.schemas import IMAGES_SCHEMA, TASKS_SCHEMA
from trainables.datasets.images.source import Source, class_of, open_files

PART_ROWS = 512
"""Images per part, before unreadable ones are left out."""
TEMPLATES = ("a photo of a {}.",)
_GROUP_ROWS = 64
_READ_TOGETHER = 64


@dataclass(frozen=True)
class _Original:
    """An image as its data set holds it; `data` None with the reason where it has no bytes."""

    image_id: str
    data: bytes | None
    reason: str
    key: str | None


def write_index(source: Source, directory: Path) -> None:
    """Write what `ImageShards` needs to know to a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for split, table in source.index.items():
        pq.write_table(table, directory / f"{split}.parquet", row_group_size=PART_ROWS)
    about = {"origins": dict(source.origins), "classes": dict(source.classes)}
    (directory / "source.json").write_text(json.dumps(about), encoding="utf-8")


class ImageShards:
    """Makes parts of a world from a data set.

    Only below the root that the settings name: others may write where the index lies.

    Args:
        data: the data set.
        index: a directory written by `write_index`.
        decode: `decode_png`, or one that survives a crash of the decoder.
    """

    def __init__(self, data: DataSpec, index: Path, decode: Decode = decode_png) -> None:
        self._data, self._index, self._decode = data, index, decode
        about = json.loads((index / "source.json").read_text(encoding="utf-8"))
        self._origins: dict[str, str] = about["origins"]
        self._numbers = {key: number for number, key in enumerate(about["classes"])}
        self._fs, self._root = open_files(data)

    def __call__(self, split: str, rows: tuple[int, int]) -> pa.Table:
        """The part of the rows [start, stop) of a split's index, with its report.

        Raises:
            OSError: the data set's storage cannot be read.
            ValueError: the index names a file that is not below the data set's root.
        """
        columns = ["image_id", "file", "chunk", "row"]
        index = read_rows(self._index / f"{split}.parquet", rows, columns).to_pylist()
        for file in {row["file"] for row in index}:
            if ".." in file.split("/"):
                raise ValueError(f"{self._index}: {file!r} is not below {self._root}")
        kept: list[dict[str, Any]] = []
        unreadable: list[tuple[str, str]] = []
        treated: Counter[str] = Counter()
        size = self._data.size
        for original in self._read(index, split):
            try:
                if original.data is None:
                    raise UnreadableImageError(original.reason)
                png, done = self._decode(original.data, size)
            except UnreadableImageError as error:
                unreadable.append((original.image_id, str(error)))
                continue
            treated.update(done)
            number = None if original.key is None else self._numbers.get(original.key)
            classes = [] if number is None else [number]
            row = (original.image_id, png, size, size, classes)
            kept.append(dict(zip(IMAGES_SCHEMA.names, row, strict=True)))
        report = ShardReport(len(kept), unreadable, dict(sorted(treated.items())))
        return report.attached(pa.Table.from_pylist(kept, IMAGES_SCHEMA))

    def _read(self, index: list[dict[str, Any]], split: str) -> Iterator[_Original]:
        if self._data.kind == "folder":
            yield from self._read_files(index, self._origins[split])
        else:
            yield from self._read_tables(index)

    def _read_files(self, index: list[dict[str, Any]], origin: str) -> Iterator[_Original]:
        for start in range(0, len(index), _READ_TOGETHER):
            rows = index[start : start + _READ_TOGETHER]
            paths = [f"{self._root}/{row['file']}" for row in rows]
            # By `cat`, a name with `[`, `*` or `?` would be a pattern.
            contents = self._fs.cat_ranges(paths, None, None, on_error="return")
            for row, value in zip(rows, contents, strict=True):
                key = class_of(row["file"], origin)
                if isinstance(value, PermissionError):
                    yield _Original(row["image_id"], None, "no permission to read it", key)
                elif isinstance(value, Exception):
                    # It was there when it was listed: the storage is at fault, not the image.
                    raise value
                else:
                    yield _Original(row["image_id"], value, "", key)

    def _read_tables(self, index: list[dict[str, Any]]) -> Iterator[_Original]:
        image, label = self._data.image_column, self._data.label_column
        columns = [name for name in (image, label) if name is not None]
        for (file, chunk), rows in groupby(index, key=lambda row: (row["file"], row["chunk"])):
            table = tables.read_chunk(self._fs, f"{self._root}/{file}", chunk, columns)
            images = tables.image_bytes(table.column(image))
            keys = None if label is None else tables.label_keys(table.column(label))
            for row in rows:
                row_number = row["row"]
                data = images[row_number].as_py()
                key = None if keys is None else keys[row_number]
                yield _Original(row["image_id"], data, "no bytes in its row", key)


def write_part(table: pa.Table, out: Path) -> None:
    """Write a part of a world to a file, whole."""
    with replacing(out) as temporary:
        pq.write_table(table, temporary, row_group_size=_GROUP_ROWS, compression="none")


def write_classes(world: Path, classes: Mapping[str, str]) -> None:
    """Write the names of a world's classes.

    Args:
        classes: key -> name of every class.
    """
    write_json(world / "classes.json", {"names": list(classes.values()), "templates": TEMPLATES})


def write_samples_of_stored(images: Path, directory: Path, tasks: Mapping[str, ImageTask]) -> None:
    """Write further tasks' samples of a world's test images: `tasks_test.parquet`.

    Args:
        images: directory of the world.
        tasks: by name.
    """
    files = image_files(images, "test")
    parts = (pq.read_table(file, columns=["image_id", "classes"]) for file in files)
    write_image_samples(directory, parts, class_names(images), tasks)


def write_image_samples(
    directory: Path,
    test_images: Iterable[pa.Table],
    names: Sequence[str],
    tasks: Mapping[str, ImageTask],
) -> None:
    """Write tasks' samples of each test image with one class: `tasks_test.parquet`.

    Args:
        test_images: the parts of the split `test`, in order: `image_id` and `classes`.
        names: of all classes.
        tasks: by name.
    """
    rows = []
    for part in test_images:
        for image in part.to_pylist():
            if len(image["classes"]) != 1:
                continue
            for name, task in tasks.items():
                sample = task.image_sample(image["classes"][0], names)
                image_id, reference = image["image_id"], json.dumps(dict(sample.reference))
                row = (f"{image_id}-{name}", name, [image_id], sample.prompt, reference)
                rows.append(dict(zip(TASKS_SCHEMA.names, row, strict=True)))
    pq.write_table(pa.Table.from_pylist(rows, TASKS_SCHEMA), directory / "tasks_test.parquet")
