"""A data set as it is found: which image is in which split, and the classes' names.

    uri --list--> files --splits, seed, counts--> index per split: image_id, file, chunk, row
                    |                                   |
                    +--> checksums (keys of stages)     +--> read and converted, shard by shard

Nothing of the images is read for it: of folders the listing, of Parquet files their footers (and
the labels, where nobody names the classes).

The order is drawn from `data.seed`: files of a folder one by one, tables by row groups, whose rows
stay together; so a small part is a fair sample of a folder, but of a table that is sorted by class
only if its row groups are small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from search_spaces.specs.data import DataSpec
from trainables.datasets.images import tables
from trainables.datasets.images.class_names import name_classes
from trainables.datasets.images.files import (
    IMAGE_SUFFIXES,
    SPLITS,
    File,
    SourceError,
    absolute,
    find_splits,
    open_root,
    walk,
)

INDEX_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("file", pa.string()),
        ("chunk", pa.int32()),
        ("row", pa.int32()),
    ]
)
ALL = ""
"""The name of the split that holds all images of a data set without splits."""


@dataclass(frozen=True)
class Source:
    """A data set that can be used."""

    root: str
    """Where its files are: an absolute path or a URI."""
    origins: Mapping[str, str]
    """train, val, test -> the data set's own split, `ALL` where it has none."""
    index: Mapping[str, pa.Table]
    """train, val, test -> its images, in the order in which they are kept."""
    classes: Mapping[str, str]
    """Key (folder or label) -> name."""
    ignored: tuple[str, ...]
    """Files that are no images by their names."""
    files: tuple[File, ...]
    """Those that the images of the index are in, and further ones of the same splits."""

    def is_labelled(self, split: str) -> bool:
        """Whether images of train, val or test may have a class: of folders, whether one has."""
        files = self.files_of(split)
        if not self.classes or not files[0].lower().endswith(IMAGE_SUFFIXES):
            return bool(self.classes)
        return any(class_of(file, self.origins[split]) is not None for file in files)

    def files_of(self, split: str) -> list[str]:
        """The paths of the files with images of train, val or test, in the order of the index."""
        files: list[str] = self.index[split].column("file").unique().to_pylist()
        return files

    def count(self, split: str) -> int:
        """Images of train, val or test."""
        return len(self.index[split])


@lru_cache(maxsize=4)
def read_source(data: DataSpec) -> Source:
    """List a data set, once per process: a sweep must not see its data change on the way.

    Raises:
        SourceError: a line per mistake, each with the setting, the value and what there is.
    """
    assert data.uri is not None
    root = absolute(data.uri)
    try:
        fs, path = open_root(root)
        files = walk(fs, path)
    except SourceError as error:
        raise SourceError(f"data.uri = {data.uri!r}: {error}") from error
    if fs.isfile(path):
        root, path = root.rpartition("/")[0], path.rpartition("/")[0]
    if data.kind == "folder":
        return _folder(data, root, files)
    return _tables(data, root, fs, path, files)


def open_files(data: DataSpec) -> tuple[Any, str]:
    """The file system of a data set, and the path in it that its index's files are below.

    Raises:
        SourceError: it cannot be opened.
    """
    assert data.uri is not None
    fs, path = open_root(absolute(data.uri))
    return fs, path.rpartition("/")[0] if fs.isfile(path) else path


def class_of(path: str, origin: str) -> str | None:
    """The class of an image file by its folder; None where it is in none."""
    below = path.removeprefix(f"{origin}/") if origin else path
    return below.split("/")[0] if "/" in below else None


def _folder(data: DataSpec, root: str, files: Sequence[File]) -> Source:
    images: list[File] = []
    ignored: list[str] = []
    for file in files:
        if file.path.lower().endswith(IMAGE_SUFFIXES):
            images.append(file)
        else:
            ignored.append(file.path)
    if not images:
        raise SourceError(
            f"data.uri = {data.uri!r}: none of its {len(files)} files is an image "
            f"({', '.join(IMAGE_SUFFIXES)})"
        )
    folders = {file.path.split("/")[0] for file in images if "/" in file.path}
    split_names = find_splits(folders)
    if len(split_names) < 2 and len(folders) > 1:
        split_names = {}  # a class may be called `train`
    origins, problems = _origins(data, split_names, folders)
    members = {
        origin: [f for f in images if not origin or f.path.startswith(f"{origin}/")]
        for origin in dict.fromkeys(origins.values())
    }
    index: dict[str, pa.Table] = {}
    if not problems:
        sizes = {origin: len(files_of) for origin, files_of in members.items()}
        parts, problems = _divide(data, origins, sizes)
        orders = {o: np.random.default_rng(data.seed).permutation(n) for o, n in sizes.items()}
        for split, part in parts.items():
            chosen = orders[origins[split]][part]
            paths = [members[origins[split]][i].path for i in chosen]
            zeros = np.zeros(len(paths), np.int32)
            index[split] = pa.table([paths, paths, zeros, zeros], schema=INDEX_SCHEMA)
    keys = sorted(
        {
            key
            for origin, files_of in members.items()
            for file in files_of
            if (key := class_of(file.path, origin)) is not None
        }
    )
    classes = _named(data, keys, None, problems)
    used = sorted(chain.from_iterable(members.values()))  # runs that are in order: merged at once
    return _source(root, origins, index, classes, ignored, used, problems)


