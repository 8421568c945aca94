"""Reading spaces: by name or from YAML, with overrides, and with every mistake said at once."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from search_spaces.spec import Space


class SpaceError(ValueError):
    """A space that cannot be swept; the message has a line per mistake."""


def named_spaces() -> dict[str, str]:
    """Name -> description of the spaces that come with the project."""
    found = {}
    for entry in sorted(resources.files("search_spaces").joinpath("spaces").iterdir(), key=str):
        if entry.name.endswith(".yaml"):
            text = yaml.safe_load(entry.read_text(encoding="utf-8"))
            found[entry.name.removesuffix(".yaml")] = str(text.get("description", "")).strip()
    return found


def load_space(space: str, overrides: Iterable[str] = ()) -> Space:
    """Read a space and apply `key.path=value` overrides.

    Args:
        space: a named space or the path of a YAML file.
        overrides: values are YAML (`data.train=512`, `scenarios=[d1, d2]`); a list item is named by
            its position (`codecs.0.lambdas=[0.01]`).

    Raises:
        SpaceError: with one line per mistake: the setting, the value and the valid choices.
    """
    data = _read(space)
    problems = [problem for text in overrides if (problem := _override(data, text))]
    if problems:
        raise SpaceError("\n".join(problems))
    try:
        return Space.model_validate(data)
    except ValidationError as error:
        lines = [_explain(item, data) for item in error.errors()]
        raise SpaceError("\n".join(dict.fromkeys(lines))) from None


def _read(space: str) -> dict[str, Any]:
    path = Path(space)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise SpaceError(f"space {space!r}: there is no such file")
        text = path.read_text(encoding="utf-8")
    else:
        names = named_spaces()
        if space not in names:
            close = difflib.get_close_matches(space, names, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise SpaceError(
                f"space {space!r}: no such space{hint}; named spaces are {', '.join(names)}, "
                "or give a .yaml file"
            )
        text = resources.files("search_spaces").joinpath("spaces", f"{space}.yaml").read_text()
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpaceError(f"space {space!r}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise SpaceError(f"space {space!r}: a space is a mapping of settings")
    data.setdefault("name", path.stem)
    return data


def _override(data: dict[str, Any], text: str) -> str | None:
    """Apply one override in place; returns what is wrong with it, if anything."""
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        return f"--set {text!r}: write key.path=value"
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        return f"--set {text!r}: the value is not valid YAML"
    at: Any = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(at, list):
            if not key.isdigit() or int(key) >= len(at):
                where = ".".join(keys[:depth])
                return f"--set {text!r}: {where} has items 0 to {len(at) - 1}, not {key!r}"
            if last:
                at[int(key)] = parsed
            else:
                at = at[int(key)]
        elif isinstance(at, dict):
            if last:
                at[key] = parsed
            else:
                at = at.setdefault(key, {})
        else:
            return f"--set {text!r}: {'.'.join(keys[:depth])} has no settings of its own"
    return None


def _explain(item: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    location = list(item["loc"])
    setting = ".".join(str(part) for part in location) or "space"
    kind = item["type"]
    if kind == "extra_forbidden":
        choices = _settings(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), choices, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return f"{setting}: no such setting{hint}; valid: {', '.join(choices)}"
    if kind == "missing":
        return f"{setting}: must be given"
    message = str(item["msg"]).removeprefix("Value error, ")
    if kind == "literal_error":
        message = f"valid choices are {item['ctx']['expected']}"
    if kind == "value_error":
        return f"{setting}: {message}"
    value = item.get("input")
    return f"{setting} = {value!r}: {message[0].lower()}{message[1:]}"


def _settings(location: Sequence[str | int]) -> list[str]:
    """Names of the settings of the spec that stands at a location inside a space."""
    model: type[BaseModel] = Space
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            inner = _model_in(model.model_fields[part].annotation)
            if inner is not None:
                model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (tuple, list, typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            inner = _model_in(argument)
            if inner is not None:
                return inner
    return None
