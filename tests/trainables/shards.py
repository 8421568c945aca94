"""The shards of a world's features or latents, all in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.trainables.small import SHARD
from trainables.datasets.images.image_store import ShardReport, count_images
from trainables.datasets.rows import part_file

Writer = Callable[[Path, str, tuple[int, int], Path], ShardReport]


def write_shards(
    write: Writer,
    world: Path,
    directory: Path,
    splits: Sequence[str] = ("train", "val"),
    size: int = SHARD,
) -> list[ShardReport]:
    reports = []
    for split in splits:
        rows = count_images(world, split)
        for shard, start in enumerate(range(0, rows, size)):
            span = start, min(start + size, rows)
            reports.append(write(world, split, span, part_file(directory, split, shard)))
    return reports
