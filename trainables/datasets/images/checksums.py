"""Checksums of the files of data sets and benchmarks, and of what they hold.

    local file   --its bytes, read once--> SHA-256, kept by (path, size, modification time)
    remote file  --size and what its storage says of its content (ETag, MD5), else its time
    files of some images, their order, class names --> fingerprint, for a stage's key

Neither the place of a data set nor the times of its local files are in a fingerprint: a copy has
the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.datasets.images.files import (
    File,
    file_checksum,
    is_local,
    open_root,
    replacing,
)
from trainables.datasets.images.source import Source

PARTS: Final = {"train": ("train", "val"), "test": ("test",)}
"""The parts of a data set that are stages, and the splits of each."""
_THREADS: Final = 16


class KeptChecksums:
    """Checksums of local files, of which each is read once as long as it does not change.

    Args:
        directory: where they are kept, a file per data set; None keeps none.
        may_write: whether new ones are kept, too.
    """

    def __init__(self, directory: Path | None, may_write: bool = True) -> None:
        self._directory, self._may_write = directory, may_write

    def of(self, root: str, files: Sequence[File]) -> dict[str, str]:
        """The checksum of each file, by its path.

        Args:
            root: absolute path or URI of the directory of all files.

        Raises:
            OSError: a file cannot be read.
        """
        fs, path = open_root(root)
        if not is_local(fs):
            return {file.path: f"{file.size} {file.stamp}" for file in files}
        kept = self._read(path)
        checksums = {file.path: kept[file] for file in files if file in kept}
        new = [file for file in files if file not in kept]
        with ThreadPoolExecutor(_THREADS) as threads:
            # A label may change between sampled blocks.
            computed = threads.map(lambda file: file_checksum(Path(path, file.path), False), new)
            checksums |= zip((file.path for file in new), computed, strict=True)
        if new and self._may_write:
            self._write(path, kept | {file: checksums[file.path] for file in new})
        return checksums

    def _file(self, path: str) -> Path | None:
        if self._directory is None:
            return None
        return self._directory / f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.parquet"

    def _read(self, path: str) -> dict[File, str]:
        kept = self._file(path)
        if kept is None or not kept.exists():
            return {}
        try:
            columns = pq.read_table(kept).to_pydict()
        except pa.ArrowInvalid:  # cut by a loss of power: it is made again
            return {}
        files = map(File, columns["path"], columns["size"], columns["stamp"])
        return dict(zip(files, columns["checksum"], strict=True))

    def _write(self, path: str, checksums: dict[File, str]) -> None:
        kept = self._file(path)
        if kept is None:
            return
        newest = {file.path: (*file, checksum) for file, checksum in checksums.items()}
        columns: Iterable[Any] = zip(*newest.values(), strict=True)
        with replacing(kept) as temporary:
            names = ["path", "size", "stamp", "checksum"]
            pq.write_table(pa.table(list(map(list, columns)), names=names), temporary)


def fingerprint_of_part(source: Source, part: str, kept: KeptChecksums) -> str:
    """The fingerprint of the images of a part of a data set.

    Of the checksums of their files, their ids (paths below the data set's root, rows of tables)
    and order, the split that their classes are read in, and all classes' names.

    Args:
        part: of `PARTS`.
    """
    splits = PARTS[part]
    used = {path for split in splits for path in source.files_of(split)}
    checksums = kept.of(source.root, [file for file in source.files if file.path in used])
    digest = hashlib.sha256()
    for split in splits:
        digest.update(f"{split}\0{source.origins[split]}\n".encode())
        ids = source.index[split].column("image_id").to_pylist()
        digest.update("\n".join(ids).encode())
        for path in source.files_of(split):
            digest.update(f"\0{checksums[path]}\n".encode())
    for key, name in source.classes.items():
        digest.update(f"\0{key}\0{name}\n".encode())
    return f"sha256:{digest.hexdigest()}"
