"""Reading training data: images, latents and teacher features of the same rows, from Parquet.

    world/images_train           rows [0, S) | rows [S, 2S) | ...        image_id, png, classes
    latents/train/part-*.parquet   part 0    |   part 1     | ...        image_id, y_hat
    features/train/part-*.parquet  part 0    |   part 1     | ...        image_id, pooled, tokens
                                       joined on image_id: a row that a part left out is left out

Shapes: `B` images, `M` latent channels, `L` patches, `D` width, `P` joint width, `C` classes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from trainables.datasets.arrays import Pixels, decode_image, read_tensor
from trainables.datasets.images.decode import UnreadableImageError
from trainables.datasets.images.image_store import image_column, read_images
from trainables.datasets.tensors import to_tensor

log = logging.getLogger(__name__)

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
            Batch(self.ids[rows], **{name: value[rows] for name, value in self.tensors.items()})
            for rows in slices
        ]

    def to(self, device: torch.device) -> Batch:
        """The same rows on a device, in float32."""
        tensors = self.tensors.items()
        return Batch(self.ids, **{name: value.to(device).float() for name, value in tensors})


def part_file(directory: Path, split: str, shard: int) -> Path:
    """The Parquet file of one shard's features or latents."""
    return directory / split / f"part-{shard:05d}.parquet"


def class_names(world: Path) -> list[str]:
    """The names of the world's classes, in the order of their indices."""
    names: list[str] = json.loads((world / "classes.json").read_text(encoding="utf-8"))["names"]
    return names


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
            shard_ids = kept = world_ids[start : start + shard_size]
            for directory in self._parts:
                part_ids = self._part_ids(directory, shard, shard_ids)
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
        row_of_id = {image_id: row for row, image_id in enumerate(ids)}
        return table.take([row_of_id[image_id] for image_id in self._ids[shard]])

    def _image(self, shard: int, row: int) -> Pixels:
        """The image of a row; where it is unreadable, the next readable one of its shard.

        Rows with features are readable. Without features (base codecs) a substitute keeps the
        batches' sizes and the other rows as they are.
        """
        images = self._load(shard)["image"]
        for offset in range(len(images)):
            index = (row + offset) % len(images)
            try:
                return decode_image(images[index].as_py())
            except UnreadableImageError as error:
                if self._parts:
                    raise
                log.warning("image %s is unreadable: %s", self._ids[shard][index], error)
        raise UnreadableImageError(f"no image of shard {shard} of {self.split} is readable")


def _class_targets(present: Sequence[Sequence[int]], n_classes: int) -> Tensor:
    target = torch.zeros(len(present), n_classes)
    for row, classes in zip(target, present, strict=True):
        for index in set(classes):
            row[index] = 1.0 / len(set(classes))
    return target
