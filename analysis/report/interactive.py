"""The report's interactive figures: Plotly's data and layout for the curves of each figure.

Each has the name of the Matplotlib figure that it replaces. A drawn point carries the number of its
operating point, which the page uses to show its settings and to link to its MLflow run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.curves.curve import MEAN, MEAN_METRIC, Curve
from analysis.figures import cost, difference
from analysis.figures.looks import Looks
from analysis.figures.rate_accuracy import MANY, RATE, distinct_images, near_chance, psnr_curves
from analysis.figures.render import file_name
from analysis.figures.style import MUTED
from analysis.figures.surrogate import TITLE
from analysis.figures.titles import PSNR, bound_of, chance_of, titled
from analysis.io.complexity import Costs
from analysis.io.frames import rows_of
from analysis.report.traces import (
    Live,
    axis_of,
    band_of,
    bars_of,
    figure_of,
    level_of,
    line_of,
    log_axis,
    marker_of,
)
from analysis.stats.costs import costs_and_savings
from analysis.stats.surrogate import TERMS, points_of


def numbered(assembled: Assembled) -> dict[str, int]:
    """The operating points' keys and their numbers."""
    return {str(key): i for i, key in enumerate(assembled.sweep.points["point_key"].unique())}


def live_curves(assembled: Assembled) -> list[Live]:
    """Accuracy over bits per pixel, and PSNR: the figures of `draw_curves` and `draw_psnr`."""
    looks, numbers = Looks.of(assembled), numbered(assembled)
    bound = looks.scenario(assembled.sweep.bound)
    shown = [*assembled.means, *assembled.curves]
    kinds = dict.fromkeys((c.mllm, c.task, c.metric) for c in shown)
    several = len({mllm for mllm, _, _ in kinds}) > 1
    out = []
    for mllm, task, metric in kinds:
        drawn = [c for c in shown if (c.mllm, c.task, c.metric) == (mllm, task, metric)]
        named = titled(assembled, task, metric, mllm if several else "")
        traces = _curves(drawn, looks, numbers)
        rates = [rate for c in drawn for rate in c.frame["bpp"]]
        levels = [
            (float(row.value), bound.label, bound.colour, "solid")
            for row in rows_of(bound_of(assembled, drawn))
        ]
        chance = chance_of(assembled.tasks, task, metric)
        values = [value for c in drawn for value in c.frame["value"]] + [row[0] for row in levels]
        if values and chance is not None and near_chance(values, chance):
            levels.append((chance, "chance", MUTED, "dot"))
        if rates:
            ends = (min(rates) / 1.15, max(rates) * 1.15)
            traces += [level_of(*level, ends=ends) for level in levels]
        figure = figure_of(traces, named.title, named.of, RATE, named.label, rates)
        out.append(Live(file_name(named.name), figure))
    psnr = distinct_images(psnr_curves(assembled))
    if psnr:
        rates = [rate for c in psnr for rate in c.frame["bpp"]]
        traces = _curves(psnr, looks, numbers)
        figure = figure_of(traces, PSNR.title, PSNR.of, RATE, PSNR.label, rates)
        out.append(Live(PSNR.name, figure))
    return out


def live_difference(
    assembled: Assembled, changes: Sequence[tuple[Curve, pd.DataFrame]]
) -> list[Live]:
    """Bits relative to the anchor: the figures of `draw_difference` on the mean over tasks.

    Args:
        assembled: the sweep assembled.
        changes: what `differences` gave.
    """
    looks = Looks.of(assembled)
    mllms = list(dict.fromkeys(curve.mllm for curve, _ in changes))
    out = []
    for mllm in mllms:
        shown = [(curve, frame) for curve, frame in changes if curve.mllm == mllm]
        traces = []
        for curve, frame in shown:
            look = looks.curve(curve)
            if len(shown) <= MANY:
                known = frame[frame["low"].notna()]
                traces += band_of(known["accuracy"], known["low"], known["high"], look)
            traces.append(
                {
                    **line_of(look, frame["accuracy"], frame["change"]),
                    "mode": "lines",
                    "hovertemplate": "%{y:.0f} % bits at accuracy %{x:.3f}",
                }
            )
        of = mllm if len(mllms) > 1 else ""
        label = titled(assembled, MEAN, MEAN_METRIC).label
        figure = figure_of(traces, difference.title_of(assembled), of, label, "bits (%)", [])
        out.append(Live(file_name(f"difference-{of}"), figure))
    return out


