"""Reading training data: images, latents and teacher features of the same rows, from Parquet.

    world/images_train           rows [0, S) | rows [S, 2S) | ...        image_id, png, classes
    latents/train/part-*.parquet   part 0    |   part 1     | ...        image_id, y_hat
    features/train/part-*.parquet  part 0    |   part 1     | ...        image_id, pooled, tokens
                                       joined on image_id: a row that a part left out is left out

    epoch: shards shuffled -> groups of shards -> rows shuffled inside a group -> batches -> workers

What step s reads is a function of (seed, s) alone, so training resumes exactly, and any number of
workers sees the same global batches, each its slice of them. One group of shards is in memory.

Shapes: `B` images, `M` latent channels, `L` patches, `D` width, `P` joint width, `C` classes.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trainables.datasets.images.decode import DAMAGED, UnreadableImageError
from trainables.datasets.images.image_store import image_column, read_images

log = logging.getLogger(__name__)

WORLD_COLUMNS = ("image", "classes")
LATENT_COLUMNS = ("y_hat",)
FEATURE_COLUMNS = ("pooled", "tokens")
BUFFER_ROWS = 4096
"""Rows that are shuffled among each other; about as many are held in memory."""


@dataclass(frozen=True)
class Batch:
    """Rows of one step; None where a column was not asked for.

    What is stored in half precision is as it is stored until `to` makes float32 of it, on a GPU
    there: on a CPU that takes ten times as long as everything else that reading does.
    """

    ids: tuple[str, ...]
    image: Tensor | None = None
    """(B, 3, H, W) in [0, 1]."""
    classes: Tensor | None = None
    """(B, C), uniform over the classes present, rows add up to 1 (0 where there are none)."""
    y_hat: Tensor | None = None
    """(B, M, h, w)."""
    pooled: Tensor | None = None
    """(B, P), the teacher's."""
    tokens: Tensor | None = None
    """(B, 1 + L, D), the teacher's."""

    def __len__(self) -> int:
        return len(self.ids)

    def split(self, parts: int) -> list[Batch]:
        """At most `parts` slices of nearly equal size, none empty."""
        ends = [len(self) * part // parts for part in range(parts + 1)]
        slices = [slice(start, stop) for start, stop in pairwise(ends) if stop > start]
        names = [f.name for f in fields(self) if isinstance(getattr(self, f.name), Tensor)]
        return [
            Batch(self.ids[rows], **{name: getattr(self, name)[rows] for name in names})
            for rows in slices
        ]

    def to(self, device: torch.device) -> Batch:
        """The same rows on a device, in float32."""
        moved = {
            f.name: value.to(device).float()
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return Batch(self.ids, **moved)


def part_file(directory: Path, split: str, shard: int) -> Path:
    """The Parquet file of one shard's features or latents."""
    return directory / split / f"part-{shard:05d}.parquet"


def class_names(world: Path) -> list[str]:
    """The names of the world's classes, in the order of their indices."""
    names: list[str] = json.loads((world / "classes.json").read_text(encoding="utf-8"))["names"]
    return names


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


class Rows:
    """The rows of one split that are there in every source, shard by shard.

    Args:
        columns: what batches hold: of `image`, `classes`, `y_hat`, `pooled`, `tokens`.
        world, latents, features: directories; those that no column comes from may be None.
        shard_size: rows of the world per shard.

    Raises:
        ValueError: a source does not belong to the world, or holds no row.
    """

    def __init__(
        self,
        split: str,
        columns: Sequence[str],
        world: Path,
        latents: Path | None,
        features: Path | None,
        shard_size: int,
    ) -> None:
        self.split = split
        self.columns = tuple(columns)
        self._world = world
        self._shard_size = shard_size
        wanted = set(columns)
        assert wanted <= {*WORLD_COLUMNS, *LATENT_COLUMNS, *FEATURE_COLUMNS}, columns
        self._parts: dict[Path, list[str]] = {}
        for directory, stored in ((latents, LATENT_COLUMNS), (features, FEATURE_COLUMNS)):
            if names := [name for name in stored if name in wanted]:
                assert directory is not None, f"{names} need a directory to come from"
                self._parts[directory] = names
        self._n_classes = len(class_names(world)) if "classes" in wanted else 0
        world_ids: list[str] = image_column(world, split, "image_id").to_pylist()
        self._ids: list[list[str]] = []
        for shard, start in enumerate(range(0, len(world_ids), shard_size)):
            own_ids = kept = world_ids[start : start + shard_size]
            for directory in self._parts:
                part_ids = self._part_ids(directory, shard, own_ids)
                kept = [image_id for image_id in kept if image_id in part_ids]
            self._ids.append(kept)
        self.sizes = [len(kept) for kept in self._ids]
        if not sum(self.sizes):
            raise ValueError(f"there is no {split} row that all of {self._sources()} hold")
        self._loaded: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return sum(self.sizes)

    def keep_only(self, shards: set[int]) -> None:
        """Forget the shards that are not among these."""
        for shard in [s for s in self._loaded if s not in shards]:
            del self._loaded[shard]

    def batch(self, places: Sequence[tuple[int, int]]) -> Batch:
        """The rows at these places: (shard, row of the shard that is kept) each."""
        data = [(self._load(shard), row) for shard, row in places]
        values: dict[str, Tensor] = {}
        for name in self.columns:
            if name == "image":
                values[name] = to_tensor([self._image(shard, row) for shard, row in places])
            elif name == "classes":
                values[name] = _class_targets([d[name][row] for d, row in data], self._n_classes)
            else:
                values[name] = torch.from_numpy(np.stack([d[name][row] for d, row in data]))
        return Batch(tuple(self._ids[shard][row] for shard, row in places), **values)

    def _sources(self) -> list[str]:
        return [str(self._world), *map(str, self._parts)]

    def _part_ids(self, directory: Path, shard: int, world_ids: Sequence[str]) -> set[str]:
        file = part_file(directory, self.split, shard)
        ids = pq.read_table(file, columns=["image_id"]).column("image_id").to_pylist()
        part_ids = set(ids)
        if ids != [image_id for image_id in world_ids if image_id in part_ids]:
            raise ValueError(f"{file} holds other images, or another order, than {self._world}")
        return part_ids

    def _load(self, shard: int) -> dict[str, Any]:
        if shard in self._loaded:
            return self._loaded[shard]
        data: dict[str, Any] = {}
        world_columns = {"image": "png", "classes": "classes"}
        names = [world_columns[name] for name in self.columns if name in world_columns]
        if names:
            start = shard * self._shard_size
            stop = start + self._shard_size
            wanted = ["image_id", *names]
            table = read_images(self._world, self.split, (start, stop), wanted)
            table = self._kept(table, shard)
            if "png" in names:
                data["image"] = table.column("png").combine_chunks()
            if "classes" in names:
                data["classes"] = table.column("classes").to_pylist()
        for directory, names in self._parts.items():
            file = part_file(directory, self.split, shard)
            table = pq.read_table(file, columns=["image_id", *names], use_threads=False)
            table = self._kept(table, shard)
            data |= {name: read_tensor(table, name) for name in names}
        self._loaded[shard] = data
        return data

    def _kept(self, table: pa.Table, shard: int) -> pa.Table:
        """The kept rows of a shard's table, in their order."""
        ids = table.column("image_id").to_pylist()
        if ids == self._ids[shard]:
            return table
        place = {image_id: row for row, image_id in enumerate(ids)}
        return table.take([place[image_id] for image_id in self._ids[shard]])

    def _image(self, shard: int, row: int) -> NDArray[np.uint8]:
        """The image of a row; where it is unreadable, the next readable one of its shard.

        Rows with features are readable. Without features (base codecs) a substitute keeps the
        batches' sizes and the other rows as they are.
        """
        images = self._load(shard)["image"]
        for offset in range(len(images)):
            place = (row + offset) % len(images)
            try:
                return decode_image(images[place].as_py())
            except UnreadableImageError as error:
                if self._parts:
                    raise
                log.warning("image %s is unreadable: %s", self._ids[shard][place], error)
        raise UnreadableImageError(f"no image of shard {shard} of {self.split} is readable")


class Batches:
    """Shuffled training batches; step s always has the same rows.

    Args:
        rows: what is read.
        batch_size: images per step over all workers.
        seed: of the order.
        rank, world_size: which slice of each batch is read, from its row `first` on.
        buffer_rows: about how many rows are shuffled among each other.

    Raises:
        ValueError: there are more workers than images per batch.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        buffer_rows: int = BUFFER_ROWS,
    ) -> None:
        if batch_size < world_size:
            raise ValueError(f"batch_size {batch_size} is less than the {world_size} workers")
        self.rows = rows
        self.batch_size = batch_size
        self._seed = seed
        self._slice = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self.first = self._slice.start
        largest = max(rows.sizes)
        self._group_shards = max(1, buffer_rows // largest)
        self._order: tuple[tuple[int, int], list[tuple[int, int]]] | None = None

    def read(self, step: int) -> Batch:
        """This worker's slice of the batch of a step (0 ..)."""
        n = len(self.rows)
        first = step * self.batch_size
        parts: list[Batch] = []
        positions = range(first, first + self.batch_size)[self._slice]
        at = positions.start
        while at < positions.stop:
            epoch, offset = divmod(at, n)
            group, start, size = self._group_at(epoch, offset)
            stop = min(positions.stop - at, start + size - offset)
            order = self._group_order(epoch, group)
            parts.append(self.rows.batch(order[offset - start : offset - start + stop]))
            at += stop
        return parts[0] if len(parts) == 1 else _concatenate(parts)

    def _shards(self, epoch: int) -> list[list[int]]:
        """The epoch's groups of shards."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self.rows.sizes))
        size = self._group_shards
        return [order[i : i + size].tolist() for i in range(0, len(order), size)]

    def _group_at(self, epoch: int, offset: int) -> tuple[int, int, int]:
        """The group that holds a row of the epoch's order: its number, first row and size."""
        start = 0
        for group, shards in enumerate(self._shards(epoch)):
            size = sum(self.rows.sizes[shard] for shard in shards)
            if offset < start + size:
                return group, start, size
            start += size
        raise AssertionError(f"row {offset} is beyond the epoch")

    def _group_order(self, epoch: int, group: int) -> list[tuple[int, int]]:
        """The shuffled places of one group; brings the group into memory and drops others."""
        if self._order is None or self._order[0] != (epoch, group):
            shards = self._shards(epoch)[group]
            self.rows.keep_only(set(shards))
            places = [(shard, row) for shard in shards for row in range(self.rows.sizes[shard])]
            shuffled = np.random.default_rng((self._seed, epoch, group + 1)).permutation(
                len(places)
            )
            self._order = (epoch, group), [places[i] for i in shuffled]
        return self._order[1]


class InTurn:
    """Batches of one or several sources: step s reads source s mod n.

    Args:
        sources: alike but for what they read.
    """

    def __init__(self, sources: Sequence[Batches]) -> None:
        self._sources = sources
        self.first = sources[0].first

    def read(self, step: int) -> Batch:
        """This worker's slice of the batch of a step (0 ..)."""
        turn, place = divmod(step, len(self._sources))
        return self._sources[place].read(turn)


def in_order(rows: Rows, batch_size: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
    """Every row once, in order, for validation; the workers take batches in turn."""
    places = [(shard, row) for shard, size in enumerate(rows.sizes) for row in range(size)]
    for number, start in enumerate(range(0, len(places), batch_size)):
        if number % world_size == rank:
            yield rows.batch(places[start : start + batch_size])


def _class_targets(present: Sequence[Sequence[int]], n_classes: int) -> Tensor:
    target = torch.zeros(len(present), n_classes)
    for row, classes in zip(target, present, strict=True):
        for index in set(classes):
            row[index] = 1.0 / len(set(classes))
    return target


def _concatenate(batches: Sequence[Batch]) -> Batch:
    values = {
        f.name: torch.cat([getattr(batch, f.name) for batch in batches])
        for f in fields(Batch)
        if isinstance(getattr(batches[0], f.name), Tensor)
    }
    return Batch(tuple(i for batch in batches for i in batch.ids), **values)
