"""Decoding in a process apart: an image that crashes its decoder, or stops it, is unreadable."""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from trainables.datasets.images.decode import Decode, UnreadableImageError, decode_png

DECODE_S = 60
"""Seconds after which a decoder is taken to have stopped."""


class ApartDecoder:
    """Decodes in a child process, which is replaced if it dies; slower by its start.

    Args:
        decode: of `convert.ImageShards`; a function of a module.
        limit_s: whole seconds for an image.
    """

    def __init__(self, decode: Decode = decode_png, limit_s: int = DECODE_S) -> None:
        self._decode, self._limit_s = decode, limit_s
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, data: bytes, size: int) -> tuple[bytes, frozenset[str]]:
        """As `decode_png`.

        Raises:
            UnreadableImageError: also where the decoder crashed or did not end.
        """
        if self._pool is None:
            # Not forked: a copy of a process with threads may hang.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context)
        try:
            return self._pool.submit(
                _decode_in_time, self._decode, data, size, self._limit_s
            ).result()
        except BrokenProcessPool:
            self.close()
            raise UnreadableImageError(
                f"its decoder crashed, or did not end within {self._limit_s} s"
            ) from None

    def close(self) -> None:
        """End the child process."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _decode_in_time(
    decode: Decode, data: bytes, size: int, limit_s: int
) -> tuple[bytes, frozenset[str]]:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends this process
    signal.alarm(limit_s)
    try:
        return decode(data, size)
    finally:
        signal.alarm(0)
