"""The report's interactive figures: drawings as Plotly's data and layout.

A point carries the number of its operating point, which the page uses to show its settings and to
link to its MLflow run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from textwrap import wrap
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from analysis.curves.assemble import Assembled
from analysis.figures.common.drawing import (
    UNDIVIDED_CURVES,
    Drawing,
    Level,
    Panel,
    Series,
    log_range,
    log_ticks,
    only_value,
)
from analysis.figures.common.looks import Look
from analysis.figures.common.render import ABSENT
from analysis.figures.common.style import GRID, INK, MUTED
from analysis.sampling.intervals import Floats

SYMBOLS: Final = {
    **{"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down"},
    **{"<": "triangle-left", ">": "triangle-right", "P": "cross", "X": "x", "*": "star"},
    **{"h": "hexagon", "p": "pentagon", "d": "diamond-tall", "8": "octagon", "H": "hexagon2"},
}
"""Matplotlib's markers as Plotly's."""
LETTERS: Final = (
    *("hexagram", "star-triangle-up", "star-triangle-down", "star-square", "star-diamond"),
    *("hourglass", "bowtie", "circle-cross", "circle-x", "square-cross", "square-x"),
    *("diamond-cross", "diamond-x", "triangle-ne", "triangle-se", "triangle-sw", "triangle-nw"),
    *("diamond-wide", "octagon", "star", "hexagon2", "pentagon", "diamond", "square", "circle"),
    "hexagon",
)
"""Open symbols for markers that are letters, A to Z: Plotly has no letters."""
DASHES: Final = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
SINGLE_ROW_HEIGHT: Final = 246
"""Pixels: height of the axes in a figure of one row; the page adds what the legend needs."""
ROW_HEIGHT: Final = 150
"""Pixels: height of the axes in each row of a figure of several rows."""
COLUMN_GAP: Final = 0.14
"""Between panels side by side, as a share of the width."""
_NARROW: Final = 290
"""Pixels: of the axes on a phone, where the names along them must be readable too."""
_LETTER: Final = 6.4
_LINE: Final = 15
"""Pixels: of a letter and of a line of names."""


def numbered(assembled: Assembled) -> dict[str, int]:
    """The operating points' keys and their numbers."""
    return {str(key): i for i, key in enumerate(assembled.sweep.points["point_key"].unique())}


def interactive(drawing: Drawing, numbers: Mapping[str, int]) -> dict[str, Any]:
    """A figure's `data` and `layout`; the page breaks title and names into lines that fit.

    Args:
        drawing: what it shows.
        numbers: what `numbered` gave; a point's is its `customdata`, -1 where it has none.
    """
    layout = _layout(drawing)
    room, ticks = _name_axis(drawing.names) if drawing.names else (44, {})
    n_rows, n_columns = len(drawing.rows), len(drawing.rows[0])
    height, gap = (SINGLE_ROW_HEIGHT if n_rows == 1 else ROW_HEIGHT), (26 if drawing.names else 60)
    whole = n_rows * height + (n_rows - 1) * gap
    width = (1 - COLUMN_GAP * (n_columns - 1)) / n_columns
    layout["margin"]["b"] = room
    layout["height"] = layout["margin"]["t"] + whole + room
    data: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, panel in enumerate(panel for row in drawing.rows for panel in row):
        i, j = divmod(index, n_columns)
        axis = "" if index == 0 else str(index + 1)
        top, left, last = 1 - i * (height + gap) / whole, j * (width + COLUMN_GAP), i == n_rows - 1
        x_axis, ends = _x_axis(drawing, panel)
        x_axis |= {"anchor": f"y{axis}", "domain": [left, left + width]}
        x_axis |= ticks if last else {"showticklabels": not drawing.names}
        x_axis |= {} if last else {"title": {"text": ""}}
        layout[f"xaxis{axis}"] = x_axis
        layout[f"yaxis{axis}"] = axis_of("" if j else panel.label) | {
            **({} if (value := only_value(drawing.rows[i])) is None else {"tickvals": [value]}),
            "anchor": f"x{axis}",
            "domain": [max(0.0, top - height / whole), top],
        }
        if np.isfinite(panel.limits).all():
            clip = dict(zip(("clipmin", "clipmax"), panel.limits, strict=True))
            layout[f"yaxis{axis}"]["autorangeoptions"] = clip
        traces = [trace for series in panel.series for trace in _traces(series, panel, numbers)]
        traces += [_level(level, ends) for level in panel.levels]
        data += [{**trace, "xaxis": f"x{axis}", "yaxis": f"y{axis}"} for trace in traces]
        annotations += _without_number(panel, axis)
    named: set[str] = set()
    for trace in data:
        trace["showlegend"] = trace.get("showlegend", trace["name"] not in named)
        named |= {trace["name"]} if trace["showlegend"] else set()
    return {"data": data, "layout": {**layout, "annotations": annotations}}


