"""Settings whose class is found by the name of a family in a registry.

{arch: tic, N: 128, ...} --> registry.get("tic") --> the family's settings class --> validated
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from search_spaces.plugins import BrokenPluginError, ClassRegistry, UnknownPluginError
from search_spaces.settings.mistakes import unknown

ModelT = TypeVar("ModelT", bound=BaseModel)


def validate_by_family(data: Any, registry: ClassRegistry[ModelT], setting: str) -> ModelT:
    """Validate settings by the class that one of them names.

    Args:
        data: a mapping of settings.
        registry: of the classes.
        setting: the name of the setting that names the class.

    Raises:
        ValidationError: with all mistakes; of a setting that the class does not have, with those
            that it has.
        ValueError: data is no mapping.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"must be a mapping of settings, not {data!r}")
    if setting not in data:
        raise _errors([InitErrorDetails(type="missing", loc=(setting,), input=data)])
    name = data[setting]
    try:
        family = registry.get(name if isinstance(name, str) else repr(name))
    except UnknownPluginError as error:
        raise _errors([_error("unknown_family", str(error), (setting,), name)]) from None
    except BrokenPluginError as error:
        raise _errors([_error("broken_family", str(error), (setting,), name)]) from None
    try:
        return family.model_validate(data)
    except ValidationError as error:
        raise _with_choices(error, family) from None


def _with_choices(error: ValidationError, family: type[BaseModel]) -> ValidationError:
    """The same mistakes; those of settings that do not exist list the family's."""
    choices = tuple(family.model_fields)
    details = []
    for item in error.errors():
        kind, message, location = item["type"], item["msg"], item["loc"]
        if kind == "extra_forbidden" and len(location) == 1:
            kind, message = "no_such_setting", unknown(str(location[0]), choices)
        details.append(_error(kind, message, location, item["input"], item.get("ctx")))
    return _errors(details)


def _error(
    kind: str,
    message: str,
    location: tuple[int | str, ...],
    value: Any,
    context: Mapping[str, Any] | None = None,
) -> InitErrorDetails:
    # Through a template, as a message may have braces.
    error = PydanticCustomError(kind, "{message}", {**(context or {}), "message": message})
    return InitErrorDetails(type=error, loc=location, input=value)


def _errors(items: list[InitErrorDetails]) -> ValidationError:
    return ValidationError.from_exception_data("settings", items)
