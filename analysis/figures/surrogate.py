"""Does the surrogate predict the task? A figure of its terms against each task's metric."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from analysis.curves.assemble import Assembled
from analysis.figures.layout import (
    LABEL_ROOM,
    LEFT,
    RIGHT,
    TICK_ROOM,
    WIDTH,
    entries_of,
    head_height,
    legend_height,
    of_names,
    put_legend,
    write_head,
)
from analysis.figures.looks import Looks
from analysis.figures.render import Plot, file_name, line_style, styled
from analysis.figures.style import MUTED, STYLE
from analysis.figures.text_size import broken
from analysis.io.frames import rows_of
from analysis.stats.surrogate import TERMS, points_of, signed, surrogate, surrogate_sentence

TITLE: Final = "Does the surrogate predict the task?"
_MANY: Final = 300
_PANEL: Final = 1.15
_GAP: Final = 0.42


def draw_surrogate(assembled: Assembled, frame: pd.DataFrame | None = None) -> list[Plot]:
    """A figure per MLLM: a row per task, a column per term; nothing where no point has a term.

    Args:
        assembled: the sweep assembled.
        frame: what `surrogate` gave, where the caller has it already.
    """
    frame = surrogate(assembled) if frame is None else frame
    several = frame["mllm"].nunique() > 1
    out = []
    with styled():
        for mllm, rows in frame.groupby("mllm", sort=False):
            of = str(mllm) if several else ""
            name = file_name(f"surrogate-{mllm}" if several else "surrogate")
            title = of_names("Surrogate terms against the tasks' metrics", of)
            words = f"{title}. {surrogate_sentence(rows)}"
            out.append(Plot(name, of_names(TITLE, of), words, _figure(assembled, rows, of)))
    return out


def _figure(assembled: Assembled, frame: pd.DataFrame, of: str) -> Figure:
    looks = Looks.of(assembled)
    terms = list(dict.fromkeys(frame["term"]))
    tasks = list(dict.fromkeys(frame["task"]))
    figure = Figure()
    owners: list[tuple[str, str, str]] = []
    cells: dict[tuple[int, int], Axes] = {}
    left, gap = LEFT + 0.1, 0.22
    for row in rows_of(frame):
        axes = figure.add_subplot()
        cells[tasks.index(row.task), terms.index(row.term)] = axes
        points = points_of(assembled, row.mllm, row.task, row.metric, row.term)
        for names, rows in points.groupby(["codec", "scenario", "variant"], sort=False):
            codec, scenario, variant = map(str, names)
            look = looks.owner(codec, scenario, variant)
            style = {**line_style(look), "ls": ""}
            # Of very many points a picture: as paths they would be most of the file.
            axes.plot(rows[row.term], rows["value"], rasterized=len(points) > _MANY, **style)
            owners.append((codec, scenario, variant))
        _frame_cell(axes, row, points[row.term])
        if row.term == terms[0]:
            label_parts = [f"{row.task}", row.metric.replace("_", " ")]
            lines = [
                part
                for label_part in label_parts
                for part in broken(label_part, _PANEL + 0.3, STYLE["font.size"])
            ]
            left = max(left, LEFT + 0.12 * (len(lines) - 1))
            axes.set_ylabel("\n".join(lines))
        if row.task == tasks[-1]:
            axes.set_xlabel(f"error of the {TERMS[row.term]}")
    entries = entries_of(looks, owners, lines=False)
    legend = legend_height(entries)
    head = head_height(TITLE, of, left) + 0.14
    below = legend + TICK_ROOM + LABEL_ROOM
    height = head + len(tasks) * _PANEL + (len(tasks) - 1) * _GAP + below
    width = (WIDTH - left - RIGHT - gap * (len(terms) - 1)) / len(terms)
    figure.set_size_inches(WIDTH, height)
    for (i, j), axes in cells.items():
        bottom = height - head - (i + 1) * _PANEL - i * _GAP
        x = left + j * (width + gap)
        axes.set_position((x / WIDTH, bottom / height, width / WIDTH, _PANEL / height))
        if j:
            axes.sharey(cells.get((i, 0), axes))
            axes.tick_params("y", labelleft=False)
    write_head(figure, TITLE, of, left)
    put_legend(figure, entries, legend, handle=1.2)
    return figure


def _frame_cell(axes: Axes, row: Any, x: pd.Series) -> None:
    axes.grid(True, axis="y")
    axes.set_axisbelow(True)
    heading = f"n = {row.n_points}"
    if np.isfinite(row.spearman):
        heading = f"ρ {signed(row.spearman)}, τ {signed(row.kendall)}, {heading}"
    axes.set_title(heading, fontsize=7, fontweight="normal", color=MUTED, pad=2.5)
    positive = x[x > 0]
    if len(positive) == len(x) and positive.max() / positive.min() >= 4:
        axes.set_xscale("log")
        decades = np.log10(positive.max() / positive.min())
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(5))
