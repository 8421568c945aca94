"""The order in which training reads rows: shuffled groups of shards, cut into batches and slices.

    epoch: shards shuffled -> groups of shards -> rows shuffled inside a group -> batches -> workers

What step s reads is a function of (seed, s) alone, so training resumes exactly, and any number of
workers sees the same global batches, each its rows of them: of several workers, each takes the rows
of its part of the group's shards, as far as equal slices allow. Beside one group of shards, the
part of the next one that the steps done so far call for is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from trainables.datasets.rows import Batch, Rows

BUFFER_ROWS = 4096
"""Rows that are shuffled among each other; as many, or twice as many, are held in memory."""


@dataclass(frozen=True)
class _Group:
    """Shards whose rows are shuffled among each other.

    Attributes:
        places: (shard, row) of all rows, in their order.
        depths: the place of each shard in the group, in [0, 1).
    """

    places: list[tuple[int, int]]
    depths: dict[int, float]


class Batches:
    """Shuffled training batches; step s always has the same rows.

    Args:
        rows: what is read.
        batch_size: images per step over all workers.
        seed: of the order.
        rank, world_size: which worker's rows of each batch are read.
        buffer_rows: about how many rows are shuffled among each other.
        ahead: whether the next group is read while the present one is used. If not, one group is
            in memory.

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
        ahead: bool = True,
    ) -> None:
        if batch_size < world_size:
            raise ValueError(f"batch_size {batch_size} is less than the {world_size} workers")
        self.rows = rows
        self.batch_size = batch_size
        self._seed = seed
        self._workers = world_size
        self._ahead = ahead
        self._slice = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self._group_shards = max(1, buffer_rows // max(rows.sizes))
        self._n_groups = -(-len(rows.sizes) // self._group_shards)
        self._epochs: dict[int, tuple[list[list[int]], list[int]]] = {}
        self._groups: dict[int, _Group] = {}
        self._used: dict[int, list[int]] = {}

    def read(self, step: int) -> Batch:
        """This worker's rows of the batch of a step (0 ..)."""
        positions = self._positions(step)
        places = self._places(step)
        self._hold(step)
        return self.rows.batch([places[i] for i in positions], positions)

    def _places(self, step: int) -> list[tuple[int, int]]:
        """The global batch: (shard, row) each."""
        return [self._group(number).places[row] for number, row in self._walk(step)]

    def _positions(self, step: int) -> list[int]:
        """This worker's positions in the global batch, ascending.

        Several workers cut the batch in the order of the shards in their groups.
        """
        order = list(range(self.batch_size))
        if self._workers > 1:
            groups = [(self._group(number), row) for number, row in self._walk(step)]
            depths = [group.depths[group.places[row][0]] for group, row in groups]
            order.sort(key=depths.__getitem__)
        return sorted(order[self._slice])

    def _hold(self, step: int) -> None:
        """Keep the shards of the step's groups; begin to read those of the next, one by one."""
        touched = sorted({number for number, _ in self._walk(step)})
        number, row = self._walk(step)[-1]
        ahead = self._shards_of(number + 1) if self._ahead else []
        share = (row + 1) / len(self._group(number).places)
        shards = [shard for number in touched for shard in self._shards_of(number)]
        self.rows.hold([*shards, *ahead[: round(share * len(ahead))]])
        for old in [number for number in self._groups if number < touched[0] - 1]:
            del self._groups[old]
        for old in [number for number in self._used if number < touched[0]]:
            del self._used[old]

    def _shards_of(self, number: int) -> list[int]:
        """The shards of a group that this worker reads, in the group's order."""
        if number not in self._used:
            group = self._group(number)
            shards = set(group.depths)
            if self._workers > 1:
                first = self._start(number)
                steps = range(
                    first // self.batch_size,
                    -(-(first + len(group.places)) // self.batch_size),
                )
                shards = {shard for step in steps for shard in self._shards_at(step, number)}
            self._used[number] = [shard for shard in group.depths if shard in shards]
        return self._used[number]

    def _shards_at(self, step: int, number: int) -> set[int]:
        """The shards of a group that this worker reads at a step."""
        walk, places = self._walk(step), self._places(step)
        return {places[i][0] for i in self._positions(step) if walk[i][0] == number}

    def _walk(self, step: int) -> list[tuple[int, int]]:
        """The global batch: the number of the group, over all epochs, and the row of it."""
        walk: list[tuple[int, int]] = []
        position, stop = step * self.batch_size, (step + 1) * self.batch_size
        while position < stop:
            epoch, offset = divmod(position, len(self.rows))
            _, starts = self._epoch(epoch)
            index = int(np.searchsorted(starts, offset, "right")) - 1
            first, size = offset - starts[index], starts[index + 1] - starts[index]
            taken = min(stop - position, size - first)
            number = epoch * self._n_groups + index
            walk += [(number, row) for row in range(first, first + taken)]
            position += taken
        return walk

    def _start(self, number: int) -> int:
        """The position, over all epochs, of a group's first row."""
        epoch, index = divmod(number, self._n_groups)
        return epoch * len(self.rows) + self._epoch(epoch)[1][index]

    def _epoch(self, epoch: int) -> tuple[list[list[int]], list[int]]:
        """The epoch's groups of shards, and where the rows of each begin, with the end of all."""
        if epoch not in self._epochs:
            self._epochs = {e: known for e, known in self._epochs.items() if e >= epoch - 1}
            order = np.random.default_rng((self._seed, epoch)).permutation(len(self.rows.sizes))
            size = self._group_shards
            groups = [order[i : i + size].tolist() for i in range(0, len(order), size)]
            sizes = (sum(self.rows.sizes[shard] for shard in shards) for shards in groups)
            self._epochs[epoch] = groups, [0, *accumulate(sizes)]
        return self._epochs[epoch]

    def _group(self, number: int) -> _Group:
        """A group by its number over all epochs."""
        if number not in self._groups:
            epoch, index = divmod(number, self._n_groups)
            shards = self._epoch(epoch)[0][index]
            places = [(shard, row) for shard in shards for row in range(self.rows.sizes[shard])]
            generator = np.random.default_rng((self._seed, epoch, index + 1))
            shuffled = [places[i] for i in generator.permutation(len(places))]
            depths = {shard: i / len(shards) for i, shard in enumerate(shards)}
            self._groups[number] = _Group(shuffled, depths)
        return self._groups[number]


class InTurn:
    """Batches of one or several sources: step s reads source s mod n.

    Args:
        sources: alike but for what they read.
    """

    def __init__(self, sources: Sequence[Batches]) -> None:
        self._sources = sources

    def read(self, step: int) -> Batch:
        """This worker's rows of the batch of a step (0 ..)."""
        turn, index = divmod(step, len(self._sources))
        return self._sources[index].read(turn)


def in_order(rows: Rows, batch_size: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
    """Every row once, in order, for validation; each worker reads consecutive batches."""
    places = [(shard, row) for shard, size in enumerate(rows.sizes) for row in range(size)]
    count = -(-len(places) // batch_size)
    first, end = (batch_size * (r * count // world_size) for r in (rank, rank + 1))
    read = places[first:end]
    for start in range(0, len(read), batch_size):
        batch = read[start : start + batch_size]
        # One shard more than the batch's, so that the next batch finds its shard.
        ahead = min(batch[-1][0] + 1, read[-1][0])
        rows.hold({ahead, *(shard for shard, _ in batch)})
        yield rows.batch(batch)
    rows.hold([])
