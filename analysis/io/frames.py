"""Rows of a frame as the type checker can follow them, and nested settings as flat ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd


def rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows as named tuples; the stubs give every attribute the type of any scalar."""
    yield from frame.itertuples(index=False)


def leaves(value: Any, path: str = "", lists: bool = True) -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything inside mappings and, unless they stay whole, lists."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        inner = list(value.items())
    elif lists and isinstance(value, list | tuple):
        inner = list(enumerate(value))
    if not inner:
        yield path, value
    for name, part in inner:
        yield from leaves(part, f"{path}.{name}" if path else str(name), lists)
