"""The layout that all figures share: a title, panels, each with its legend below it, and notes.

Sizes are in inches. Every figure is as wide as a column, so that figures fit side by side in print
with letters of one size. Titles, legends, labels and notes are broken into lines, so that names of
any length fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.common.looks import Look, line_style
from analysis.figures.common.style import INK, MUTED, STYLE, WARN
from analysis.figures.common.text_size import broken, text_width, whole_pieces

WIDTH: Final = 3.5
"""Width of a figure: a column of a two-column page."""
LEFT: Final = 0.52
"""Room on the left of the axes."""
RIGHT: Final = 0.1
"""Room on the right of the axes."""
TITLE_ROOM: Final = 0.28
"""Room above the axes."""
TICK_ROOM: Final = 0.22
"""Room below the axes for ticks."""
LABEL_ROOM: Final = 0.15
"""Room below the ticks for the axis's name."""
NOTE_ROW: Final = 0.13
NOTES: Final = 6
"""Lines of notes at the most."""
NOTE_SIZE: Final = 6.5
_COLUMN_GAP: Final = 0.22
_ROW_GAP: Final = 0.1
"""Inches: between panels side by side, and between rows of panels."""
_LEGEND_ROW, _LEGEND_LINE = 0.15, 0.12
_HANDLE: Final = 0.42
"""Inches: of a legend's entry beside its label."""
_LINE: Final = 0.125
"""Inches: of a further line of a title, a label or a name along an axis."""
_NAMES: Final = 7.0
"""Points: of the names that a title goes with."""


def entries_of(looks: Iterable[Look], joined: bool = True) -> dict[str, Line2D]:
    """Legend entries by label.

    Args:
        looks: what `Looks.legend` gave.
        joined: whether curves are lines; without, an entry that has no marker is a square.
    """
    entries = {look.label: Line2D([], [], **line_style(look)) for look in looks}
    if not joined:
        for entry in entries.values():
            entry.set(ls="", marker=entry.get_marker() or "s")
    return entries


def stack(
    figure: Figure,
    rows: Sequence[Sequence[Axes]],
    entries: Sequence[Mapping[str, Any]],
    title: str,
    height: float,
    subtitle: str = "",
    notes: Sequence[str] = (),
    remarks: Sequence[str] = (),
    room: float = 0.0,
    full: float = WIDTH,
) -> None:
    """Place rows of panels below each other, each with its legend below it, and notes at the end.

    Args:
        figure: the figure; becomes as high as it must.
        rows: axes from top to bottom, as many in each row.
        entries: of each row's legend, handles by label; where empty there is no legend.
        title: above the first.
        height: of each panel's axes.
        subtitle: names that the title goes with, smaller and in a line of their own.
        notes: lines below everything, in the colour of warnings; wrapped, and cut after `NOTES`.
        remarks: lines below these that warn of nothing.
        room: inches under the last row that the names along its axis need besides the usual.
        full: inches, the figure's width.
    """
    lines = [(line, WARN) for line in _wrapped(notes, full)]
    lines += [(line, MUTED) for line in _wrapped(remarks, full)]
    labels = [broken(row[0].get_ylabel(), height + 0.2, STYLE["font.size"]) for row in rows]
    left = max(LEFT, _ticks_width(row[0] for row in rows) + _LINE * max(map(len, labels)))
    width = (full - left - RIGHT - _COLUMN_GAP * (len(rows[0]) - 1)) / len(rows[0])
    heading = NOTE_ROW * any(axes.get_title("left") for row in rows for axes in row)
    legends = [legend_height(handles, full) for handles in entries]
    foot = 0.06 + NOTE_ROW * len(lines) if lines else 0.02
    under = [TICK_ROOM] * (len(rows) - 1) + [TICK_ROOM + LABEL_ROOM + room]
    room_above = full - left - 0.04
    main = broken(title, room_above, STYLE["axes.titlesize"], bold=True)
    names = broken(subtitle, room_above, _NAMES) if subtitle else []
    head = TITLE_ROOM + _LINE * (len(main) - 1 + len(names))
    total = head + len(rows) * (heading + height) + sum(under) + sum(legends) + foot
    total += _ROW_GAP * (len(rows) - 1)
    figure.set_size_inches(full, total)
    _write_head(figure, main, names, left)
    top = total - head
    for row, handles, label, below, legend in zip(
        rows, entries, labels, under, legends, strict=True
    ):
        bottom = top - heading - height
        for number, axes in enumerate(row):
            x = left + number * (width + _COLUMN_GAP)
            axes.set_position((x / full, bottom / total, width / full, height / total))
        row[0].set_ylabel("\n".join(label))
        top = bottom - below - 0.03
        if handles:
            put_legend(figure, handles, top)
        top -= legend - 0.03 + _ROW_GAP
    figure.align_ylabels([row[0] for row in rows])
    for number, (line, colour) in enumerate(lines):
        position = (0.1 / full, (foot - 0.04 - number * NOTE_ROW) / total)
        figure.text(*position, line, va="top", fontsize=NOTE_SIZE, color=colour)


