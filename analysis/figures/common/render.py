"""Drawings as Matplotlib figures, and figures as files."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis.figures.common.drawing import (
    Drawing,
    Group,
    Panel,
    Series,
    log_range,
    log_ticks,
    only_value,
    with_subtitle,
)
from analysis.figures.common.layout import (
    LEFT,
    NOTE_SIZE,
    RIGHT,
    WIDTH,
    entries_of,
    name_axis,
    stack,
)
from analysis.figures.common.looks import line_style
from analysis.figures.common.style import MUTED, PALE, STYLE, WARN
from analysis.figures.common.text_size import text_width
from analysis.io.files import join, write_bytes

ENDINGS: Final = ("png", "svg", "pdf")
HEIGHT: Final = 2.05
"""Inches: of the axes of a figure of one panel."""
PANEL_HEIGHT: Final = 1.6
"""And of several."""
NEAR: Final = 1.1
"""The factor that an axis spans at least: what differs less is the same rate."""
OTHER_CURVES_LABEL: Final = "the other curves"
ABSENT: Final = "no number"
STEPS: Final = (1, 2, 2.5, 5, 10)
"""Between ticks, times powers of ten."""
LOOSE: Final = 0.1
"""Margin of a panel of loose points, as a share: markers do not touch the frame."""
MANY_POINTS: Final = 300
"""Points of a panel above which they are drawn as pixels."""


@dataclass(frozen=True)
class Plot:
    """A drawn figure.

    Attributes:
        name: file name without extension, e.g. `vqa`.
        title: what it shows, and of what.
        alt: the figure in words, for those who do not see it.
        figure: Matplotlib's, to change and to save again.
        drawing: what it shows, for other ways to draw it; None where there is none.
    """

    name: str
    title: str
    alt: str
    figure: Figure
    drawing: Drawing | None = None

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
    """A name with only letters, digits, dots and dashes, for a file."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")


def draw(drawing: Drawing) -> Plot:
    """The figure as Matplotlib draws it."""
    with styled():
        figure = Figure()
        rows: list[list[Axes]] = []
        entries: list[dict[str, Any]] = []
        shared: dict[str, Any] = {}
        for panels in drawing.rows:
            first: Axes | None = None
            for groups in zip(*(panel.groups for panel in panels), strict=True):
                rows.append([])
                joined = any(series.joined for series in panels[0].series)
                entries.append(entries_of(groups[0].legend, joined))
                for panel, group in zip(panels, groups, strict=True):
                    axes = figure.add_subplot(sharey=first)
                    axes.tick_params("y", labelleft=not rows[-1])
                    first = first or axes
                    rows[-1].append(axes)
                    shared |= _draw_panel(axes, panel, group, drawing.names)
            if first is not None:
                first.set_ylabel(panels[0].label)
                limits = zip(first.get_ylim(), panels[0].limits, (max, min), strict=True)
                first.set_ylim(*(inner(end, limit) for end, limit, inner in limits))
                if (value := only_value(panels)) is not None:
                    first.set_yticks([value])
        if any(len(panel.groups) > 1 for panels in drawing.rows for panel in panels):
            entries[-1][OTHER_CURVES_LABEL] = Line2D([], [], color=PALE, lw=0.8)
        entries[-1] |= shared
        room = _finish_x(drawing, rows)
        height = drawing.height or (HEIGHT if len(rows) == 1 else PANEL_HEIGHT)
        full = drawing.width or WIDTH
        notes = (drawing.warnings, drawing.remarks)
        stack(figure, rows, entries, drawing.title, height, drawing.subtitle, *notes, room, full)
    title = with_subtitle(drawing.title, drawing.subtitle)
    return Plot(drawing.name, title, drawing.alt, figure, drawing)


