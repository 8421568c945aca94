"""How operating points are told about that were added, cancelled or prioritised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

AGAIN: Final = "the next run of the same command does them again, unless its space leaves them out"


def number_of(points: int) -> str:
    """A number of operating points."""
    return f"{points} operating point{'' if points == 1 else 's'}"


def in_turn(commands: Iterable[str]) -> str:
    """Commands as a line that runs each, also when one before it ends with failed points."""
    return "; ".join(commands)