def _write_head(figure: Figure, main: list[str], names: list[str], left: float) -> None:
    """Write a title, and in smaller letters what it is of, at the top of a figure of its size."""
    width, height = figure.get_size_inches()
    how: dict[str, Any] = {"va": "top", "linespacing": 1.05}
    bold = {"fontsize": STYLE["axes.titlesize"], "fontweight": STYLE["axes.titleweight"]}
    figure.text(left / width, 1 - 0.075 / height, "\n".join(main), color=INK, **bold, **how)
    y = 1 - (0.085 + _LINE * len(main)) / height
    figure.text(left / width, y, "\n".join(names), color=MUTED, fontsize=_NAMES, **how)


def _ticks_width(panels: Iterable[Axes]) -> float:
    """Inches that value axes need for their ticks' labels, and the spaces around these."""
    labels: list[str] = []
    for axes in panels:
        low, high = axes.get_ylim()
        ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
        labels += axes.yaxis.get_major_formatter().format_ticks(ticks)
    return 0.19 + max((text_width(label, STYLE["ytick.labelsize"]) for label in labels), default=0)


def legend_height(labels: Iterable[str], width: float = WIDTH) -> float:
    """Inches that a legend needs in a figure of a width; none without labels."""
    labels = list(labels)
    rows = [len(label) for label in _label_lines(labels, width)]
    if not rows:
        return 0.0
    filled = np.array_split(np.array(rows), columns_of(labels, width))  # as Matplotlib fills them
    high = max(
        int(column.sum() - len(column)) * _LEGEND_LINE + len(column) * _LEGEND_ROW
        for column in filled
    )
    return high + 0.06


def put_legend(figure: Figure, entries: Mapping[str, Any], top: float) -> None:
    """A legend over the whole width of a figure, its labels broken where they must be.

    Args:
        figure: the figure, which has its size.
        entries: handles by label.
        top: of the legend, inches from the figure's bottom.
    """
    width, height = figure.get_size_inches()
    figure.legend(
        list(entries.values()),
        ["\n".join(lines) for lines in _label_lines(entries, width)],
        loc="upper left",
        bbox_to_anchor=(0.06 / width, top / height),
        ncols=columns_of(entries, width),
        handlelength=2.4,
        handletextpad=0.5,
        columnspacing=1.2,
        labelspacing=0.35,
        borderpad=0.1,
        borderaxespad=0.0,
    )


def columns_of(labels: Iterable[str], width: float = WIDTH) -> int:
    """Columns of a legend that a figure's width has room for."""
    names = list(labels)
    widths = np.array([text_width(name, STYLE["legend.fontsize"]) for name in names])
    for columns in range(min(round(4 * width / WIDTH), len(names)), 1, -1):
        filled = np.array_split(widths, columns)  # as Matplotlib fills them
        if sum(_HANDLE + column.max() for column in filled) <= width - 0.06:
            return columns
    return 1


def _label_lines(labels: Iterable[str], width: float) -> list[list[str]]:
    room = width - 0.06 - _HANDLE
    return [broken(label, room, STYLE["legend.fontsize"]) for label in labels]


def name_axis(axes: Axes, names: Sequence[str]) -> float:
    """Names along the bottom, at 0, 1, ...: level and broken where that fits, else slanting.

    Args:
        axes: as wide as a figure's.
        names: any.

    Returns:
        Inches that they need below the axes besides a line.
    """
    size = STYLE["xtick.labelsize"]
    slot = (WIDTH - LEFT - RIGHT) / len(names)
    angle = 0.0
    lines = [broken(name, slot - 0.05, size) for name in names]
    if not whole_pieces(names, slot - 0.05, size) or max(map(len, lines)) > 3:
        lines, angle = _slanting(names, slot, size)
    axes.set_xticks(
        range(len(names)), ["\n".join(name_lines) for name_lines in lines], rotation=angle
    )
    axes.tick_params("x", length=0, labelcolor=INK, color=MUTED)
    across = _LINE * max(map(len, lines))
    if not angle:
        return across - _LINE
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right")
        label.set_verticalalignment("top" if angle < 90 else "center")
        label.set_rotation_mode("anchor")
    along = max(text_width(line, size) for name_lines in lines for line in name_lines)
    return float(along * np.sin(np.radians(angle)) + across * np.cos(np.radians(angle)) - _LINE)


def _slanting(names: Sequence[str], slot: float, size: float) -> tuple[list[list[str]], float]:
    """Lines of each name and the angle at which neighbours do not touch: flat if it can be."""
    lines: list[list[str]] = []
    for angle in (30.0, 45.0, 60.0, 90.0):
        # A name ends under its place, and what is left of that is its room.
        rooms = [LEFT - 0.08 + (i + 0.5) * slot for i in range(len(names))]
        rooms = [min(room / max(0.01, np.cos(np.radians(angle))), 2.6) for room in rooms]
        lines = [broken(name, room, size) for name, room in zip(names, rooms, strict=True)]
        if max(map(len, lines)) * _LINE <= slot * np.sin(np.radians(angle)):
            return lines, angle
    return lines, 90.0


def _wrapped(notes: Sequence[str], width: float) -> list[str]:
    shown = list(notes[: NOTES - 1] if len(notes) > NOTES else notes)
    if len(shown) < len(notes):
        shown.append(f"and {len(notes) - len(shown)} more")
    # At screen resolution hinted letters are up to 5 % wider than their advances.
    broke = [broken(note, width - 0.4, NOTE_SIZE) for note in shown]
    return [
        line if i == 0 else f"   {line}"
        for note_lines in broke
        for i, line in enumerate(note_lines)
    ]
