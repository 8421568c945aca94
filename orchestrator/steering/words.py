"""How operating points are told about that were added, cancelled or prioritised."""

from __future__ import annotations

from typing import Final

AGAIN: Final = "the next run of the same command does them again, unless its space leaves them out"


def number_of(points: int) -> str:
    """A number of operating points."""
    return f"{points} operating point{'' if points == 1 else 's'}"