def _traces(series: Series, panel: Panel, numbers: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """The series, below it the band of its intervals where there are few curves."""
    look, bars = series.look, {}
    common = {"type": "scatter", "name": look.label, "legendgroup": look.label}
    low, high = series.interval()
    known = np.isfinite(low)
    if series.joined and len(low) > 1:
        if known.any() and len({s.owner for s in panel.series}) <= UNDIVIDED_CURVES:
            x = rounded(np.asarray(series.x)[known])
            red, green, blue = (int(look.colour[i : i + 2], 16) for i in (1, 3, 5))
            yield {
                **common,
                "mode": "lines",
                "x": [*x, *x[::-1]],
                "y": [*rounded(high[known]), *rounded(low[known])[::-1]],
                "fill": "toself",
                "fillcolor": f"rgba({red},{green},{blue},0.14)",
                "line": {"width": 0, "color": look.colour},
                "hoverinfo": "skip",
                "showlegend": False,
            }
    elif known.any():
        y = np.asarray(series.y, np.float64)
        ends = {"array": np.nan_to_num(high - y), "arrayminus": np.nan_to_num(y - low)}
        bars = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 0}
        bars |= {end: rounded(values) for end, values in ends.items()}
    modes = ["lines"] * series.joined + ["markers"] * (not series.dense)
    yield {
        **common,
        "mode": "+".join(modes),
        "x": rounded(series.x),
        "y": rounded(series.y),
        "line": {"color": look.colour, "dash": DASHES.get(look.line, "solid"), "width": 2},
        "marker": marker_of(look),
        **({"error_y": bars} if bars else {}),
        **_words(series, low, high, numbers),
    }


def _words(series: Series, low: Floats, high: Floats, numbers: Mapping[str, int]) -> dict[str, Any]:
    """What is shown when the pointer is over a point."""
    if not series.keys:
        return {"hovertemplate": series.hover, **({"text": series.texts} if series.texts else {})}
    # Written out here: Plotly's templates would show a missing interval as such.
    text = [f"[{a:.3f}, {b:.3f}]" if np.isfinite(a) else "" for a, b in zip(low, high, strict=True)]
    return {"customdata": [numbers.get(key, -1) for key in series.keys], "text": text}


def _level(level: Level, ends: tuple[float, float]) -> dict[str, Any]:
    """A horizontal line from one end of x to the other."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": level.label,
        "x": rounded(ends),
        "y": [level.value, level.value],
        "line": {"color": level.colour, "dash": DASHES[level.line], "width": 1.4},
        **({} if level.label else {"showlegend": False}),
        "hovertemplate": f"{level.label} %{{y:.3f}}<extra></extra>",
    }


def _x_axis(drawing: Drawing, panel: Panel) -> tuple[dict[str, Any], tuple[float, float]]:
    """An axis along x, and the ends of levels on it."""
    values = [float(x) for series in panel.series for x in np.ravel(series.x)]
    axis = axis_of(panel.x_label)
    if drawing.names:
        ends = (-0.5, len(drawing.names) - 0.5)
        return axis | {"range": list(ends)}, ends
    if drawing.logarithmic and (ends_of_log := log_range(values)):
        ticks = log_ticks(*ends_of_log)
        scale = {"type": "log", "range": [float(np.log10(end)) for end in ends_of_log]}
        labels = {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
        return axis | scale | labels, ends_of_log
    return axis, (min(values, default=0.0), max(values, default=1.0))


def _without_number(panel: Panel, axis: str) -> list[dict[str, Any]]:
    """Labels at missing values; hovering over one shows the reason."""
    where = {"xref": f"x{axis}", "yref": f"y{axis} domain", "y": 0.1, "showarrow": False}
    turned = {"textangle": -90} if len(panel.absent) > 1 else {}
    return [
        {
            "text": ABSENT,
            **where,
            **turned,
            "x": x,
            "hovertext": "<br>".join(wrap(escape(reason), 60)),
        }
        for x, reason in panel.absent.items()
    ]


def marker_of(look: Look) -> dict[str, Any]:
    """A look's marker."""
    letter = ord(look.marker.strip("$")[:1].upper() or "A") - ord("A")
    symbol = SYMBOLS.get(look.marker) or f"{LETTERS[letter % len(LETTERS)]}-open"
    edge = {} if symbol.endswith("open") else {"line": {"width": 1, "color": "#ffffff"}}
    return {"color": look.colour, "symbol": symbol, "size": 8, **edge}


def _layout(drawing: Drawing) -> dict[str, Any]:
    """What all figures have in common."""
    heading: dict[str, Any] = {"text": drawing.title, "font": {"size": 15, "color": INK}}
    if drawing.subtitle:
        heading["subtitle"] = {"text": drawing.subtitle, "font": {"size": 12, "color": MUTED}}
    return {
        "title": {**heading, "x": 0, "xref": "paper"},
        "margin": {"l": 56, "r": 12, "t": 40},
        "font": {"color": INK, "size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "legend": {
            **{"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
            "tracegroupgap": 0,
        },
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": MUTED},
    }


def axis_of(title: str) -> dict[str, Any]:
    """An axis with its title, in the figures' colours."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 12}},
        "gridcolor": GRID,
        "linecolor": MUTED,
        "showline": True,
        "zeroline": False,
        "automargin": True,
    }


def rounded(values: ArrayLike) -> list[float]:
    """The values with six digits: more than a screen shows, and half the page's bytes."""
    return [float(f"{value:.6g}") for value in np.ravel(values)]


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
