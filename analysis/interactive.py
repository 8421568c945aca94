"""The report's figures to point at: the same curves, as Plotly's figures (plain data).

Each has the name of the Matplotlib figure that it stands for. A drawn point carries the number of
its operating point, with which the page says how it was made and where its MLflow run is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.compare import ANCHOR
from analysis.cost import LABEL, Costs, costs_and_savings
from analysis.curves import BOUND, Assembled, Curve, scenario_rank
from analysis.difference import differences
from analysis.frames import rows_of
from analysis.looks import GRID, INK, MUTED, Look, Looks
from analysis.plots import (
    MANY,
    RATE,
    bound_of,
    chance_of,
    psnr_curves,
    rate_ticks,
    titled,
)
from analysis.render import file_name
from analysis.surrogate import TERMS, points_of

SYMBOLS: Final = {
    **{"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down"},
    **{"<": "triangle-left", ">": "triangle-right", "P": "cross", "X": "x", "*": "star"},
    **{"h": "hexagon", "p": "pentagon", "d": "diamond-tall", "8": "octagon", "H": "hexagon2"},
}
"""Matplotlib's markers as Plotly's; letters, which Plotly has not, become open hexagrams."""
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


def numbered(assembled: Assembled) -> dict[str, int]:
    """The operating points' keys and their numbers."""
    return {str(key): i for i, key in enumerate(assembled.sweep.points["point_key"].unique())}


def live_curves(assembled: Assembled) -> list[Live]:
    """Accuracy over bits per pixel, and PSNR: the figures of `draw_curves` and `draw_psnr`."""
    looks, numbers = Looks.of(assembled), numbered(assembled)
    shown = [*assembled.means, *assembled.curves]
    kinds = dict.fromkeys((c.mllm, c.task, c.metric) for c in shown)
    several = len({mllm for mllm, _, _ in kinds}) > 1
    out = []
    for mllm, task, metric in kinds:
        own = [c for c in shown if (c.mllm, c.task, c.metric) == (mllm, task, metric)]
        name, title, label = titled(assembled, task, metric, mllm if several else "")
        traces = _curves(own, looks, numbers)
        rates = [rate for c in own for rate in c.frame["bpp"]]
        levels = [
            (float(row.value), BOUND, INK, "solid") for row in rows_of(bound_of(assembled, own))
        ]
        chance = chance_of(assembled.tasks, task, metric)
        if chance is not None:
            levels.append((chance, "chance", MUTED, "dot"))
        if rates:
            traces += [_level(*level, ends=(min(rates), max(rates))) for level in levels]
        out.append(Live(file_name(name), _figure(traces, title, RATE, label, rates)))
    psnr = psnr_curves(assembled)
    if psnr:
        rates = [rate for c in psnr for rate in c.frame["bpp"]]
        traces = _curves(psnr, looks, numbers)
        out.append(Live("psnr", _figure(traces, "Image quality", RATE, "PSNR (dB)", rates)))
    return out


def live_difference(assembled: Assembled) -> list[Live]:
    """Bits relative to reconstruction: the figures of `draw_difference` on the mean over tasks."""
    looks, found = Looks.of(assembled), differences(assembled)
    mllms = list(dict.fromkeys(curve.mllm for curve, _ in found))
    out = []
    for mllm in mllms:
        own = [(curve, frame) for curve, frame in found if curve.mllm == mllm]
        traces = []
        for curve, frame in own:
            look = looks.curve(curve)
            if len(own) <= MANY:
                known = frame[frame["low"].notna()]
                traces += _band(known["accuracy"], known["low"], known["high"], look)
            traces.append(
                {
                    **_trace(look, frame["accuracy"], frame["change"]),
                    "mode": "lines",
                    "hovertemplate": "%{y:.0f} % bits at accuracy %{x:.3f}",
                }
            )
        of = f"-{mllm}" if len(mllms) > 1 else ""
        title = f"Bits relative to {ANCHOR}" + (f" ({mllm})" if of else "")
        figure = _figure(traces, title, "mean accuracy over tasks", "bits (%)", [])
        out.append(Live(file_name(f"difference{of}"), figure))
    return out


def live_costs(assembled: Assembled, comparison: pd.DataFrame, costs: Costs) -> list[Live]:
    """Bits saved over kMAC per pixel: the figures of `draw_costs`."""
    looks = Looks.of(assembled)
    frame = costs_and_savings(assembled, comparison, costs)
    several = frame["mllm"].nunique() > 1
    out = []
    for mllm, own in frame.groupby("mllm", sort=False):
        traces = []
        for row in rows_of(own):
            look = looks.owner(row.codec, row.scenario, row.variant)
            bars = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 0}
            known = np.isfinite(row.low)
            bars |= {"array": [row.high - row.saved], "arrayminus": [row.saved - row.low]}
            traces.append(
                {
                    **_trace(look, [row.own], [row.saved]),
                    "mode": "markers",
                    "marker": _marker(look, 11),
                    **({"error_y": bars} if known else {}),
                    "hovertemplate": f"%{{y:.0f}} % saved, %{{x:.2f}} kMAC/pixel, "
                    f"{row.parameters:,.0f} parameters",
                }
            )
        title = "Complexity against bits saved" + (f" ({mllm})" if several else "")
        name = file_name(f"complexity-{mllm}" if several else "complexity")
        figure = _figure(traces, title, LABEL, "bits saved (%)", list(own["own"]))
        out.append(Live(name, figure))
    return out