def live_costs(assembled: Assembled, comparison: pd.DataFrame, costs: Costs) -> list[Live]:
    """Bits saved over kMAC per pixel: the figures of `draw_costs`."""
    looks = Looks.of(assembled)
    frame = costs_and_savings(assembled, comparison, costs)
    several = frame["mllm"].nunique() > 1
    out = []
    for mllm, frame_rows in frame.groupby("mllm", sort=False):
        traces = []
        for (codec, scenario, variant), rows in frame_rows.groupby(
            ["codec", "scenario", "variant"], sort=False
        ):
            look = looks.owner(str(codec), str(scenario), str(variant))
            (parameters,) = rows["parameters"]
            traces.append(
                {
                    **line_of(look, rows["own"], rows["saved"]),
                    "mode": "markers",
                    "marker": marker_of(look, 11),
                    **bars_of(rows["saved"], rows["low"], rows["high"]),
                    "hovertemplate": f"%{{y:.0f}} % saved, %{{x:.2f}} kMAC/pixel, "
                    f"{parameters:,.0f} parameters",
                }
            )
        of = str(mllm) if several else ""
        name = file_name(f"complexity-{mllm}" if several else "complexity")
        figure = figure_of(
            traces, cost.TITLE, of, cost.LABEL, "bits saved (%)", list(frame_rows["own"])
        )
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
    for mllm, frame_rows in frame.groupby("mllm", sort=False):
        tasks, terms = (
            list(dict.fromkeys(frame_rows["task"])),
            list(dict.fromkeys(frame_rows["term"])),
        )
        of = str(mllm) if several else ""
        figure = figure_of([], TITLE, of, "", "", [])
        layout = figure["layout"]
        layout["grid"] = {"rows": len(tasks), "columns": len(terms), "pattern": "independent"}
        layout["grid"] |= {"xgap": 0.14, "ygap": 0.22}
        layout["height"] = 70 + 230 * len(tasks)
        named: set[str] = set()
        for row in rows_of(frame_rows):
            i, j = tasks.index(row.task), terms.index(row.term)
            place = i * len(terms) + j + 1
            axis = "" if place == 1 else str(place)
            points = points_of(assembled, row.mllm, row.task, row.metric, row.term)
            by = points.groupby(["codec", "scenario", "variant"], sort=False)
            for (codec, scenario, variant), rows in by:
                look = looks.owner(str(codec), str(scenario), str(variant))
                trace = line_of(look, rows[row.term], rows["value"]) | {"mode": "markers"}
                trace |= {"xaxis": f"x{axis}", "yaxis": f"y{axis}"}
                trace["showlegend"] = look.label not in named
                trace["customdata"] = [numbers[key] for key in rows["point_key"]]
                named.add(look.label)
                figure["data"].append(trace)
            x_title = f"error of the {TERMS[row.term]}" if i == len(tasks) - 1 else ""
            layout[f"xaxis{axis}"] = axis_of(x_title) | log_axis(points[row.term])
            layout[f"yaxis{axis}"] = axis_of(f"{row.task}: {row.metric}" if j == 0 else "")
        name = file_name(f"surrogate-{mllm}" if several else "surrogate")
        out.append(Live(name, figure))
    return out


def _curves(
    curves: Sequence[Curve], looks: Looks, numbers: Mapping[str, int]
) -> list[dict[str, Any]]:
    traces = []
    for curve in sorted(curves, key=lambda curve: curve.rank):
        look = looks.curve(curve)
        for i, part in enumerate(curve.segments):
            if len(curves) <= MANY:
                traces += band_of(part["bpp"], part["low"], part["high"], look)
            trace = line_of(look, part["bpp"], part["value"])
            if len(part) == 1:
                trace |= bars_of(part["value"], part["low"], part["high"])
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
