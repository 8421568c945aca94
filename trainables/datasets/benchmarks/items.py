"""What every format is read into, how its files are read, and how their mistakes are collected."""

from __future__ import annotations

import csv
import io
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces.specs.benchmark import BenchmarkSpec
from trainables.datasets.images.files import SourceError, parse_json, read_bytes
from trainables.datasets.images.placement import Box

SHOWN = 3
"""Examples in a message."""
FIELDS = 10
"""Names of fields in a message."""
CHARACTERS = 40
"""Of a value in a message."""
_PICKLES = (".p", ".pkl", ".pickle")


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


class Mistakes:
    """Collects what is wrong with the value of a setting: a line per kind of mistake, with how
    often it occurs and the first of them."""

    def __init__(self, setting: str, value: object) -> None:
        self._subject = f"{setting} = {value!r}"
        self._places: dict[str, list[str]] = {}

    def add(self, kind: str, where: object) -> None:
        """Note one more mistake of a kind."""
        self._places.setdefault(kind, []).append(str(where))

    def unique(self, names: Iterable[object], field_name: str) -> None:
        """Note names that occur more than once."""
        # Samples are told apart by the text of these.
        for name, count in Counter(map(str, names)).items():
            if count > 1:
                self.add(f"{field_name} more than once", name)

    def complete(
        self, rows: Iterable[Any], fields: Mapping[str, Callable[[Any], bool]]
    ) -> list[dict[str, Any]]:
        """The rows that have all fields as they must be; what others lack is noted."""
        kept = []
        for number, row in enumerate(rows):
            lacking = [name for name in fields if name not in row]
            wrong = [name for name in fields if name in row and not fields[name](row[name])]
            for name in lacking:
                present = ", ".join(map(str, list(row)[:FIELDS])) or "nothing"
                self.add(f"no {name!r} beside {present}", f"entry {number}")
            for name in wrong:
                self.add(f"no usable {name!r}", f"entry {number}: {_short(row[name])}")
            if not lacking and not wrong:
                kept.append(row)
        return kept

    def raise_any(self, *further: Mistakes) -> None:
        """Say all of them, and those of other settings.

        Raises:
            SourceError: there are some.
        """
        lines = [
            f"{mistakes._subject}: {kind}: {len(places)} time{'s' * (len(places) > 1)} "
            f"({', '.join(places[:SHOWN])}{', ...' * (len(places) > SHOWN)})"
            for mistakes in (self, *further)
            for kind, places in mistakes._places.items()
        ]
        if lines:
            raise SourceError("\n".join(lines))


class PublishedBenchmark(BenchmarkSpec):
    """Base of the formats' settings: a benchmark whose annotations can be read.

    Its methods name a file by the setting that holds its path or URI.
    """

    @abstractmethod
    def items(self) -> Items:
        """The samples of the annotations.

        Raises:
            SourceError: the files cannot be used; a line per kind of mistake.
        """

    def error(self, setting: str, problem: object) -> SourceError:
        """An error that names a setting and its value."""
        return SourceError(f"{setting} = {getattr(self, setting)!r}: {problem}")

    def mistakes(self, setting: str = "annotations") -> Mistakes:
        """A collection of mistakes of a setting, empty."""
        return Mistakes(setting, getattr(self, setting))

    def fill(self, **fields: str) -> str:
        """The prompt of a sample."""
        return self.template.format(**fields)

    def read(self, setting: str) -> bytes:
        """The content of a file.

        Raises:
            SourceError: it is not there, or is a pickle by its name.
        """
        file: str = getattr(self, setting)
        if file.endswith(_PICKLES):
            raise self.error(setting, "a pickle, which can run programs; write its data as JSON")
        try:
            return read_bytes(file)
        except SourceError as error:
            raise self.error(setting, error) from error

    def read_json(self, setting: str = "annotations") -> Any:
        """A JSON file.

        Raises:
            SourceError: it is not there, or not JSON.
        """
        data = self.read(setting)
        try:
            return parse_json(data)
        except SourceError as error:
            raise self.error(setting, error) from error

    def read_lines(self) -> list[dict[str, Any]]:
        """The annotations as JSON objects, one a line, or as one JSON list of them.

        Raises:
            SourceError: they are not there, or a line is no object.
        """
        data = self.read("annotations")
        try:
            rows: list[dict[str, Any]]
            if data.lstrip()[:1] == b"[":
                rows = parse_json(data)
            else:
                rows = [parse_json(line) for line in data.decode().splitlines() if line.strip()]
        except (SourceError, UnicodeDecodeError) as error:
            raise self.error("annotations", f"no JSON object a line ({error})") from error
        if not all(isinstance(row, dict) for row in rows):
            raise self.error("annotations", "no JSON object a line")
        return rows

    def read_table(self, delimiter: str, columns: Sequence[str]) -> list[Any]:
        """The annotations as the rows of a table with a line of columns at its top.

        Raises:
            SourceError: they are not there, not text, or a column is lacking.
        """
        try:
            text = self.read("annotations").decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.error("annotations", "not UTF-8") from error
        csv.field_size_limit(2**30)  # images stand in cells
        table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            rows, present = list(table), list(table.fieldnames or ())
        except csv.Error as error:
            raise self.error("annotations", f"not a table ({error})") from error
        if lacking := [column for column in columns if column not in present]:
            listed = ", ".join(present) or "none"
            raise self.error("annotations", f"no column {', '.join(lacking)}; there are: {listed}")
        return rows

    def entries(self, content: Any, key: str, setting: str = "annotations") -> list[Any]:
        """The list that stands under a key of a JSON file's content.

        Raises:
            SourceError: there is none.
        """
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            keys = ", ".join(content) or "nothing" if isinstance(content, dict) else "no object"
            raise self.error(setting, f"no list of objects under {key!r}; there is: {keys}")
        return rows


class SplitBenchmark(PublishedBenchmark):
    """Base of the settings of formats whose samples are in splits."""

    split: str | None = None
    """Which of the splits is used; null: all (of `coco_karpathy`: test)."""

    @property
    def chosen_split(self) -> str | None:
        """The split of the annotations that is used."""
        return self.split

    def of_split(
        self, rows: Sequence[Any], splits: Sequence[str], default: str | None = None
    ) -> list[Any]:
        """The rows of the split that is asked for.

        Args:
            splits: of each row.
            default: what `split: null` means; None for all rows.

        Raises:
            SourceError: the file has no such split.
        """
        split = default if self.split is None else self.split
        if split is None:
            return list(rows)
        kept = [row for row, row_split in zip(rows, splits, strict=True) if row_split == split]
        if not kept:
            present = ", ".join(sorted(set(splits))) or "none"
            raise SourceError(
                f"split = {split!r}: {self.annotations} has no such split; there are: {present}"
            )
        return kept


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}..."


def is_text(value: Any) -> bool:
    """Whether a field holds a text that says something."""
    return isinstance(value, str) and bool(value.strip())


def is_id(value: Any) -> bool:
    """Whether a field can tell entries apart."""
    return isinstance(value, int) or is_text(value)


def all_with(key: str, check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a field holds a list of objects, at least one, whose values of a key pass a check."""

    def passes(value: Any) -> bool:
        rows = value if isinstance(value, list) else []
        return bool(rows) and all(isinstance(row, dict) and check(row.get(key)) for row in rows)

    return passes
