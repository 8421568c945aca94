"""Shards in memory: those that a reader holds, and as many others as there is room for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future

from trainables.datasets.arrays import Pixels
from trainables.datasets.read_ahead import reading_threads
from trainables.datasets.stored_shards import Shard


class ShardCache:
    """Reads shards in threads and keeps them; used by one thread.

    Args:
        read: reads a shard.
        room: bytes of shards that are kept. Shards that are held count, but stay beyond it.
    """

    def __init__(self, read: Callable[[int], Shard], room: int) -> None:
        self._read, self._room = read, room
        self._shards: dict[int, Future[Shard]] = {}  # the last used last
        self._held: frozenset[int] = frozenset()

    def __contains__(self, shard: int) -> bool:
        return shard in self._shards

    @property
    def n_bytes(self) -> int:
        """Bytes of the shards that have been read."""
        done = (future for future in self._shards.values() if future.done())
        return sum(future.result().n_bytes for future in done if future.exception() is None)

    def hold(self, shards: Collection[int]) -> None:
        """Keep these shards, in place of those held so far, and begin to read the missing ones."""
        self._held = frozenset(shards)
        for shard in shards:
            self._start(shard)
        self._drop()

    def get(self, shard: int) -> Shard:
        """A shard, read before or now.

        Raises:
            ValueError: as of `read`.
        """
        future = self._start(shard)
        self._shards[shard] = self._shards.pop(shard)
        content = future.result()
        self._drop(besides=shard)
        return content

    def keep_pixels(self, shard: Shard, row: int, pixels: Pixels) -> None:
        """Keep a decoded image beside its shard if there is room."""
        if self.n_bytes + pixels.nbytes <= self._room:
            shard.pixels[row] = pixels
            shard.n_bytes += pixels.nbytes

    def _start(self, shard: int) -> Future[Shard]:
        if shard not in self._shards:
            self._shards[shard] = reading_threads().submit(self._read, shard)
        return self._shards[shard]

    def _drop(self, besides: int | None = None) -> None:
        """Drop the least recently used shards that nobody holds, down to the room."""
        for shard in [s for s in self._shards if s not in self._held and s != besides]:
            if self.n_bytes <= self._room:
                return
            self._shards.pop(shard).cancel()