def _tables(data: DataSpec, root: str, fs: object, path: str, files: Sequence[File]) -> Source:
    table_files = tables.arrow_tables(fs, path, files) if data.kind == "datasets" else []
    table_files = table_files or tables.parquet_tables(files)
    if not table_files:
        wanted = "Parquet files"
        if data.kind == "datasets":
            wanted = "Parquet files, nor what `save_to_disk` writes (state.json, *.arrow)"
        raise SourceError(f"data.uri = {data.uri!r}: among its {len(files)} files are no {wanted}")
    named = {split for _, split in table_files if split}
    origins, problems = _origins(data, find_splits(named), named)
    used = [(file, split) for file, split in table_files if {split, ALL} & set(origins.values())]
    rows: dict[str, list[tuple[str, list[int]]]] = {}
    schema = None
    for file, split in used:
        schema, chunks = tables.describe(fs, f"{path}/{file.path}")
        wrong = tables.check_columns(schema, data.image_column, data.label_column)
        if wrong:
            problems += [f"{problem}; in {file.path}" for problem in wrong]
            raise SourceError("\n".join(problems))
        for origin in {split, ALL} & set(origins.values()):
            rows.setdefault(origin, []).append((file.path, chunks))
    index: dict[str, pa.Table] = {}
    if not problems:
        whole = {o: _table_index(chunked, data.seed) for o, chunked in rows.items()}
        parts, problems = _divide(data, origins, {o: len(t) for o, t in whole.items()})
        index = {s: whole[origins[s]].slice(p.start, p.stop - p.start) for s, p in parts.items()}
    classes: Mapping[str, str] = {}
    if data.label_column is not None and schema is not None:
        names = tables.names_of_labels(fs, path, files, schema, data.label_column)
        if names is not None:
            keys = [str(number) for number in range(len(names))]
        else:
            keys = tables.distinct_labels(fs, path, used, data.label_column)
        classes = _named(data, keys, names, problems)
    paths = {file.path for file, _ in table_files}
    ignored = [file.path for file in files if file.path not in paths]
    return _source(root, origins, index, classes, ignored, [f for f, _ in used], problems)


def _table_index(files: Sequence[tuple[str, list[int]]], seed: int) -> pa.Table:
    """Every row of some files, chunk after chunk in an order drawn from the seed."""
    chunks = [
        (path, number, sum(sizes[:number]), size)
        for path, sizes in files
        for number, size in enumerate(sizes)
    ]
    order = np.random.default_rng(seed).permutation(len(chunks))
    parts: list[pa.Table] = []
    for path, number, first, size in (chunks[i] for i in order):
        ids = [f"{path}#{first + row}" for row in range(size)]
        numbers = np.full(size, number, np.int32), np.arange(size, dtype=np.int32)
        parts.append(pa.table([ids, [path] * size, *numbers], schema=INDEX_SCHEMA))
    return pa.concat_tables(parts)


def _origins(
    data: DataSpec, split_names: Mapping[str, str], folders: set[str]
) -> tuple[dict[str, str], list[str]]:
    """The data set's own split for each of ours, and what is wrong."""
    if data.splits is not None:
        split_settings = data.splits.model_dump()
        return split_settings, [
            f"data.splits.{split} = {name!r}: no such split; there are: "
            f"{', '.join(sorted(folders)) or 'none'}"
            for split, name in split_settings.items()
            if name not in folders
        ]
    if not split_names:
        return dict.fromkeys(SPLITS, ALL), []
    if "train" not in split_names:
        return {}, [
            f"data.uri = {data.uri!r}: has the splits {', '.join(split_names.values())} and no "
            "train; say with data.splits which of its own splits train, val and test are taken from"
        ]
    train = split_names["train"]
    if "test" in split_names:
        val, test = split_names.get("val", train), split_names["test"]
        return {"train": train, "val": val, "test": test}, []
    return {"train": train, "val": train, "test": split_names.get("val", train)}, []


def _divide(
    data: DataSpec, origins: Mapping[str, str], sizes: Mapping[str, int]
) -> tuple[dict[str, slice], list[str]]:
    """The part of its origin's order that each split gets, and what is wrong."""
    parts: dict[str, slice] = {}
    problems: list[str] = []
    start = dict.fromkeys(sizes, 0)
    shared = {o: [s for s in SPLITS if origins[s] == o] for o in sizes}
    for split in reversed(SPLITS):
        origin = origins[split]
        total, left = sizes.get(origin, 0), sizes.get(origin, 0) - start.get(origin, 0)
        wanted = getattr(data, split)
        if wanted is None:
            rest = split == "train" or len(shared.get(origin, ())) < 2
            wanted = left if rest else max(1, round(total / 20))
        if not 0 < wanted <= left:
            where = f"its split {origin!r}" if origin else "the data set"
            asked = getattr(data, split)
            sharing = [s for s in shared.get(origin, ()) if s != split]
            shares = f", shared with {' and '.join(sharing)}" if sharing else ""
            problems.append(
                f"data.{split}{'' if asked is None else f' = {asked}'}: {where} has {total} "
                f"images{shares}; {left} are left for {split}"
            )
            continue
        parts[split] = slice(start[origin], start[origin] + wanted)
        start[origin] += wanted
    return {split: parts[split] for split in SPLITS if split in parts}, problems


def _named(
    data: DataSpec, keys: Sequence[str], features: Sequence[str] | None, problems: list[str]
) -> Mapping[str, str]:
    try:
        return name_classes(keys, data.names, features)
    except SourceError as error:
        problems += str(error).splitlines()
        return {}


def _source(
    root: str,
    origins: Mapping[str, str],
    index: Mapping[str, pa.Table],
    classes: Mapping[str, str],
    ignored: Sequence[str],
    used: Sequence[File],
    problems: Sequence[str],
) -> Source:
    if problems:
        raise SourceError("\n".join(problems))
    return Source(root, origins, index, classes, tuple(ignored), tuple(used))
