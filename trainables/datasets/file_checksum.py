"""The checksum of a file's content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

WHOLE: Final = 256 * 2**20
"""Bytes up to which all of a file is read: a plan must not read hundreds of GB."""
_BLOCKS: Final = 64
_BLOCK: Final = 2**16


def file_checksum(file: Path) -> str:
    """SHA-256 of a file's bytes; of a file above `WHOLE`, of its size and evenly spread blocks.

    Raises:
        OSError: it cannot be read.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= WHOLE:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for number in range(_BLOCKS):
            stream.seek(number * (size - _BLOCK) // (_BLOCKS - 1))
            digest.update(stream.read(_BLOCK))
        return f"sampled-{digest.hexdigest()}"
