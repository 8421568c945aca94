"""Reading training data: images, latents and teacher features of the same rows, from Parquet.

    world/images_train           rows [0, S) | rows [S, 2S) | ...        image_id, png, classes
    latents/train/part-*.parquet  of as many rows, more or fewer         image_id, y_hat
    features/train/part-*.parquet  of as many rows, more or fewer        image_id, pooled, tokens
                                       joined on image_id: a row that a part left out is left out

Shapes: `B` images, `M` latent channels, `L` patches, `D` width, `P` joint width, `C` classes.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.datasets.arrays import Pixels, decode_image
from trainables.datasets.images.decode import UnreadableImageError
from trainables.datasets.images.image_store import class_names
from trainables.datasets.read_ahead import reading_threads
from trainables.datasets.shard_cache import ShardCache
from trainables.datasets.stored_shards import (
    SHARD_ROWS,
    Shard,
    StoredImages,
    StoredPart,
    StoredShards,
)
from trainables.datasets.tensors import to_tensor

log = logging.getLogger(__name__)

ROOM = 1 << 28
"""Bytes of shards and decoded images that are kept by default."""
WORLD_COLUMNS = ("image", "classes")
LATENT_COLUMNS = ("y_hat",)
FEATURE_COLUMNS = ("pooled", "tokens")


@dataclass(frozen=True)
class Batch:
    """Rows of one step; None where a column was not asked for.

    What is stored in half precision is as it is stored until `to` makes float32 of it, on a GPU
    there: on a CPU that takes ten times as long as everything else that reading does.
    """

    ids: tuple[str, ...]
    positions: tuple[int, ...] = ()
    """The rows' numbers in the step's global batch, 0 .. batch_size - 1; none outside training."""
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

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The columns that were asked for, by name."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in columns.items() if isinstance(value, Tensor)}

    def split(self, parts: int) -> list[Batch]:
        """At most `parts` slices of nearly equal size, none empty."""
        ends = [len(self) * part // parts for part in range(parts + 1)]
        slices = [slice(start, stop) for start, stop in pairwise(ends) if stop > start]
        return [
            Batch(
                self.ids[rows],
                self.positions[rows],
                **{name: value[rows] for name, value in self.tensors.items()},
            )
            for rows in slices
        ]

    def staged(self, device: torch.device) -> Batch:
        """The rows, on the CPU, as `to` takes them to a device without waiting.

        For a GPU that is pinned memory, in the stored precision; for a CPU, float32.
        """
        if device.type != "cuda":
            return self.to(device)
        return self._with({name: value.pin_memory() for name, value in self.tensors.items()})

    def to(self, device: torch.device) -> Batch:
        """The same rows, so far on the CPU, on a device, in float32."""
        apart = device.type == "cuda"
        return self._with(
            {
                name: value.to(device, non_blocking=apart).float()
                for name, value in self.tensors.items()
            }
        )

    def _with(self, tensors: dict[str, Tensor]) -> Batch:
        return Batch(self.ids, self.positions, **tensors)


def part_file(directory: Path, split: str, shard: int) -> Path:
    """The Parquet file of one shard's features or latents."""
    return directory / split / f"part-{shard:05d}.parquet"


class Rows:
    """The rows of one split that are there in every source, shard by shard.

    Used by one thread at a time.

    Args:
        columns: what batches hold: of `image`, `classes`, `y_hat`, `pooled`, `tokens`.
        world, latents, features: directories; those that no column comes from may be None.
        shard_size: rows of the world per shard, however large the files are.
        room: bytes of shards and of decoded images that stay in memory; the least recently used
            shards are dropped. Shards that are held stay beyond it.

    Attributes:
        sizes: rows of each shard.

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
        shard_size: int = SHARD_ROWS,
        room: int = ROOM,
    ) -> None:
        self.split = split
        self.columns = tuple(columns)
        assert {*columns} <= {*WORLD_COLUMNS, *LATENT_COLUMNS, *FEATURE_COLUMNS}, columns
        self._n_classes = len(class_names(world)) if "classes" in columns else 0
        images = StoredImages(world, split)
        parts: list[StoredPart] = []
        sources = [world]
        for directory, stored in ((latents, LATENT_COLUMNS), (features, FEATURE_COLUMNS)):
            if names := [name for name in stored if name in columns]:
                assert directory is not None, f"{names} need a directory to come from"
                parts.append(StoredPart(directory / split, names))
                sources.append(directory)
        self._readable = bool(parts)
        stored_shards = StoredShards(images, parts, columns, shard_size)
        self.sizes = stored_shards.sizes
        if not sum(self.sizes):
            raise ValueError(f"there is no {split} row that all of {[*map(str, sources)]} hold")
        self._cache = ShardCache(stored_shards.read, room)

    def __len__(self) -> int:
        return sum(self.sizes)

    def hold(self, shards: Collection[int]) -> None:
        """Keep these shards, in place of those held so far, and begin to read the missing ones."""
        self._cache.hold(shards)

    def batch(self, places: Sequence[tuple[int, int]], positions: Sequence[int] = ()) -> Batch:
        """The rows at these places: (shard, row of the shard that is kept) each.

        Args:
            positions: of the batch's attribute.

        Raises:
            ValueError: a source does not belong to the world.
        """
        shards = {shard: self._cache.get(shard) for shard, _ in places}
        data = [(shards[shard], row) for shard, row in places]
        values: dict[str, Tensor] = {}
        for name in self.columns:
            if name == "image":
                values[name] = to_tensor(self._images(data))
                continue
            stored = [shard.columns[name][row] for shard, row in data]
            if name == "classes":
                values[name] = _class_targets(stored, self._n_classes)
            else:
                values[name] = torch.from_numpy(np.stack(stored))
        return Batch(tuple(shard.ids[row] for shard, row in data), tuple(positions), **values)

    def _images(self, data: Sequence[tuple[Shard, int]]) -> list[Pixels]:
        missing = [number for number, (shard, row) in enumerate(data) if row not in shard.pixels]
        decoded = reading_threads().map(lambda number: self._decode(*data[number]), missing)
        images = dict(zip(missing, decoded, strict=True))
        for number, pixels in images.items():
            self._cache.keep_pixels(*data[number], pixels)
        return [
            images[number] if number in images else shard.pixels[row]
            for number, (shard, row) in enumerate(data)
        ]

    def _decode(self, shard: Shard, row: int) -> Pixels:
        """The image of a row; where it is unreadable, the next readable one of its shard.

        Rows with features are readable. Without features (base codecs) a substitute keeps the
        batches' sizes and the other rows as they are.
        """
        images = shard.columns["image"]
        for offset in range(len(images)):
            index = (row + offset) % len(images)
            try:
                return decode_image(images[index].as_py())
            except UnreadableImageError as error:
                if self._readable:
                    raise
                log.warning("image %s is unreadable: %s", shard.ids[index], error)
        raise UnreadableImageError(f"no image from {shard.ids[0]} to {shard.ids[-1]} is readable")


def _class_targets(present: Sequence[Sequence[int]], n_classes: int) -> Tensor:
    target = torch.zeros(len(present), n_classes)
    for row, classes in zip(target, present, strict=True):
        for index in set(classes):
            row[index] = 1.0 / len(set(classes))
    return target
