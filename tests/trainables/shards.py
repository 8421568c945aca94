"""The shards of a world's features or latents, all in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.trainables.small import SHARD
from trainables.datasets.images.image_store import ShardReport, count_images
from trainables.datasets.rows import part_file
from trainables.datasets.shards import read_shard, write_shard
from trainables.training.precompute import ShardModel


def compute_shard(
    model: ShardModel, world: Path, split: str, rows: tuple[int, int], out: Path
) -> ShardReport:
    table = model(read_shard(world, split, rows))
    write_shard(table, out)
    return ShardReport.of(table.schema.metadata)


def write_shards(
    model: ShardModel,
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
            out = part_file(directory, split, shard)
            reports.append(compute_shard(model, world, split, span, out))
    return reports
