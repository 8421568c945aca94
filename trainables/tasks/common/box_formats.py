"""Boxes as MLLMs write them.

| format    | written as                             | in an image of side 1            |
|-----------|----------------------------------------|----------------------------------|
| shikra    | `[x0,y0,x1,y1]`                        | as it stands                     |
| kosmos2   | `<patch_index_0044><patch_index_0863>` | cells of a grid of 32, by rows   |
| paligemma | `<loc0100><loc0200><loc0300><loc0400>` | y0, x0, y1, x1 / 1024            |
| qwen      | `(x0,y0),(x1,y1)`                      | / 1000                           |
| qwen2.5   | `{"bbox_2d": [x0, y0, x1, y1]}`        | / side of its input in pixels    |
| internvl  | `[[x0, y0, x1, y1]]`                   | / 1000                           |
| loc       | `loc4 loc8 loc12 loc16`, nothing else  | / 32                             |
"""

from __future__ import annotations

import re

from trainables.datasets.images.placement import Box, area
from trainables.datasets.worlds.locations import LOCATION_BINS

_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_FOUR = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")
_CORNERS = re.compile(rf"\({_NUMBER},{_NUMBER}\)\s*,\s*\({_NUMBER},{_NUMBER}\)")
_PATCHES = re.compile(r"<patch_index_(\d{4})>\s*<patch_index_(\d{4})>")
_LOCATIONS = re.compile(r"\s*".join([r"<loc(\d{4})>"] * 4))
_WORDS = re.compile(r"\A\s*" + r"\s+".join([r"loc(\d+)"] * 4) + r"\s*\Z")
_WRITTEN: dict[str, tuple[re.Pattern[str], float]] = {
    "shikra": (_FOUR, 1.0),
    "paligemma": (_LOCATIONS, 1024.0),
    "qwen": (_CORNERS, 1000.0),
    "qwen2.5": (_FOUR, 1.0),
    "internvl": (_FOUR, 1000.0),
    "loc": (_WORDS, LOCATION_BINS),
}
"""How four numbers are written, and what number is the image's side; of `qwen2.5` its side."""
_GRID = 32
_QWEN_CELL = 28
"""Qwen2.5-VL resizes its input to multiples of this."""


def parse_box(answer: str, size: float, form: str = "loc") -> Box | None:
    """The box, in pixels of an image of side `size`, that an answer gives first.

    Returns None for an answer without a box or with an empty one: a wrong answer, not an error.
    """
    unit = _kosmos2(answer) if form == "kosmos2" else _four_numbers(answer, size, form)
    if unit is None:
        return None
    x0, y0, x1, y1 = (value * size for value in unit)
    return (x0, y0, x1, y1) if area((x0, y0, x1, y1)) > 0 else None


def _four_numbers(answer: str, size: float, form: str) -> Box | None:
    pattern, per = _WRITTEN[form]
    if (match := pattern.search(answer)) is None:
        return None
    if form == "qwen2.5":
        per = max(1, round(size / _QWEN_CELL)) * _QWEN_CELL
    a, b, c, d = (float(value) / per for value in match.groups())
    return (b, a, d, c) if form == "paligemma" else (a, b, c, d)


def _kosmos2(answer: str) -> Box | None:
    """From the middle of the first cell to that of the last; whole cells along a side where the
    box is one cell high or wide."""
    match = _PATCHES.search(answer)
    if match is None:
        return None
    (y0, x0), (y1, x1) = (divmod(int(index), _GRID) for index in match.groups())
    if max(y0, y1) >= _GRID:
        return None
    inside = 0.0 if x0 == x1 or y0 == y1 else 0.5
    a, b = (x0 + inside) / _GRID, (y0 + inside) / _GRID
    return (a, b, (x1 + 1 - inside) / _GRID, (y1 + 1 - inside) / _GRID)
