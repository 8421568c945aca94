"""How operating points are told about that were added, cancelled or prioritised."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from itertools import groupby
from typing import Final

AGAIN: Final = "the next run of the same command does them again, unless its space leaves them out"


_NEXT: Final = ";"
_PROGRAM: Final = ["python", "-m", "orchestrator.sweep"]


def number_of(points: int) -> str:
    """A number of operating points."""
    return f"{points} operating point{'' if points == 1 else 's'}"


def in_turn(commands: Iterable[str]) -> str:
    """Commands as a line that runs each, also when one before it ends with failed points."""
    return f"{_NEXT} ".join(commands)


def typed_anew(line: str) -> str:
    """Commands of this program that somebody else wrote into the storage, quoted for a shell.

    They are printed for a person to type, so nothing else may be in the line.

    Args:
        line: of `in_turn`.

    Raises:
        ValueError: it has other commands, operators of a shell or letters that steer a terminal.
    """
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split, words.commenters = True, ""
    groups = groupby(words, key=_NEXT.__eq__)
    commands = [list(group) for is_next, group in groups if not is_next]
    operators = set(words.punctuation_chars)
    is_ours = all(command[:3] == _PROGRAM for command in commands) and line.isprintable()
    if not commands or not is_ours or any(set(w) <= operators for c in commands for w in c):
        raise ValueError("its command is none of this program")
    return in_turn(map(shlex.join, commands))
