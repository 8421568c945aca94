"""A benchmark as it is found: its samples, and where each of their images is.

Nothing of the images is read for it: only the annotations, and the listing of the directory.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath

import numpy as np

from search_spaces.specs.benchmark import BenchmarkSpec
from trainables.datasets.benchmarks.items import Item, PublishedBenchmark
from trainables.datasets.images.checksums import KeptChecksums
from trainables.datasets.images.files import File, SourceError, absolute, list_files

_COCO_PREFIX = re.compile(r"^COCO_[A-Za-z]+\d{4}_(?=\d{12})")


@dataclass(frozen=True)
class Benchmark:
    """The samples that are used.

    items: whose images are paths below `root`, or names in `embedded`; left_out, classes: as in
    `Items`; annotations: checksum of the annotations' bytes; files: of the images.
    """

    items: tuple[Item, ...]
    root: str | None
    embedded: Mapping[str, str]
    left_out: Mapping[str, int]
    classes: tuple[str, ...]
    annotations: str
    files: tuple[File, ...]

    def fingerprint(self, kept: KeptChecksums) -> str:
        """Of the annotations, and of the paths below `root` and checksums of the images."""
        digest = hashlib.sha256(self.annotations.encode())
        if self.root is not None:
            checksums = kept.of(self.root, self.files)
            for file in self.files:
                digest.update(f"{file.path}\0{checksums[file.path]}\n".encode())
        return f"sha256:{digest.hexdigest()}"


@lru_cache(maxsize=16)
def read_benchmark(spec: BenchmarkSpec) -> Benchmark:
    """Read the annotations and find the images, once per process.

    Raises:
        SourceError: a line per mistake, each with the setting, the value and what there is.
    """
    assert isinstance(spec, PublishedBenchmark), spec.format
    content = spec.items()
    if not content.items:
        raise spec.error("annotations", "there are no samples in it")
    items = _limited(spec, content.items)
    digest = hashlib.sha256()
    for setting in spec.files:
        digest.update(hashlib.sha256(spec.read(setting)).digest())
    root, files = None, list[File]()
    if spec.image_directory is not None:
        root = absolute(spec.image_directory)
        items, files = _placed(spec, root, items)
    return Benchmark(
        items=tuple(items),
        root=root,
        embedded=content.embedded,
        left_out=content.left_out,
        classes=content.classes,
        annotations=digest.hexdigest(),
        files=tuple(files),
    )


def _limited(spec: BenchmarkSpec, items: Sequence[Item]) -> Sequence[Item]:
    """The samples that are used, in the order of the file; groups of samples are kept whole."""
    groups = list(dict.fromkeys(item.group or item.sample_id for item in items))
    if spec.limit is None or spec.limits_itself or len(groups) <= spec.limit:
        return items
    kept = set(groups[: spec.limit])
    if spec.drawn_from is not None:
        rng = np.random.default_rng(spec.drawn_from)
        kept = {groups[i] for i in rng.choice(len(groups), spec.limit, replace=False)}
    return [item for item in items if (item.group or item.sample_id) in kept]


def _placed(
    spec: PublishedBenchmark, root: str, items: Sequence[Item]
) -> tuple[list[Item], list[File]]:
    """The samples with the paths of their images, and the files of these."""
    try:
        files = list_files(root)
    except SourceError as error:
        raise spec.error("images", error) from error
    by_path = {file.path: file for file in files}
    by_name: dict[str, list[str]] = {}
    for path in by_path:
        for name in {PurePosixPath(path).name, PurePosixPath(path).stem}:
            by_name.setdefault(name, []).append(path)
    mistakes = spec.mistakes("images")
    places: dict[str, str] = {}
    absent = f"images are not among its {len(files)} files"
    if files:
        absent += f" (such as {files[0].path})"
    for name in dict.fromkeys(name for item in items for name in item.images):
        base = PurePosixPath(name).name
        tried = (base, _COCO_PREFIX.sub("", base))
        paths = [name] if name in by_path else next(filter(None, map(by_name.get, tried)), [])
        if len(paths) == 1:
            places[name] = paths[0]
        else:
            mistakes.add("an image is in several places" if paths else absent, name)
    mistakes.raise_any()
    placed = [replace(item, images=tuple(places[n] for n in item.images)) for item in items]
    return placed, [by_path[path] for path in sorted(set(places.values()))]
