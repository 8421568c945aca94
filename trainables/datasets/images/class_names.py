"""The classes of a data set: their keys (folders or label values) and the names people give them.

| names come from           | and are                                                             |
|---------------------------|---------------------------------------------------------------------|
| `data.names: imagenet-1000` | CLIP's names of the synsets                                       |
| `data.names`, lines       | `KEY NAME`, to the first comma: `n01440764 tench, Tinca tinca`      |
| `data.names`, JSON        | as they stand: `{"n01440764": "tench"}`, or a list for whole numbers|
| the data set's features   | to the first comma, `_` as a space (Hugging Face's ClassLabel)      |
| the key itself            | `_` as a space: `golden_retriever`                                  |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from search_spaces.facts.texts import class_lists
from trainables.datasets.images.files import SourceError, parse_json, read_text

_SYNSET = re.compile(r"^n\d{8}$")


def name_classes(
    keys: Sequence[str],
    given: str | None,
    features: Sequence[str] | None = None,
    setting: str = "data.names",
) -> dict[str, str]:
    """Key -> name, in the order of the keys.

    Args:
        keys: of all classes that occur; whole numbers as text.
        given: the file that names them, or the name of a class list.
        features: names by number, where the data set has them.
        setting: whose value `given` is.

    Raises:
        SourceError: a line per mistake, with the setting.
    """
    if given is not None:
        names = _read(given, setting)
        missing = [key for key in keys if key not in names]
        if missing:
            some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise SourceError(
                f"{setting} = {given!r}: {len(missing)} of {len(keys)} classes are not named: "
                f"{some}; it names {len(names)}, such as {', '.join(list(names)[:3])}"
            )
        return {key: names[key] for key in keys}
    if features is not None:
        beyond = [key for key in keys if not (key.isdigit() and int(key) < len(features))]
        if beyond:
            raise SourceError(
                f"data.label_column: the data set names {len(features)} classes, but has also "
                f"{', '.join(beyond[:5])}"
            )
        return {key: clean(features[int(key)]) for key in keys}
    if keys and all(_SYNSET.match(key) for key in keys):
        raise SourceError(
            f"{setting}: the {len(keys)} classes are synsets ({keys[0]}, ...), which say nothing "
            f"to a text encoder; give {', '.join(class_lists())}, or a file with lines such as "
            "'n01440764 tench, Tinca tinca'"
        )
    if keys and all(re.fullmatch(r"-?\d+", key) for key in keys):
        raise SourceError(
            f"{setting}: the {len(keys)} classes are numbers ({', '.join(keys[:3])}, ...) and the "
            "data set does not name them; give a file with lines such as '0 tench', or a JSON list"
        )
    return {key: clean(key) for key in keys}


def clean(name: str) -> str:
    """A name to put into a sentence: its first synonym, with spaces."""
    return name.split(",")[0].replace("_", " ").strip()


def _read(given: str, setting: str) -> Mapping[str, str]:
    try:
        text = read_text(given)
    except SourceError as error:
        raise SourceError(f"{setting} = {given!r}: {error}") from error
    if given.endswith(".json"):
        return _read_json(given, setting, text)
    lines = [line for line in text.splitlines() if line.strip()]
    pairs = [line.strip().split(None, 1) for line in lines]
    for line, pair in zip(lines, pairs, strict=True):
        if len(pair) != 2:
            raise SourceError(f"{setting} = {given!r}: no name in the line {line!r}")
    names: dict[str, str] = {}
    for key, name in pairs:
        if names.setdefault(key, clean(name)) != clean(name):
            raise SourceError(f"{setting} = {given!r}: a class has more than one name: {key}")
    return names


def _read_json(given: str, setting: str, text: str) -> Mapping[str, str]:
    try:
        names = parse_json(text)
    except SourceError as error:
        raise SourceError(f"{setting} = {given!r}: {error}") from error
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise SourceError(f"{setting} = {given!r}: neither {{KEY: NAME}} nor a list of names")
    return names