def _draw_panel(axes: Axes, panel: Panel, group: Group, names: Sequence[str]) -> dict[str, Line2D]:
    """Draw one panel; returns the levels by their labels."""
    if not panel.series and not panel.levels:
        axes.set_axis_off()
        return {}
    axes.grid(True, axis="y")
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
    axes.set_title(panel.heading, fontsize=7, fontweight="normal", color=MUTED, pad=2.5)
    many = sum(np.size(series.x) for series in panel.series) > MANY_POINTS
    for series in panel.series:
        if series.owner in group.owners:
            _draw_series(axes, series, rasterized=many and not series.joined)
        elif series.joined:
            axes.plot(series.x, series.y, color=PALE, lw=0.8, zorder=1.2)
    if panel.series and not any(series.joined for series in panel.series):
        axes.margins(LOOSE)
    lines = {}
    for level in panel.levels:
        how: dict[str, Any] = {"color": level.colour, "ls": level.line, "lw": 1.0}
        lines[level.label] = axes.axhline(level.value, zorder=1.5, **how)
        if np.isfinite(level.low):
            axes.axhspan(level.low, level.high, color=level.colour, alpha=0.07, lw=0, zorder=1)
    slot = (WIDTH - LEFT - RIGHT) / max(1, len(names)) / max(1, len(panel.series))
    upright = text_width(ABSENT, NOTE_SIZE) > slot
    for x in panel.absent:
        axes.text(
            *(x, 0.1, ABSENT),
            transform=axes.get_xaxis_transform(),
            rotation=90 if upright else 0,
            color=WARN,
            fontsize=NOTE_SIZE,
            ha="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )
    return {label: line for label, line in lines.items() if label}


def _draw_series(axes: Axes, series: Series, rasterized: bool) -> None:
    style = line_style(series.look)
    style |= {} if series.joined else {"ls": ""}
    style |= {"markevery": (2, 6)} if series.dense else {}
    # Of very many points a picture: as paths they would be most of the file.
    axes.plot(series.x, series.y, zorder=3, rasterized=rasterized, **style)
    ends = (series.x, *series.interval())
    if np.isnan(ends[1]).all():
        return
    if series.joined and np.size(series.x) > 1:
        axes.fill_between(*ends, color=series.look.colour, alpha=0.14, lw=0, zorder=2)
    else:
        axes.vlines(*ends, color=series.look.colour, lw=1.1, zorder=2)


def _finish_x(drawing: Drawing, rows: Sequence[Sequence[Axes]]) -> float:
    """Range, ticks and labels along x; returns the inches that names need below the usual."""
    for number, last in enumerate(rows[-1]):
        panels = [panels[number] for panels in drawing.rows]
        same = [p for row in drawing.rows for p in row if p.x_label == panels[-1].x_label]
        shared = panels if drawing.names else [*panels, *same]
        values = [float(x) for panel in shared for s in panel.series for x in np.ravel(s.x)]
        for row in rows:
            if drawing.names:
                row[number].set_xlim(-0.5, len(drawing.names) - 0.5)
                row[number].set_xticks(range(len(drawing.names)), [""] * len(drawing.names))
                row[number].tick_params("x", length=0)
            else:
                _scale(row[number], values, drawing.logarithmic, 7 if len(row) == 1 else 4)
        last.set_xlabel(panels[-1].x_label)
    return name_axis(rows[-1][0], drawing.names) if drawing.names else 0.0


def _scale(axes: Axes, values: Sequence[float], logarithmic: bool, most: int) -> None:
    """Ticks at plain numbers; on a logarithmic axis too."""
    if not values:
        axes.set_xticks([])
        return
    axes.xaxis.set_major_locator(MaxNLocator(most, steps=STEPS))
    ends = log_range(values) if logarithmic else None
    if ends is not None:
        axes.set_xscale("log")
        axes.set_xlim(*ends)
        axes.xaxis.set_major_locator(FixedLocator(log_ticks(*ends, most + 1)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    elif min(values) > 0 and max(values) / min(values) < NEAR:
        middle = np.sqrt(max(values) * min(values))
        axes.set_xlim(middle / np.sqrt(NEAR), middle * np.sqrt(NEAR))
        axes.xaxis.set_major_locator(MaxNLocator(4))
