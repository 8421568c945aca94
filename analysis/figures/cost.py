"""What a saving costs: kMAC per pixel at the receiver against bits saved.

complexity.json (of `trainables.commands.complexity`), the comparison --> figure
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis.curves.assemble import Assembled
from analysis.figures.layout import entries_of, new_axes, of_names, stack
from analysis.figures.looks import Look, Looks
from analysis.figures.rate_accuracy import HEIGHT
from analysis.figures.render import Plot, file_name, line_style, styled
from analysis.io.complexity import Costs
from analysis.io.frames import rows_of
from analysis.stats.costs import costs_and_savings

TITLE: Final = "Complexity against bits saved"
LABEL: Final = "kMAC/pixel from bytes to the MLLM's encoder"


def draw_costs(assembled: Assembled, comparison: pd.DataFrame, costs: Costs) -> list[Plot]:
    """A figure per MLLM: bits saved over kMAC per pixel.

    Args:
        assembled: the sweep assembled.
        comparison: what `compare` gave.
        costs: what `read_costs` gave.

    Returns:
        Nothing where no curve has both numbers.
    """
    looks, anchor = Looks.of(assembled), assembled.sweep.anchor
    frame = costs_and_savings(assembled, comparison, costs)
    several = frame["mllm"].nunique() > 1
    out = []
    with styled():
        for mllm, rows in frame.groupby("mllm", sort=False):
            of = str(mllm) if several else ""
            name = file_name(f"complexity-{mllm}" if several else "complexity")
            figure = _figure(rows, looks, looks.scenario(anchor), of)
            out.append(Plot(name, of_names(TITLE, of), _words(rows, looks, of), figure))
    return out


def _figure(frame: pd.DataFrame, looks: Looks, anchor: Look, of: str) -> Figure:
    figure = Figure()
    axes = new_axes(figure)
    for row in rows_of(frame):
        look = looks.owner(row.codec, row.scenario, row.variant)
        if np.isfinite(row.low):
            axes.vlines(row.own, row.low, row.high, color=look.colour, lw=1.3, zorder=2, alpha=0.6)
        style = {**line_style(look), "ls": "", "markersize": 6.5}
        axes.plot(row.own, row.saved, zorder=3, **style)
    axes.axhline(0, color=anchor.colour, lw=0.9, ls="--", zorder=1.5)
    axes.set_ylabel("bits saved (%)")
    axes.set_xlabel(LABEL)
    if frame["own"].min() > 0 and frame["own"].max() / frame["own"].min() >= 4:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.set_xlim(frame["own"].min() / 1.3, frame["own"].max() * 1.3)
    owners = [(row.codec, row.scenario, row.variant) for row in rows_of(frame)]
    stack(figure, [axes], [entries_of(looks, owners, lines=False)], TITLE, HEIGHT, of)
    return figure


def _words(frame: pd.DataFrame, looks: Looks, of: str) -> str:
    words = [
        f"{looks.owner(row.codec, row.scenario, row.variant).label} {row.own:.3g} kMAC/pixel, "
        f"{round(row.saved)} % saved"
        for row in rows_of(frame)
    ]
    title = of_names(f"Bits saved on the mean over tasks over {LABEL}", of)
    return f"{title}: " + "; ".join(words) + "."
