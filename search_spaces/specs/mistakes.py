"""Mistakes of a part of a space as mistakes of the whole, so that all are reported together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, get_args

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

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
            why = item["msg"].removeprefix("Value error, ")
            kind = PydanticCustomError("value_error", "{why}", {"why": why})
        ctx = item.get("ctx", {}) if isinstance(kind, str) else {}
        yield InitErrorDetails(type=kind, loc=loc, input=item["input"], ctx=ctx)
