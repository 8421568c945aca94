"""The interactive figure of the variants: the panels of `draw_ablation` for Plotly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from textwrap import wrap
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.figures.ablation import (
    PANELS,
    TITLE,
    aside,
    figures_of,
    looks_of,
    panels_of,
)
from analysis.figures.looks import Looks
from analysis.io.frames import rows_of
from analysis.report.summary import with_interval
from analysis.report.traces import (
    DASHES,
    Live,
    axis_of,
    bars_of,
    figure_of,
    level_of,
    line_of,
    marker_of,
)
from analysis.stats.variants import ablation

PANEL: Final = 150
"""Pixels: height of a panel's axes."""
_GAP: Final = 26
_NARROW: Final = 290
"""Pixels: of the axes on a phone, where the names along them must be readable too."""
_LETTER: Final = 6.4
_LINE: Final = 15
"""Pixels: of a letter and of a line of names."""


def live_ablation(assembled: Assembled, comparison: pd.DataFrame) -> list[Live]:
    """What the variants change: the figures of `draw_ablation`.

    Args:
        assembled: the sweep assembled.
        comparison: what `compare` gave.
    """
    looks, variants = looks_of(assembled), list(assembled.sweep.variants)
    anchor = assembled.sweep.anchor
    return [
        Live(name, _figure(rows, of, variants, looks, anchor))
        for name, of, rows in figures_of(ablation(assembled, comparison))
    ]


def _figure(
    rows: pd.DataFrame, of: str, variants: list[str], looks: Looks, anchor: str
) -> dict[str, Any]:
    names = panels_of(rows)
    figure = figure_of([], TITLE, of, "", "", [])
    layout = figure["layout"]
    room, ticks = _name_axis(variants)
    layout["margin"]["b"] = room
    whole = len(names) * PANEL + (len(names) - 1) * _GAP
    layout["height"] = layout["margin"]["t"] + whole + room
    seen: set[str] = set()
    layout["annotations"] = []
    for place, panel in enumerate(names):
        number = "" if place == 0 else str(place + 1)
        top = 1 - place * (PANEL + _GAP) / whole
        domain = [max(0.0, top - PANEL / whole), top]
        layout[f"yaxis{number}"] = axis_of(PANELS[panel]) | {"domain": domain}
        for trace in _traces(rows, panel, variants, looks, anchor):
            trace["yaxis"] = f"y{number}"
            trace["showlegend"] = trace["name"] not in seen
            seen.add(trace["name"])
            figure["data"].append(trace)
        layout["annotations"] += _without_number(rows, panel, variants, f"y{number} domain", anchor)
    last = "" if len(names) == 1 else str(len(names))
    layout["xaxis"] |= {**ticks, "anchor": f"y{last}", "range": [-0.5, len(variants) - 0.5]}
    return figure


def _traces(
    frame: pd.DataFrame, panel: str, variants: list[str], looks: Looks, anchor: str
) -> Iterable[dict[str, Any]]:
    """Traces of a panel: levels of scenarios without variants, then scenarios over the variants."""
    ends = (-0.5, len(variants) - 0.5)
    if panel == "bd_rate":
        look = looks.scenario(anchor)
        yield level_of(0.0, look.label, look.colour, "dash", ends)
    for row in rows_of(frame[frame["variant"] == ""]):
        value = getattr(row, panel)
        if panel != "bd_rate" and np.isfinite(value):
            look = looks.scenario(row.scenario)
            yield level_of(value, look.label, look.colour, DASHES[look.line], ends)
    scenarios = list(dict.fromkeys(frame.loc[frame["variant"] != "", "scenario"]))
    for number, scenario in enumerate(scenarios):
        if (panel, scenario) == ("bd_rate", anchor):  # the line at 0
            continue
        look = looks.scenario(scenario)
        rows = frame[
            (frame["scenario"] == scenario) & (frame["variant"] != "") & frame[panel].notna()
        ]
        at = [variants.index(name) + aside(number, len(scenarios)) for name in rows["variant"]]
        trace = line_of(look, at, rows[panel]) | {"marker": marker_of(look, 9)}
        trace["line"] = {**trace["line"], "width": 1, "dash": "solid"}
        if f"{panel}_low" in rows:
            trace |= bars_of(rows[panel], rows[f"{panel}_low"], rows[f"{panel}_high"])
        trace["text"] = [_words(row) for row in rows_of(rows)]
        trace["hovertemplate"] = "%{text}"
        yield trace


def _words(row: Any) -> str:
    """The text shown when the pointer is over a variant."""
    accuracy = f"accuracy {row.accuracy:.3f}"
    if np.isfinite(row.accuracy_low):
        accuracy += f" [{row.accuracy_low:.3f}, {row.accuracy_high:.3f}]"
    rate = with_interval(row.bd_rate, row.bd_rate_low, row.bd_rate_high, sign=True)
    lines = [
        row.variant,
        *wrap(row.settings or "unchanged settings", 60),
        accuracy,
        f"BD-rate {rate or 'has no number'}",
        f"PSNR {row.psnr:.2f} dB" if np.isfinite(row.psnr) else "",
        f"{row.n_rates} rates, mean {row.bpp:.3f} bpp",
        *wrap(row.note, 60),
    ]
    return "<br>".join(escape(line, quote=False) for line in lines if line)


def _without_number(
    frame: pd.DataFrame, panel: str, variants: list[str], where: str, anchor: str
) -> list[dict[str, Any]]:
    """Labels at missing values; hovering over one shows the reason."""
    rows = frame[(frame["variant"] != "") & (frame["scenario"] != anchor) & frame[panel].isna()]
    gone = {row.variant: row.note for row in rows_of(rows)} if panel != "psnr" else {}
    common = {"text": "no number", "xref": "x", "yref": where, "y": 0.1, "showarrow": False}
    return [
        {**common, "x": variants.index(name), "hovertext": "<br>".join(wrap(escape(why), 60))}
        for name, why in gone.items()
    ]


def _name_axis(names: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Pixels below the axes and the ticks: names level and broken, or slanting where too long."""
    letters = int(_NARROW / len(names) / _LETTER)
    lines = [wrap(name, max(1, letters), break_long_words=False) for name in names]
    level = all(
        len(name_lines) <= 3 and all(len(line) <= letters for line in name_lines)
        for name_lines in lines
    )
    if not level:
        lines = [wrap(name, 26) for name in names]
    room = _LINE * max(map(len, lines))
    room += (
        14
        if level
        else round(0.65 * _LETTER * max(len(line) for name_lines in lines for line in name_lines))
    )
    text = ["<br>".join(escape(line, quote=False) for line in name_lines) for name_lines in lines]
    ticks = {"tickvals": list(range(len(names))), "ticktext": text}
    return room, {**ticks, "tickangle": 0 if level else -40, "automargin": False}
