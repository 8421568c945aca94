"""Text that must fit: how wide letters are, and where a name may be broken.

Widths are those of the figures' font, letter by letter out of its table of advances. Nothing is
drawn to measure it: that would take most of a report's time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

from matplotlib.font_manager import FontProperties, findfont, get_font

from analysis.figures.common.style import STYLE

_PIECES: Final = re.compile(r"(?<=[\-_/:,+@])|(?<=\.)(?=\D)")
"""Where a name may be broken: after its separators, not within a number."""
_BOX_EMS: Final = 1.14
"""Width of the box that Matplotlib draws for a letter that the font lacks."""


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Inches that a line of text takes.

    Args:
        text: one line.
        size: of the font, in points.
        bold: whether in the bold face.
    """
    return sum(_advance(letter, bold) for letter in text) * size / 72


def broken(text: str, room: float, size: float, bold: bool = False) -> list[str]:
    """The text in lines that fit, broken at spaces, words that do not fit after `- _ / : , +`.

    Args:
        text: any.
        room: inches.
        size, bold: as in `text_width`.
    """
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if text_width(longer, size, bold) <= room:
            line = longer
            continue
        lines += [line] if line else []
        *full, line = _divided(word, room, size, bold)
        lines += full
    return [*lines, line]


def _divided(word: str, room: float, size: float, bold: bool) -> list[str]:
    """A word in parts that fit, cut after its separators where it can be."""
    parts = [""]
    for piece in _PIECES.split(word):
        if parts[-1] and text_width(parts[-1] + piece, size, bold) > room:
            parts.append("")
        for letter in piece:
            if parts[-1] and text_width(parts[-1] + letter, size, bold) > room:
                parts.append("")
            parts[-1] += letter
    return parts


def whole_pieces(names: Sequence[str], room: float, size: float) -> bool:
    """Whether the names' pieces fit, so that none is broken within a word."""
    pieces = (piece for name in names for word in name.split() for piece in _PIECES.split(word))
    return all(text_width(piece, size) <= room for piece in pieces)


@cache
def _advance(letter: str, bold: bool) -> float:
    """Of one letter, in ems."""
    family = STYLE["font.family"]
    font = get_font(findfont(FontProperties(family=family, weight="bold" if bold else "normal")))
    font.set_size(100, 72)
    index = font.get_char_index(ord(letter))
    return float(font.load_glyph(index).linearHoriAdvance) / 65536 / 100 if index else _BOX_EMS
