"""Settings by their dotted paths: changing them in plain data, and explaining what is wrong."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError


class PathError(ValueError):
    """A dotted path that leads nowhere."""


def put(data: dict[str, Any], path: str, value: Any) -> None:
    """Set one value in place.

    Args:
        data: nested mappings and lists; mappings that are not there yet are made.
        path: `d1.steps`; a list item is named by its position (`codecs.0.lambdas`).
        value: what stands there from now on.

    Raises:
        PathError: a list has no such item, or what the path leads through has no settings.
    """
    holder, key = _place(data, path)
    holder[key] = value


def merge(data: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Set several values in place; a mapping changes what it names and leaves the rest.

    Args:
        data: as in `put`.
        changes: dotted path -> value or, where a mapping stands already, changes to it.

    Raises:
        PathError: see `put`.
    """
    for path, value in changes.items():
        holder, key = _place(data, str(path))
        present = holder.get(key) if isinstance(holder, dict) else holder[key]
        if isinstance(value, Mapping) and isinstance(present, dict):
            merge(present, value)
        else:
            holder[key] = value


def _place(data: dict[str, Any], path: str) -> tuple[Any, Any]:
    """The mapping or list that holds what a path names, and its key there."""
    keys = path.strip().split(".")
    at: Any = data
    for depth, key in enumerate(keys):
        where = ".".join(keys[:depth])
        if isinstance(at, list):
            if not key.isdigit() or int(key) >= len(at):
                raise PathError(f"{where} has items 0 to {len(at) - 1}, not {key!r}")
            step: Any = int(key)
        elif isinstance(at, dict):
            step = key
        else:
            raise PathError(f"{where} has no settings of its own")
        if depth == len(keys) - 1:
            return at, step
        at = at.setdefault(step, {}) if isinstance(at, dict) else at[step]
    raise AssertionError("a path has at least one part")


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """A line per mistake: the setting, the value and the valid choices.

    Args:
        error: what validating a `model` raised.
        model: the spec whose settings are the choices.
    """
    lines = [line for item in error.errors() for line in _explain(item, model)]
    return list(dict.fromkeys(lines))


def _explain(item: Mapping[str, Any], model: type[BaseModel]) -> list[str]:
    location = list(item["loc"])
    setting = ".".join(str(part) for part in location)
    kind = item["type"]
    if kind == "extra_forbidden":
        choices = _settings(location[:-1], model)
        return [f"{setting}: {unknown(str(location[-1]), choices)}"]
    if kind == "missing":
        return [f"{setting}: must be given"]
    message = str(item["msg"]).removeprefix("Value error, ")
    if kind == "tuple_type":
        message = "input should be a list"
    if kind == "literal_error":
        message = f"valid choices are {item['ctx']['expected']}"
    if kind == "value_error":
        # Those of the whole space say themselves what they are about.
        return [f"{setting}: {line}" if setting else line for line in message.splitlines()]
    value = item.get("input")
    return [f"{setting or 'space'} = {value!r}: {message[0].lower()}{message[1:]}"]


def unknown(name: str, choices: Sequence[str]) -> str:
    """What to say of a setting that does not exist."""
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"no such setting{hint}; valid: {', '.join(choices)}"


def _settings(location: Sequence[str | int], model: type[BaseModel]) -> list[str]:
    """Names of the settings of the spec that stands at a location inside a model."""
    for part in location:
        if not isinstance(part, str):
            continue
        further = _further_settings(model)
        if part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
        elif part in further:
            model = further[part]
    return [*model.model_fields, *_further_settings(model)]


def _further_settings(model: type[BaseModel]) -> Mapping[str, type[BaseModel]]:
    """Settings of a spec that are no fields of its class."""
    find = getattr(model, "settings_models", None)
    return {} if find is None else find()


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (tuple, list, typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            inner = _model_in(argument)
            if inner is not None:
                return inner
    return None
