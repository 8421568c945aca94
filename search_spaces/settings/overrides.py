"""Changing settings in plain data by their dotted paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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
    holder: Any = data
    for depth, key in enumerate(keys):
        where = ".".join(keys[:depth])
        if isinstance(holder, list):
            places = {str(place): place for place in range(len(holder))}
            if key not in places:
                items = f"items 0 to {len(holder) - 1}" if holder else "no items"
                raise PathError(f"{where} has {items}, not {key!r}")
            step: Any = places[key]
        elif isinstance(holder, dict):
            step = key
        else:
            raise PathError(f"{where} has no settings of its own")
        if depth == len(keys) - 1:
            return holder, step
        holder = holder.setdefault(step, {}) if isinstance(holder, dict) else holder[step]
    raise AssertionError("a path has at least one part")
