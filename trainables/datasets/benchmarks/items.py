"""What every format is read into, and how its mistakes are collected."""

from __future__ import annotations

import csv
import io
import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces.specs.benchmark import BenchmarkSpec
from trainables.datasets.images.files import SourceError, read_bytes
from trainables.datasets.images.placement import Box

SHOWN = 3
"""Examples in a message."""
FIELDS = 10
"""Names of fields in a message."""
CHARACTERS = 40
"""Of a value in a message."""


@dataclass(frozen=True)
class Item:
    """A sample before its images are found.

    images: as the annotations name them; reference: JSON data; box: of the original image, which
    becomes `box` and `size` of the reference; group: of samples that `limit` keeps together.
    """

    sample_id: str
    images: tuple[str, ...]
    prompt: str
    reference: Mapping[str, Any]
    box: Box | None = None
    group: str = ""


@dataclass(frozen=True)
class Items:
    """The samples of a file.

    embedded: images that stand in the annotations, base64 by name; left_out: why and how many
    samples of the file are none of the benchmark's; classes: the names of all, where an encoder
    classifies.
    """

    items: Sequence[Item]
    embedded: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()


class PublishedBenchmark(BenchmarkSpec):
    """Base of the formats' settings: a benchmark whose annotations can be read."""

    @abstractmethod
    def items(self) -> Items:
        """The samples of the annotations.

        Raises:
            SourceError: the files cannot be used; a line per kind of mistake.
        """


class Mistakes:
    """Collects what is wrong: a line per kind of mistake, with how often and the first of them."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, where: object) -> None:
        """Note one more mistake of a kind."""
        self._found.setdefault(kind, []).append(str(where))

    def unique(self, names: Iterable[object], field_name: str) -> None:
        """Note names that occur more than once."""
        # Samples are told apart by the text of these.
        for name, count in Counter(map(str, names)).items():
            if count > 1:
                self.add(f"{field_name} more than once", name)

    def lines(self, setting: str, value: object) -> list[str]:
        """A line per kind of mistake."""
        return [
            f"{setting} = {value!r}: {kind}: {len(places)} time{'s' * (len(places) > 1)} "
            f"({_some(places)})"
            for kind, places in self._found.items()
        ]

    def raise_any(self, setting: str, value: object) -> None:
        """Say all of them.

        Raises:
            SourceError: there are some.
        """
        raise_all((self, setting, value))


def raise_all(*collected: tuple[Mistakes, str, object]) -> None:
    """Say the mistakes of several settings.

    Args:
        collected: mistakes, the setting, its value.

    Raises:
        SourceError: there are some.
    """
    lines = [x for mistakes, name, value in collected for x in mistakes.lines(name, value)]
    if lines:
        raise SourceError("\n".join(lines))


def _some(places: Sequence[str]) -> str:
    return ", ".join(places[:SHOWN]) + (", ..." if len(places) > SHOWN else "")


def read_file(setting: str, uri: str) -> bytes:
    """A file of annotations.

    Raises:
        SourceError: it is not there; the message names the setting.
    """
    try:
        return read_bytes(uri)
    except SourceError as error:
        raise SourceError(f"{setting} = {uri!r}: {error}") from error


def read_json(setting: str, uri: str) -> Any:
    """A JSON file.

    Raises:
        SourceError: it is not there, or not JSON.
    """
    try:
        return json.loads(read_file(setting, uri))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{setting} = {uri!r}: not JSON ({error})") from error


def read_lines(setting: str, uri: str) -> list[dict[str, Any]]:
    """A file of JSON objects, one a line, or of one JSON list of them.

    Raises:
        SourceError: it is not there, or a line is no object.
    """
    data = read_file(setting, uri)
    try:
        rows: list[dict[str, Any]]
        if data.lstrip()[:1] == b"[":
            rows = json.loads(data)
        else:
            rows = [json.loads(line) for line in data.decode().splitlines() if line.strip()]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{setting} = {uri!r}: no JSON object a line ({error})") from error
    if not all(isinstance(row, dict) for row in rows):
        raise SourceError(f"{setting} = {uri!r}: no JSON object a line")
    return rows


def read_table(setting: str, uri: str, delimiter: str, columns: Sequence[str]) -> list[Any]:
    """The rows of a table with a line of columns at its top.

    Raises:
        SourceError: it is not there, not text, or a column is lacking.
    """
    try:
        text = read_file(setting, uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{setting} = {uri!r}: not UTF-8") from error
    csv.field_size_limit(2**30)  # images stand in cells
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows, present = list(table), list(table.fieldnames or ())
    except csv.Error as error:
        raise SourceError(f"{setting} = {uri!r}: not a table ({error})") from error
    if lacking := [column for column in columns if column not in present]:
        raise SourceError(
            f"{setting} = {uri!r}: no column {', '.join(lacking)}; there are: "
            f"{', '.join(present) or 'none'}"
        )
    return rows


def keep_complete(
    rows: Iterable[Any], fields: Mapping[str, Callable[[Any], bool]], mistakes: Mistakes
) -> list[dict[str, Any]]:
    """The rows that have all fields as they must be; what others lack is noted."""
    kept = []
    for number, row in enumerate(rows):
        lacking = [name for name in fields if name not in row]
        wrong = [name for name in fields if name in row and not fields[name](row[name])]
        for name in lacking:
            present = ", ".join(map(str, list(row)[:FIELDS])) or "nothing"
            mistakes.add(f"no {name!r} beside {present}", f"entry {number}")
        for name in wrong:
            mistakes.add(f"no usable {name!r}", f"entry {number}: {_short(row[name])}")
        if not lacking and not wrong:
            kept.append(row)
    return kept


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}..."


def entries(setting: str, uri: str, content: Any, key: str) -> list[Any]:
    """The list that stands under a key of a JSON file.

    Raises:
        SourceError: there is none.
    """
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        keys = ", ".join(content) or "nothing" if isinstance(content, dict) else "no object"
        raise SourceError(
            f"{setting} = {uri!r}: no list of objects under {key!r}; there is: {keys}"
        )
    return rows


def is_text(value: Any) -> bool:
    """Whether a field holds a text that says something."""
    return isinstance(value, str) and bool(value.strip())


def is_id(value: Any) -> bool:
    """Whether a field can tell entries apart."""
    return isinstance(value, int) or is_text(value)


def fill(spec: BenchmarkSpec, **fields: str) -> str:
    """The prompt of a sample."""
    return spec.template.format(**fields)


def of_split(
    spec: BenchmarkSpec, rows: Sequence[Any], split: str | None, splits: Sequence[str]
) -> list[Any]:
    """The rows of a split; all where none is asked for.

    Raises:
        SourceError: the file has no such split.
    """
    if split is None:
        return list(rows)
    kept = [row for row, row_split in zip(rows, splits, strict=True) if row_split == split]
    if not kept:
        present = ", ".join(sorted(set(splits))) or "none"
        raise SourceError(
            f"split = {split!r}: {spec.annotations} has no such split; there are: {present}"
        )
    return kept
