"""Mistakes of a space: collected from its parts, reported together, explained."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

_EXPONENT: Final = re.compile(
    r"(?P<whole>[+-]?\d{1,20})(?P<fraction>\.\d{1,20})?[eE](?P<sign>[+-]?)(?P<exponent>\d{1,3})",
    re.ASCII,
)
_DIGITS: Final = 12
"""Of a number that is easier read without an exponent."""
_BUILT_IN_ERRORS: Final = frozenset(get_args(ErrorType))


def mistake(place: str | tuple[str | int, ...], value: object, why: str) -> InitErrorDetails:
    """One mistake in pydantic's form.

    Args:
        place: the setting, or the path to it.
        value: what was given.
        why: the message, with the valid choices.
    """
    kind = PydanticCustomError("value_error", "{why}", {"why": why})
    loc = place if isinstance(place, tuple) else (place,)
    return InitErrorDetails(type=kind, loc=loc, input=value)


def mistakes_below(key: str | None, error: ValidationError) -> Iterator[InitErrorDetails]:
    """The mistakes of a part of a space, at their places in the whole."""
    for item in error.errors(include_url=False):
        loc = item["loc"] if key is None else (key, *item["loc"])
        kind: str | PydanticCustomError = item["type"]
        if kind == "value_error" or kind not in _BUILT_IN_ERRORS:
            reason = item["msg"].removeprefix("Value error, ")
            kind = PydanticCustomError("value_error", "{why}", {"why": reason})
        ctx = item.get("ctx", {}) if isinstance(kind, str) else {}
        yield InitErrorDetails(type=kind, loc=loc, input=item["input"], ctx=ctx)


def in_a_line(error: BaseException) -> str:
    """An error of another package: its kind, and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


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
    if kind == "int_parsing" and (number := _EXPONENT.fullmatch(str(value))):
        return [f"{setting} = {value!r}: {_not_a_number_in_yaml(number)}"]
    return [f"{setting or 'space'} = {value!r}: {message[0].lower()}{message[1:]}"]


def _not_a_number_in_yaml(number: re.Match[str]) -> str:
    """What to say of a number that YAML 1.1 reads as text, such as `1e3`."""
    fraction, sign = number["fraction"] or ".0", number["sign"] or "+"
    written = f"{number['whole']}{fraction}e{sign}{number['exponent']}"
    whole = Decimal(number.group())
    is_short = whole == whole.to_integral_value() and len(f"{whole:f}") <= _DIGITS
    return f"YAML reads this as text; write {written}{f' or {whole:f}' if is_short else ''}"


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