def live_surrogate(assembled: Assembled, frame: pd.DataFrame) -> list[Live]:
    """The surrogate's terms against the tasks: the figures of `draw_surrogate`.

    Args:
        assembled: the sweep assembled.
        frame: what `surrogate` gave.
    """
    looks, numbers = Looks.of(assembled), numbered(assembled)
    several = frame["mllm"].nunique() > 1
    out = []
    for mllm, own in frame.groupby("mllm", sort=False):
        tasks, terms = list(dict.fromkeys(own["task"])), list(dict.fromkeys(own["term"]))
        title = "Does the surrogate predict the task?" + (f" ({mllm})" if several else "")
        figure = _figure([], title, "", "", [])
        layout = figure["layout"]
        layout["grid"] = {"rows": len(tasks), "columns": len(terms), "pattern": "independent"}
        layout["grid"] |= {"xgap": 0.14, "ygap": 0.22}
        layout["height"] = 70 + 230 * len(tasks)
        named: set[str] = set()
        for row in rows_of(own):
            i, j = tasks.index(row.task), terms.index(row.term)
            place = i * len(terms) + j + 1
            axis = "" if place == 1 else str(place)
            points = points_of(assembled, row.mllm, row.task, row.metric, row.term)
            by = points.groupby(["codec", "scenario", "variant"], sort=False)
            for (codec, scenario, variant), rows in by:
                look = looks.owner(str(codec), str(scenario), str(variant))
                trace = _trace(look, rows[row.term], rows["value"]) | {"mode": "markers"}
                trace |= {"xaxis": f"x{axis}", "yaxis": f"y{axis}"}
                trace["showlegend"] = look.label not in named
                trace["customdata"] = [numbers[key] for key in rows["point_key"]]
                named.add(look.label)
                figure["data"].append(trace)
            x_title = f"error of the {TERMS[row.term]}" if i == len(tasks) - 1 else ""
            layout[f"xaxis{axis}"] = _axis(x_title) | _log_axis(points[row.term])
            layout[f"yaxis{axis}"] = _axis(f"{row.task}: {row.metric}" if j == 0 else "")
        name = file_name(f"surrogate-{mllm}" if several else "surrogate")
        out.append(Live(name, figure))
    return out


def _curves(own: Sequence[Curve], looks: Looks, numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    traces = []
    for curve in sorted(own, key=lambda c: scenario_rank(c.scenario)):
        look = looks.curve(curve)
        for i, part in enumerate(curve.segments):
            if len(own) <= MANY:
                traces += _band(part["bpp"], part["low"], part["high"], look)
            trace = _trace(look, part["bpp"], part["value"])
            trace["showlegend"] = i == 0
            trace["customdata"] = [numbers.get(keys[0], -1) for keys in part["point_keys"]]
            known = part["low"].notna().all()
            # Written out here: Plotly's templates would show a missing interval as such.
            trace["text"] = [
                f"[{low:.3f}, {high:.3f}]" if known else ""
                for low, high in zip(part["low"], part["high"], strict=True)
            ]
            traces.append(trace)
    return traces


def _trace(look: Look, x: Iterable[float], y: Iterable[float]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": look.label,
        "legendgroup": look.label,
        "x": _numbers(x),
        "y": _numbers(y),
        "line": {"color": look.colour, "dash": DASHES.get(look.line, "solid"), "width": 2},
        "marker": _marker(look, 8),
    }


def _marker(look: Look, size: int) -> dict[str, Any]:
    symbol = SYMBOLS.get(look.marker, "hexagram-open")
    edge = {} if symbol.endswith("open") else {"line": {"width": 1, "color": "#ffffff"}}
    return {"color": look.colour, "symbol": symbol, "size": size, **edge}


def _band(x: Iterable[float], low: pd.Series, high: pd.Series, look: Look) -> list[dict[str, Any]]:
    rates = _numbers(x)
    if len(rates) < 2 or low.isna().any():
        return []
    red, green, blue = (int(look.colour[i : i + 2], 16) for i in (1, 3, 5))
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [*rates, *rates[::-1]],
            "y": [*_numbers(high), *_numbers(low)[::-1]],
            "fill": "toself",
            "fillcolor": f"rgba({red},{green},{blue},0.14)",
            "line": {"width": 0, "color": look.colour},
            "hoverinfo": "skip",
            "showlegend": False,
            "legendgroup": look.label,
        }
    ]


def _level(
    value: float, name: str, colour: str, dash: str, ends: tuple[float, float]
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": _numbers((ends[0] / 1.15, ends[1] * 1.15)),
        "y": [value, value],
        "line": {"color": colour, "dash": dash, "width": 1.4},
        "hovertemplate": f"{name} %{{y:.3f}}<extra></extra>",
    }


def _figure(
    traces: list[dict[str, Any]], title: str, x: str, y: str, rates: Sequence[float]
) -> dict[str, Any]:
    """Data and layout; the x axis is logarithmic where `rates` span a factor of 4 or more."""
    x_axis = _axis(x) | _log_axis(rates)
    return {
        "data": traces,
        "layout": {
            "title": {"text": title, "x": 0, "xref": "paper", "font": {"size": 15, "color": INK}},
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
            "yaxis": _axis(y),
        },
    }


def _log_axis(values: Iterable[float]) -> dict[str, Any]:
    """Logarithmic where the values span a factor of 4 or more, with plain numbers."""
    found = list(values)
    if not found or min(found) <= 0 or max(found) / min(found) < 4:
        return {}
    low, high = min(found) / 1.15, max(found) * 1.15
    ticks = rate_ticks(low, high)
    return {
        "type": "log",
        "range": [float(np.log10(low)), float(np.log10(high))],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def _axis(title: str) -> dict[str, Any]:
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 12}},
        "gridcolor": GRID,
        "linecolor": MUTED,
        "showline": True,
        "zeroline": False,
        "automargin": True,
    }


def _numbers(values: Iterable[float]) -> list[float]:
    """Six digits are more than a screen shows, and half the page's bytes."""
    return [float(f"{value:.6g}") for value in values]
