"""A benchmark as it is found: its samples, and where each of their images is.

Nothing of the images is read for it: only the annotations, and the listing of the directory.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath

import numpy as np

from search_spaces import BenchmarkSpec
from trainables.benchmarks.items import Item, Items, Mistakes, read_file
from trainables.benchmarks.pope import read_pope
from trainables.images.files import File, SourceError, absolute, open_root, walk

READERS: dict[str, Callable[[BenchmarkSpec], Items]] = {
    "pope": read_pope,
}
_COCO_PREFIX = re.compile(r"^COCO_[A-Za-z]+\d{4}_(?=\d{12})")


@dataclass(frozen=True)
class Benchmark:
    """The samples that are used.

    items: whose images are paths below `root`, or names in `embedded`; left_out: why and how many
    samples of the file are none of the benchmark's; fingerprint: of the annotations, and of the
    names, sizes and times of the images.
    """

    items: tuple[Item, ...]
    root: str | None
    embedded: Mapping[str, str]
    left_out: Mapping[str, int]
    fingerprint: str


@lru_cache(maxsize=16)
def read_benchmark(spec: BenchmarkSpec) -> Benchmark:
    """Read the annotations and find the images, once per process.

    Raises:
        SourceError: a line per mistake, each with the setting, the value and what there is.
    """
    found = READERS[spec.format](spec)
    if not found.items:
        raise SourceError(f"annotations = {spec.annotations!r}: there are no samples in it")
    items = _limited(spec, found.items)
    digest = hashlib.sha256()
    for setting in ("annotations", "questions", "instances", "names"):
        if (uri := getattr(spec, setting)) is not None:
            digest.update(hashlib.sha256(read_file(setting, uri)).digest())
    root = None
    if spec.images is not None:
        root = absolute(spec.images)
        items, files = _found(spec, root, items)
        for file in files:
            digest.update(f"{file.path}\0{file.size}\0{file.stamp}\n".encode())
    return Benchmark(
        tuple(items), root, found.embedded, found.left_out, f"sha256:{digest.hexdigest()}"
    )


def _limited(spec: BenchmarkSpec, items: Sequence[Item]) -> Sequence[Item]:
    """The samples that are used, in the order of the file."""
    if spec.limit is None or spec.format == "mini_imagenet" or len(items) <= spec.limit:
        return items
    if spec.seed is None:
        return items[: spec.limit]
    drawn = np.random.default_rng(spec.seed).choice(len(items), spec.limit, replace=False)
    return [items[i] for i in sorted(drawn.tolist())]


def _found(spec: BenchmarkSpec, root: str, items: Sequence[Item]) -> tuple[list[Item], list[File]]:
    """The samples with the paths of their images, and the files of these."""
    try:
        files = list_images(root)
    except SourceError as error:
        raise SourceError(f"images = {spec.images!r}: {error}") from error
    by_path = {file.path: file for file in files}
    by_name: dict[str, list[str]] = {}
    for path in by_path:
        for name in {PurePosixPath(path).name, PurePosixPath(path).stem}:
            by_name.setdefault(name, []).append(path)
    mistakes = Mistakes()
    places: dict[str, str] = {}
    for name in dict.fromkeys(name for item in items for name in item.images):
        base = PurePosixPath(name).name
        tried = (base, _COCO_PREFIX.sub("", base))
        paths = [name] if name in by_path else next(filter(None, map(by_name.get, tried)), [])
        if len(paths) == 1:
            places[name] = paths[0]
        else:
            mistakes.add("an image is in several places" if paths else "images are absent", name)
    mistakes.raise_any("images", spec.images)
    placed = [replace(item, images=tuple(places[n] for n in item.images)) for item in items]
    return placed, [by_path[path] for path in sorted(set(places.values()))]


@lru_cache(maxsize=4)
def list_images(root: str) -> tuple[File, ...]:
    """The files below a directory, listed once for all benchmarks on them.

    Raises:
        SourceError: there is no such directory, or it cannot be read.
    """
    fs, path = open_root(root)
    return tuple(walk(fs, path))
