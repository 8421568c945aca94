"""Parts of Plotly's figures as plain data: traces, axes and the common layout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.figures.looks import Look
from analysis.figures.rate_accuracy import rate_ticks
from analysis.figures.style import GRID, INK, MUTED

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
HEIGHT: Final = 330
"""Pixels: of the axes; the page adds what the legend needs."""


@dataclass(frozen=True)
class Live:
    """One figure: its name and Plotly's `data` and `layout`.

    In a trace `customdata` is the number of each point's operating point (its place in
    `numbered`), -1 where it is none.
    """

    name: str
    figure: dict[str, Any]

    def plotly(self) -> Any:
        """As a `plotly.graph_objects.Figure`, for notebooks."""
        from plotly.graph_objects import Figure

        return Figure(self.figure)


def line_of(look: Look, x: Iterable[float], y: Iterable[float]) -> dict[str, Any]:
    """A curve: line and markers."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": look.label,
        "legendgroup": look.label,
        "x": rounded(x),
        "y": rounded(y),
        "line": {"color": look.colour, "dash": DASHES.get(look.line, "solid"), "width": 2},
        "marker": marker_of(look, 8),
    }


def marker_of(look: Look, size: int) -> dict[str, Any]:
    """A look's marker, `size` in pixels."""
    letter = ord(look.marker.strip("$")[:1].upper() or "A") - ord("A")
    symbol = SYMBOLS.get(look.marker) or f"{LETTERS[letter % len(LETTERS)]}-open"
    edge = {} if symbol.endswith("open") else {"line": {"width": 1, "color": "#ffffff"}}
    return {"color": look.colour, "symbol": symbol, "size": size, **edge}


def band_of(
    x: Iterable[float], low: pd.Series, high: pd.Series, look: Look
) -> list[dict[str, Any]]:
    """An interval along a curve, filled; nothing of one point or where an end is unknown."""
    rates = rounded(x)
    if len(rates) < 2 or low.isna().any():
        return []
    red, green, blue = (int(look.colour[i : i + 2], 16) for i in (1, 3, 5))
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [*rates, *rates[::-1]],
            "y": [*rounded(high), *rounded(low)[::-1]],
            "fill": "toself",
            "fillcolor": f"rgba({red},{green},{blue},0.14)",
            "line": {"width": 0, "color": look.colour},
            "hoverinfo": "skip",
            "showlegend": False,
            "legendgroup": look.label,
        }
    ]


def bars_of(value: pd.Series, low: pd.Series, high: pd.Series) -> dict[str, Any]:
    """Intervals as bars, for a trace to be joined with; nothing where none is known."""
    if low.isna().all():
        return {}
    ends = {
        "array": rounded((high - value).fillna(0)),
        "arrayminus": rounded((value - low).fillna(0)),
    }
    return {"error_y": {"type": "data", "symmetric": False, "thickness": 1.5, "width": 0, **ends}}


def level_of(
    value: float, name: str, colour: str, dash: str, ends: tuple[float, float]
) -> dict[str, Any]:
    """A horizontal line from one end of x to the other."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": rounded(ends),
        "y": [value, value],
        "line": {"color": colour, "dash": dash, "width": 1.4},
        "hovertemplate": f"{name} %{{y:.3f}}<extra></extra>",
    }


def figure_of(
    traces: list[dict[str, Any]], title: str, of: str, x: str, y: str, rates: Sequence[float]
) -> dict[str, Any]:
    """Data and layout; the x axis is logarithmic where `rates` span a factor of 4 or more.

    The page breaks the title and the names that it goes with (`of`) into lines that fit.
    """
    heading: dict[str, Any] = {"text": title, "font": {"size": 15, "color": INK}}
    if of:
        heading["subtitle"] = {"text": of, "font": {"size": 12, "color": MUTED}}
    x_axis = axis_of(x) | log_axis(rates)
    return {
        "data": traces,
        "layout": {
            "title": {**heading, "x": 0, "xref": "paper"},
            "height": HEIGHT,
            "margin": {"l": 56, "r": 12, "t": 40, "b": 44},
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
            "xaxis": x_axis,
            "yaxis": axis_of(y),
        },
    }


def log_axis(values: Iterable[float]) -> dict[str, Any]:
    """Logarithmic where the values span a factor of 4 or more, with plain numbers."""
    numbers = list(values)
    if not numbers or min(numbers) <= 0 or max(numbers) / min(numbers) < 4:
        return {}
    low, high = min(numbers) / 1.15, max(numbers) * 1.15
    ticks = rate_ticks(low, high)
    return {
        "type": "log",
        "range": [float(np.log10(low)), float(np.log10(high))],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
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


def rounded(values: Iterable[float]) -> list[float]:
    """The values with six digits: more than a screen shows, and half the page's bytes."""
    return [float(f"{value:.6g}") for value in values]
