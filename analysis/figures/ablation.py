"""What a space's variants change: a figure over the variants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.curves.assemble import Assembled
from analysis.figures.layout import (
    LEFT,
    NOTE_SIZE,
    RIGHT,
    WIDTH,
    name_axis,
    new_axes,
    of_names,
    stack,
)
from analysis.figures.looks import Looks
from analysis.figures.render import Plot, file_name, line_style, styled
from analysis.figures.style import WARN
from analysis.figures.text_size import text_width
from analysis.io.frames import rows_of
from analysis.stats.variants import ablation

PANEL: Final = 1.25
"""Inches: height of one panel's axes."""
TITLE: Final = "What the variants change"
NOTHING: Final = "no number"
PANELS: Final = {
    "accuracy": "mean accuracy",
    "bd_rate": "BD-rate (%)",
    "psnr": "PSNR (dB)",
}


def draw_ablation(assembled: Assembled, comparison: pd.DataFrame) -> list[Plot]:
    """A figure for each codec and MLLM: accuracy, BD-rate and PSNR over the variants.

    PSNR only where it varies. Nothing at all for a space without variants.

    Args:
        assembled: the sweep assembled.
        comparison: what `compare` gave.
    """
    looks, names = looks_of(assembled), list(assembled.sweep.variants)
    out = []
    with styled():
        for name, of, rows in figures_of(ablation(assembled, comparison)):
            figure = _figure(rows, names, of, looks, assembled.sweep.anchor)
            words = _words(rows, of, looks)
            out.append(Plot(name, of_names(TITLE, of), words, figure))
    return out


def figures_of(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Name, codec and MLLM (empty where there is one of each), and rows of every figure.

    Args:
        frame: what `ablation` gave.
    """
    several = frame[["mllm", "codec"]].drop_duplicates().shape[0] > 1
    for (mllm, codec), rows in frame.groupby(["mllm", "codec"], sort=False):
        if (rows["variant"] != "").any():
            of = f"{codec}, {mllm}" if several else ""
            yield file_name(f"ablation-{codec}-{mllm}" if several else "ablation"), of, rows


def panels_of(rows: pd.DataFrame) -> list[str]:
    """The panels that a figure's rows fill, of `PANELS`."""
    varied = rows[rows["variant"] != ""]
    names = ["accuracy"]
    names += ["bd_rate"] if varied["bd_rate"].notna().any() else []
    return names + (["psnr"] if _varies(varied) else [])


def aside(number: int, of: int) -> float:
    """Scenarios side by side, so that their intervals do not cover each other."""
    return 0.14 * (number - (of - 1) / 2)


def looks_of(assembled: Assembled) -> Looks:
    """The looks without variants, which are on the axis."""
    owners = [(curve.codec, curve.scenario) for curve in assembled.curves]
    return Looks(owners, scenarios=assembled.sweep.scenarios)


def _figure(rows: pd.DataFrame, variants: list[str], of: str, looks: Looks, anchor: str) -> Figure:
    names = panels_of(rows)
    scenarios = list(dict.fromkeys(rows.loc[rows["variant"] != "", "scenario"]))
    figure = Figure()
    panels = [new_axes(figure) for _ in names]
    shared: dict[str, Line2D] = {}
    for axes, panel in zip(panels, names, strict=True):
        shared |= _panel(axes, rows, panel, variants, scenarios, looks, anchor)
        axes.set_xticks(range(len(variants)), [""] * len(variants))
        axes.tick_params("x", length=0)
    room = name_axis(panels[-1], variants)
    entries = [*({} for _ in panels[1:]), shared]
    stack(figure, panels, entries, TITLE, PANEL, of, room=room)
    return figure


def _panel(
    axes: Axes,
    frame: pd.DataFrame,
    panel: str,
    variants: list[str],
    scenarios: list[str],
    looks: Looks,
    anchor: str,
) -> dict[str, Line2D]:
    """Draw one panel; returns the legend's entries."""
    entries: dict[str, Line2D] = {}
    axes.set_ylabel(PANELS[panel])
    axes.set_xlim(-0.5, len(variants) - 0.5)
    if panel == "bd_rate":
        axes.axhline(0, color=looks.scenario(anchor).colour, lw=1.0, ls="--", zorder=1.5)
    for row in rows_of(frame[frame["variant"] == ""]):
        # What no variant touches: a line to measure the others by.
        if panel != "bd_rate" and np.isfinite(getattr(row, panel)):
            look = looks.scenario(row.scenario)
            how: dict[str, Any] = {"color": look.colour, "ls": look.line, "lw": 1.0, "zorder": 1.5}
            entries[look.label] = axes.axhline(getattr(row, panel), **how)
    for number, scenario in enumerate(scenarios):
        if (panel, scenario) == ("bd_rate", anchor):  # the line at 0
            continue
        look = looks.scenario(scenario)
        rows = frame[(frame["scenario"] == scenario) & (frame["variant"] != "")]
        at = np.array([variants.index(name) for name in rows["variant"]], dtype=np.float64)
        at += aside(number, len(scenarios))
        value = rows[panel].to_numpy(dtype=np.float64)
        if f"{panel}_low" in rows:
            low, high = (
                rows[f"{panel}_{end}"].to_numpy(dtype=np.float64) for end in ("low", "high")
            )
            axes.vlines(at, low, high, color=look.colour, lw=1.2, zorder=2.5)
        axes.plot(at, value, color=look.colour, lw=0.9, alpha=0.45, zorder=2)
        style = {**line_style(look), "ls": ""}
        (entries[look.label],) = axes.plot(at, value, zorder=3, **style)
        for x in at[np.isnan(value)]:
            where = axes.get_xaxis_transform()
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
            how = {"color": WARN, "fontsize": NOTE_SIZE, "ha": "center", "bbox": box}
            slot = (WIDTH - LEFT - RIGHT) / len(variants) / len(scenarios)
            upright = text_width(NOTHING, NOTE_SIZE) > slot
            axes.text(x, 0.1, NOTHING, transform=where, rotation=90 if upright else 0, **how)
    return entries


def _varies(varied: pd.DataFrame) -> bool:
    spread = varied.groupby("scenario")["psnr"].agg(lambda values: values.max() - values.min())
    return bool((spread > 0.01).any())


def _words(rows: pd.DataFrame, of: str, looks: Looks) -> str:
    words = [
        f"{looks.scenario(row.scenario).label} {row.variant} {row.accuracy:.2f}"
        + (f", BD-rate {row.bd_rate:+.0f} %" if np.isfinite(row.bd_rate) else "")
        for row in rows_of(rows[rows["variant"] != ""])
    ]
    title = of_names("Mean accuracy over tasks and rates, and BD-rate, by variant", of)
    return f"{title}: " + "; ".join(words) + "."
