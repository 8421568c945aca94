"""The order in which training reads rows: shuffled groups of shards, cut into batches and slices.

    epoch: shards shuffled -> groups of shards -> rows shuffled inside a group -> batches -> workers

What step s reads is a function of (seed, s) alone, so training resumes exactly, and any number of
workers sees the same global batches, each its slice of them. One group of shards is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from trainables.datasets.rows import Batch, Rows

BUFFER_ROWS = 4096
"""Rows that are shuffled among each other; about as many are held in memory."""


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
        position = positions.start
        while position < positions.stop:
            epoch, offset = divmod(position, n)
            group, start, size = self._group_at(epoch, offset)
            stop = min(positions.stop - position, start + size - offset)
            order = self._group_order(epoch, group)
            parts.append(self.rows.batch(order[offset - start : offset - start + stop]))
            position += stop
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
        turn, index = divmod(step, len(self._sources))
        return self._sources[index].read(turn)


def in_order(rows: Rows, batch_size: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
    """Every row once, in order, for validation; the workers take batches in turn."""
    places = [(shard, row) for shard, size in enumerate(rows.sizes) for row in range(size)]
    for number, start in enumerate(range(0, len(places), batch_size)):
        if number % world_size == rank:
            yield rows.batch(places[start : start + batch_size])


def _concatenate(batches: Sequence[Batch]) -> Batch:
    names = batches[0].tensors
    values = {name: torch.cat([batch.tensors[name] for batch in batches]) for name in names}
    return Batch(tuple(i for batch in batches for i in batch.ids), **values)
