"""Write every setting and column, as the code has them: `python docs/reference.py`.

search_spaces/ (settings and their docstrings), analysis/io/schema.py (columns) -> docs/reference.md
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from analysis.io.schema import COLUMNS
from search_spaces.specs.benchmark import FORMATS, BenchmarkSpec
from search_spaces.specs.codec import CODECS
from search_spaces.specs.scenario_rules import settings_models
from search_spaces.specs.space import Space

PAGE: Final = Path(__file__).with_name("reference.md")
_KINDS: Final = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true`, `false`",
    type(None): "null",
    Any: "anything",
}
"""Types in the words of YAML."""


def main() -> None:
    """Write the page."""
    PAGE.write_text(reference(), encoding="utf-8")


def reference() -> str:
    """Every setting of a space, and every column of the points file."""
    parts = [
        "# Settings and columns",
        "A setting is named by its path: `d1.lr`, `codecs.0.train.steps`. Whose value a default "
        "is, the paper's or ours, is said with it.",
        "## A space",
        *_sections(Space, {}),
        "## Scenarios",
        "What a scenario can be set, under its key.",
    ]
    known: dict[type[BaseModel], str] = {}
    for key, model in sorted(settings_models().items()):
        parts += [f"### `{key}`", *_sections(model, known)]
    for title, registry, name in (("Codecs", CODECS, "arch"), ("Benchmarks", FORMATS, "format")):
        parts += [f"## {title}", f"The settings of each `{name}`."]
        names: dict[type[BaseModel], list[str]] = {}
        for value, model in sorted(registry.working().items()):
            names.setdefault(model, []).append(f"`{value}`")
        for model, values in names.items():
            parts += [f"### {', '.join(values)}", *_sections(model, known)]
    parts += ["## Columns of the points file", _columns()]
    return "\n\n".join(parts) + "\n"


def _sections(model: type[BaseModel], known: dict[type[BaseModel], str]) -> Iterator[str]:
    """A model's docstring and settings, then those of the models inside, each once."""
    yield _text(inspect.getdoc(model) or "")
    yield _table(
        ["setting", "values", "default", "what it is"],
        (
            [f"`{name}`", _values(field), _default(field), _description(field)]
            for name, field in model.model_fields.items()
        ),
    )
    known[model] = model.__name__
    for name, field in model.model_fields.items():
        for inner in _models(field.annotation):
            if inner not in known:
                known[inner] = name
                yield f"#### `{name}`"
                yield from _sections(inner, known)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation; those of codecs and benchmarks have sections of their own."""
    is_model = inspect.isclass(annotation) and issubclass(annotation, BaseModel)
    if is_model and not inspect.isabstract(annotation) and annotation is not BenchmarkSpec:
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _description(field: FieldInfo) -> str:
    """What a setting is; of one with settings inside and no words of its own, what these are."""
    inner = next(_models(field.annotation), None)
    return _text(field.description or (inner and inspect.getdoc(inner)) or "")


def _values(field: FieldInfo) -> str:
    """What a setting can be, in words."""
    limits = [_limit(rule) for rule in field.metadata]
    return _text(", ".join([_kind(field.annotation), *filter(None, limits)]))


def _kind(annotation: Any) -> str:
    """An annotation in the words of YAML."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        limits = filter(None, map(_limit, arguments[1:]))
        return ", ".join([_kind(arguments[0]), *limits])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_kind, arguments))
    if origin is tuple:
        parts = dict.fromkeys(_kind(part) for part in arguments if part is not ...)
        return f"list of {' and '.join(parts)}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"name: {_kind(arguments[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "settings"
    return _KINDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _limit(rule: Any) -> str:
    """A limit of a number, as `> 0`; empty where a rule is none."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    for name, sign in signs.items():
        if (value := getattr(rule, name, None)) is not None:
            return f"{sign} {value}"
    rules = rule.metadata if isinstance(rule, FieldInfo) else ()
    return ", ".join(filter(None, map(_limit, rules)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(to_jsonable_python(value))}`"


def _columns() -> str:
    rows = (
        [
            f"`{column.name}`",
            str(column.type),
            _text(column.metadata[b"unit"].decode()),
            _text(column.metadata[b"description"].decode()),
        ]
        for column in COLUMNS
    )
    return _table(["column", "type", "unit", "what it is"], rows)


def _table(heads: list[str], rows: Iterator[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """Text of a docstring, in one line of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
