"""A figure as files, and the layout that all figures share: panels, each with its legend below it.

Sizes are in inches and every figure is as wide as a column, so that figures stand side by side in
print with letters of one size. Nothing is laid out by measuring text: that would take most of a
report's time.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from textwrap import wrap
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.looks import INK, MUTED, STYLE, WARN, Look, Looks
from analysis.points import join, write_bytes

WIDTH: Final = 3.5
"""Of a figure: a column of a two-column page."""
LEFT: Final = 0.52
RIGHT: Final = 0.1
TITLE_ROOM: Final = 0.28
TICK_ROOM: Final = 0.22
LABEL_ROOM: Final = 0.15
"""Left and right of the axes, above them, and below them for ticks and for the axis's name."""
LEGEND_ROW: Final = 0.15
NOTE_ROW: Final = 0.13
NOTE_WIDTH: Final = 64
"""Characters."""
NOTES: Final = 6
"""Lines of notes at the most."""
_LETTER, _HANDLE = 0.055, 0.46
ENDINGS: Final = ("png", "svg", "pdf")


@dataclass(frozen=True)
class Plot:
    """A drawn figure.

    Attributes:
        name: file name without extension, e.g. `vqa`.
        title: what it shows.
        alt: the figure in words, for those who do not see it.
        figure: Matplotlib's, to change and to save again.
    """

    name: str
    title: str
    alt: str
    figure: Figure

    @cached_property
    def png(self) -> bytes:
        """Bytes of the PNG, 300 dpi."""
        return self._saved("png", facecolor="white")

    @cached_property
    def svg(self) -> str:
        """Text of the SVG; the background is transparent."""
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        return self._saved("svg", transparent=True, metadata=nothing).decode()

    @cached_property
    def pdf(self) -> bytes:
        """Bytes of the PDF, its fonts embedded."""
        nothing = dict.fromkeys(("Creator", "Producer", "CreationDate"))
        return self._saved("pdf", transparent=True, metadata=nothing)

    def save(self, directory: str, endings: Sequence[str] = ENDINGS) -> list[str]:
        """Write the files to a directory or fsspec URI; returns their paths.

        Args:
            directory: where to; made if it is not there.
            endings: of `png`, `svg`, `pdf`.
        """
        written = []
        for ending in endings:
            data = getattr(self, ending)
            written.append(join(directory, f"{self.name}.{ending}"))
            write_bytes(written[-1], data.encode() if isinstance(data, str) else data)
        return written

    def _repr_png_(self) -> bytes:
        return self.png

    def _saved(self, form: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        with styled():
            self.figure.savefig(buffer, format=form, **options)
        return buffer.getvalue()


def styled() -> Any:
    """Context in which figures are drawn."""
    return rc_context(STYLE)  # type: ignore[arg-type]  # the stubs want literal keys


def file_name(name: str) -> str:
    """A name as it can stand in a file's."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")


def new_axes(figure: Figure) -> Axes:
    """Axes with the grid that figures have; `stack` places them."""
    axes = figure.add_subplot()
    axes.grid(True, axis="y")
    axes.set_axisbelow(True)
    return axes


def line_style(look: Look) -> dict[str, Any]:
    """A look as Matplotlib's arguments for a line with markers."""
    return {
        "color": look.colour,
        "marker": look.marker,
        "ls": look.line,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
        # Stars and letters are drawn smaller than other markers of the same size.
        "markersize": 6.6 if look.marker.startswith(("*", "$")) else STYLE["lines.markersize"],
    }


def entries_of(looks: Looks, owners: Iterable[tuple[str, str, str]]) -> dict[str, Line2D]:
    """Legend entries of curves by codec, scenario and variant, as `Looks.legend` chooses them."""
    return {look.label: Line2D([], [], **line_style(look)) for look in looks.legend(owners)}


def stack(
    figure: Figure,
    panels: Sequence[Axes],
    entries: Sequence[Mapping[str, Any]],
    title: str,
    height: float,
    notes: Sequence[str] = (),
    room: float = 0.0,
) -> None:
    """Place panels below each other, each with its legend below it, and notes at the end.

    Args:
        figure: the figure; becomes as high as it must.
        panels: axes from top to bottom.
        entries: of each panel's legend, handles by label; where empty there is no legend.
        title: above the first.
        height: of each panel's axes.
        notes: lines below everything, in the colour of warnings; wrapped, and cut after `NOTES`.
        room: inches under the last panel that the names along its axis need besides the usual.
    """
    said = _wrapped(notes)
    blocks = []
    for number, own in enumerate(entries):
        last = number == len(panels) - 1
        under = TICK_ROOM + (LABEL_ROOM + room if last else 0.0)
        blocks.append((under, LEGEND_ROW * -(-len(own) // columns_of(own)) + 0.06 if own else 0.0))
    foot = 0.06 + NOTE_ROW * len(said) if said else 0.02
    gap = 0.1
    total = TITLE_ROOM + len(panels) * height + sum(map(sum, blocks)) + foot
    total += gap * (len(panels) - 1)
    figure.set_size_inches(WIDTH, total)
    top = total - TITLE_ROOM
    for axes, own, (under, legend) in zip(panels, entries, blocks, strict=True):
        bottom = top - height
        width = WIDTH - LEFT - RIGHT
        axes.set_position((LEFT / WIDTH, bottom / total, width / WIDTH, height / total))
        top = bottom - under - 0.03
        if own:
            figure.legend(
                list(own.values()),
                list(own),
                loc="upper left",
                bbox_to_anchor=(0.06 / WIDTH, top / total),
                ncols=columns_of(own),
                handlelength=2.4,
                handletextpad=0.5,
                columnspacing=1.2,
                labelspacing=0.35,
                borderpad=0.1,
                borderaxespad=0.0,
            )
        top -= legend - 0.03 + gap
    panels[0].set_title(title)
    figure.align_ylabels(panels)
    if said:
        at = (0.1 / WIDTH, (foot - 0.04) / total)
        figure.text(*at, "\n".join(said), va="top", fontsize=6.5, color=WARN)


def columns_of(labels: Iterable[str]) -> int:
    """Columns of a legend that a figure's width has room for."""
    names = list(labels)
    for columns in range(min(4, len(names)), 1, -1):
        filled = np.array_split(np.array(names), columns)  # as Matplotlib fills them
        if sum(_HANDLE + _LETTER * max(map(len, own)) for own in filled) <= WIDTH - 0.06:
            return columns
    return 1


def tick_style(axes: Axes) -> None:
    """An axis of names rather than numbers along the bottom."""
    axes.tick_params("x", length=0, labelcolor=INK, color=MUTED)


def _wrapped(notes: Sequence[str]) -> list[str]:
    shown = list(notes[: NOTES - 1] if len(notes) > NOTES else notes)
    if len(shown) < len(notes):
        shown.append(f"and {len(notes) - len(shown)} more")
    return [line for note in shown for line in wrap(note, NOTE_WIDTH, subsequent_indent="   ")]
