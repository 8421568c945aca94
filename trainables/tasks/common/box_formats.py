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
from collections.abc import Callable

from trainables.datasets.images.placement import Box, area
from trainables.datasets.scenes.captions import LOCATION_BINS

_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_FOUR = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")
_CORNERS = re.compile(rf"\({_NUMBER},{_NUMBER}\)\s*,\s*\({_NUMBER},{_NUMBER}\)")
_PATCHES = re.compile(r"<patch_index_(\d{4})>\s*<patch_index_(\d{4})>")
_LOCATIONS = re.compile(r"\s*".join([r"<loc(\d{4})>"] * 4))
_GRID = 32
_QWEN_CELL = 28
"""Qwen2.5-VL resizes its input to multiples of this."""


def parse_box(answer: str, size: float, form: str = "loc") -> Box | None:
    """The box, in pixels of an image of side `size`, that an answer gives first.

    Returns None for an answer without a box or with an empty one: a wrong answer, not an error.
    """
    unit = _PARSERS[form](answer, size)
    if unit is None:
        return None
    x0, y0, x1, y1 = (value * size for value in unit)
    return (x0, y0, x1, y1) if area((x0, y0, x1, y1)) > 0 else None


def _numbers(pattern: re.Pattern[str], answer: str, per: float) -> Box | None:
    match = pattern.search(answer)
    if match is None:
        return None
    a, b, c, d = (float(value) / per for value in match.groups())
    return (a, b, c, d)


def _shikra(answer: str, size: float) -> Box | None:
    return _numbers(_FOUR, answer, 1.0)


def _qwen(answer: str, size: float) -> Box | None:
    return _numbers(_CORNERS, answer, 1000.0)


def _qwen25(answer: str, size: float) -> Box | None:
    return _numbers(_FOUR, answer, max(1, round(size / _QWEN_CELL)) * _QWEN_CELL)


def _internvl(answer: str, size: float) -> Box | None:
    return _numbers(_FOUR, answer, 1000.0)


def _paligemma(answer: str, size: float) -> Box | None:
    box = _numbers(_LOCATIONS, answer, 1024.0)
    return None if box is None else (box[1], box[0], box[3], box[2])


def _kosmos2(answer: str, size: float) -> Box | None:
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


def _loc(answer: str, size: float) -> Box | None:
    bins = [re.fullmatch(r"loc(\d+)", word) for word in answer.split()]
    if len(bins) != 4 or not all(bins):
        return None
    a, b, c, d = (int(match.group(1)) / LOCATION_BINS for match in bins if match)
    return (a, b, c, d)


_PARSERS: dict[str, Callable[[str, float], Box | None]] = {
    "shikra": _shikra,
    "kosmos2": _kosmos2,
    "paligemma": _paligemma,
    "qwen": _qwen,
    "qwen2.5": _qwen25,
    "internvl": _internvl,
    "loc": _loc,
}
