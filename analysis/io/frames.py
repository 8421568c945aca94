"""Rows of a frame as the type checker can follow them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd


def rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows as named tuples; the stubs give every attribute the type of any scalar."""
    yield from frame.itertuples(index=False)
