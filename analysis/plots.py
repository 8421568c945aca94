"""Figures for files: rate-accuracy per task, the mean over tasks, and PSNR over bits per pixel."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.curves import (
    BOUND,
    MEAN,
    Assembled,
    Curve,
    assemble,
    named,
)
from analysis.frames import rows_of
from analysis.points import Sweep
from search_spaces.spec import JOINED

INK: Final = "#1f2328"
"""Text and axes; the report makes it follow the page's colours."""
MUTED: Final = "#6e7781"
GRID: Final = "#e3e6ea"
WARN: Final = "#a34700"

# Okabe and Ito's palette (colour-blind safe); markers and line styles say the same again.
SCENARIO: Final[dict[str, tuple[str, str, str]]] = {
    "reconstruction": ("#5b6470", "s", "--"),
    "classical": ("#444444", "x", ":"),
    "post_processing": ("#cc79a7", "v", "-."),
    "feature_coding": ("#b08d00", "P", ":"),
    "d1": ("#e69f00", "o", "-"),
    "d2": ("#0072b2", "D", "-"),
    "d3": ("#009e73", "^", "-"),
    "end_to_end": ("#8a63d2", "*", "--"),
}
"""Colour (of a sweep with one codec), marker and line of a scenario."""
OTHERS: Final = ("#56b4e9", "#d55e00", "#8a63d2", "#444444")
CODEC: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
CODEC_LINES: Final = ("-", "--", "-.", ":")
# Viridis without its lightest end (colour-blind safe, and in order like most ablations).
VARIANT: Final = (
    *("#440154", "#472c7a", "#3b518b", "#2c718e", "#21908d"),
    *("#27ad81", "#4ac16d", "#7ad151", "#aadc32"),
)
"""Colours of a space's variants, spread over them."""

WIDTH: Final = 5.6
AXES_HEIGHT: Final = 2.75
LEFT: Final = 0.62
TITLE_ROOM: Final = 0.36
AXIS_ROOM: Final = 0.47
"""Inches: of the figure, the axes, and left, above and below them."""
MISSING_LINES: Final = 6

TITLES: Final = {
    MEAN: "Mean over tasks",
    "captioning": "Captioning",
    "vqa": "Visual question answering",
    "rec": "Referring expressions",
    "fewshot": "Few-shot classification",
}
"""Tasks in figures' titles; others stand under their own name."""

STYLE: Final[dict[str, Any]] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "figure.dpi": 100,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "savefig.dpi": 200,
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "bridgesweep",  # the same figure gives the same file
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


@dataclass(frozen=True)
class Plot:
    """A drawn figure.

    Attributes:
        name: file name without extension, e.g. `vqa`.
        title: what it shows.
        alt: the figure in words, for those who do not see it.
        png: bytes of the PNG (200 dpi).
        svg: text of the SVG.
    """

    name: str
    title: str
    alt: str
    png: bytes
    svg: str


def draw_all(sweep: Sweep, assembled: Assembled | None = None) -> list[Plot]:
    """Draw every figure of a sweep: the mean over tasks, each task and metric, PSNR.

    With several MLLMs there is a figure for each, its name ending in the MLLM's. A missing point is
    named under its figure and breaks the line.

    Args:
        sweep: the sweep.
        assembled: the sweep assembled, where the caller has it already.
    """
    if assembled is None:
        assembled = assemble(sweep)
    known, limits = assembled.tasks, assembled.bounds
    shown = [*assembled.means, *assembled.curves]
    variants = list(sweep.variants)
    kinds = dict.fromkeys((c.mllm, c.task, c.metric) for c in shown)
    mllms = {mllm for mllm, _, _ in kinds}
    out = []
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]  # the stubs want literal keys
        for mllm, task, metric in kinds:
            own = [c for c in shown if (c.mllm, c.task, c.metric) == (mllm, task, metric)]
            limit = limits[
                (limits["mllm"] == mllm) & (limits["task"] == task) & (limits["metric"] == metric)
            ]
            main = task == MEAN or metric == known[task].primary
            if task == MEAN:
                chances = [t.chance for t in known.values()]
                chance = None if None in chances else float(np.mean([c or 0 for c in chances]))
                label, unit = "mean accuracy over tasks", "fraction"
            else:
                chance = known[task].chance if main else None
                label, unit = metric.replace("_", " "), known[task].units[metric]
            name = "mean" if task == MEAN else task if main else f"{task}-{metric}"
            title = TITLES.get(task, task)
            if not main:
                title = f"{title}: {metric if unit == 'fraction' else unit}"
            if len(mllms) > 1:
                name, title = f"{name}-{mllm}", f"{title} ({mllm})"
            if unit not in ("fraction", metric, ""):
                label = f"{label} ({unit})" if unit.lower() != label.lower() else unit
            figure, axes = _figure(title)
            _rate_accuracy(axes, own, limit, chance, label, variants)
            _finish(
                figure, axes, [m.text for m in dict.fromkeys(x for c in own for x in c.missing)]
            )
            out.append(render(figure, file_name(name), title, _words(title, own)))
        psnr = _psnr(assembled)
        if psnr is not None:
            out.append(psnr)
    return out


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, 4.0))
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.grid(True, axis="y")
    axes.set_axisbelow(True)
    return figure, axes


def _rate_accuracy(
    axes: Axes,
    own: list[Curve],
    limit: pd.DataFrame,
    chance: float | None,
    label: str,
    variants: list[str],
) -> None:
    codecs = sorted({c.codec for c in own})
    for curve in own:
        if not curve.frame.empty:
            _line(axes, curve, *_look(curve, codecs, variants))
    values = pd.concat([c.frame["value"] for c in own])
    span = [float(values.min()), float(values.max())] if len(values) else [0.0, 1.0]
    for row in rows_of(limit):
        axes.axhline(row.value, color=INK, lw=1.1, label=BOUND, zorder=1.5)
        if np.isfinite(row.low):
            axes.axhspan(row.low, row.high, color=INK, alpha=0.07, lw=0, zorder=1)
        span.append(float(row.value))
    if chance is not None and min(span) - chance < 1.5 * (max(span) - min(span)) + 1e-9:
        axes.axhline(chance, color=MUTED, lw=1.1, ls=(0, (1, 2)), label="chance", zorder=1.5)
        span.append(chance)
    room = 0.06 * (max(span) - min(span) or 1.0)
    bottom, top = axes.get_ylim()
    axes.set_ylim(
        min(min(span) - room, bottom), max(max(span) + room, min(top, max(span) + 4 * room))
    )
    axes.set_ylabel(label)
    _rate_axis(axes, np.concatenate([c.frame["bpp"].to_numpy(dtype=np.float64) for c in own]))


def _line(axes: Axes, curve: Curve, label: str, colour: str, marker: str, line: str) -> None:
    for i, part in enumerate(curve.segments):
        rate, value = part["bpp"].to_numpy(), part["value"].to_numpy()
        low, high = part["low"].to_numpy(dtype=float), part["high"].to_numpy(dtype=float)
        axes.plot(
            rate,
            value,
            color=colour,
            marker=marker,
            ls=line,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=label if i == 0 else None,
            zorder=3,
        )
        if np.isfinite(low).all():
            if len(part) > 1:
                axes.fill_between(rate, low, high, color=colour, alpha=0.13, lw=0, zorder=2)
            else:
                axes.vlines(rate, low, high, color=colour, lw=1.2, zorder=2)


def look_of(scenario: str) -> tuple[str, str, str]:
    """Colour, marker and line of a scenario."""
    spare = OTHERS[sum(map(ord, scenario)) % len(OTHERS)]
    return SCENARIO.get(scenario, (spare, "X", "-"))


def _look(curve: Curve, codecs: list[str], variants: list[str]) -> tuple[str, str, str, str]:
    """Label, colour, marker, line: a marker per scenario; colour by variant, codec or scenario."""
    label = named(curve.scenario, curve.variant)
    colour, marker, line = look_of(curve.scenario)
    at = codecs.index(curve.codec)
    if len(codecs) > 1:
        label, colour = f"{curve.codec} {label}", CODEC[at % len(CODEC)]
    if curve.variant:
        number = variants.index(curve.variant.partition(JOINED)[0])
        colour = VARIANT[round(number * (len(VARIANT) - 1) / max(1, len(variants) - 1))]
        line = CODEC_LINES[at % len(CODEC_LINES)] if len(codecs) > 1 else line
    return label, colour, marker, line


def _rate_axis(axes: Axes, rates: Iterable[float]) -> None:
    """Logarithmic where the rates span a factor of 4 or more, with plain numbers at 1, 2, 5."""
    found = np.asarray(list(rates), dtype=np.float64)
    axes.set_xlabel("bits per pixel (real bytes written)")
    if len(found) == 0:
        axes.set_xticks([])
        return
    if found.max() / found.min() >= 4:
        axes.set_xscale("log")
        ticks = np.array([m * 10.0**e for e in range(-5, 4) for m in (1, 2, 5)])
        low, high = found.min() / 1.15, found.max() * 1.15
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(FixedLocator(ticks[(ticks >= low) & (ticks <= high)].tolist()))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def _finish(figure: Figure, axes: Axes, missing: list[str]) -> None:
    """Missing points and legend below the axes; axes have the same size in every figure.

    Placed in inches here: automatic layout would take most of a report's time.
    """
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels), default=1)
    columns = 4 if longest <= 16 else 3 if longest <= 24 else 2
    lines = ["missing: " + text for text in missing[:MISSING_LINES]]
    if len(missing) > MISSING_LINES:
        lines.append(f"and {len(missing) - MISSING_LINES} more")
    legend = 0.1 + 0.19 * -(-len(labels) // columns)
    below = legend + (0.08 + 0.155 * len(lines) if lines else 0.0) + AXIS_ROOM
    height = below + AXES_HEIGHT + TITLE_ROOM
    figure.set_size_inches(WIDTH, height)
    box = (LEFT / WIDTH, below / height, (WIDTH - LEFT - 0.12) / WIDTH, AXES_HEIGHT / height)
    axes.set_position(box)
    if handles:
        corner = (0.1 / WIDTH, 0.0)
        figure.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=corner,
            ncols=columns,
            handlelength=2.6,
        )
    if lines:
        at = (LEFT / WIDTH, (below - AXIS_ROOM) / height)
        figure.text(*at, "\n".join(lines), va="top", fontsize=8, color=WARN)


def _psnr(assembled: Assembled) -> Plot | None:
    """PSNR over bpp: a point per operating point that gives an image."""
    points = assembled.sweep.points
    rows = points[points["psnr"].notna() & (points["scenario"] != BOUND)]
    if rows.empty:
        return None
    identity = ["codec", "variant", "scenario", "lmbda"]
    mean = rows.groupby(identity, dropna=False, as_index=False)[["bpp", "psnr"]].mean()
    figure, axes = _figure("Image quality")
    codecs = sorted(mean["codec"].astype(str).unique())
    groups = {tuple(map(str, key)): own for key, own in mean.groupby(identity[:3])}
    # One of each owner, in the curves' order.
    for of in {(c.codec, c.variant, c.scenario): c for c in assembled.curves}.values():
        own = groups.get((of.codec, of.variant, of.scenario))
        if own is None:
            continue
        own = own.sort_values("bpp")
        empty = pd.Series(np.nan, index=own.index)
        frame = own.assign(value=own["psnr"], low=empty, high=empty)
        curve = replace(of, frame=frame, metric="psnr")
        _line(axes, curve, *_look(curve, codecs, list(assembled.sweep.variants)))
    axes.set_ylabel("PSNR (dB)")
    _rate_axis(axes, mean["bpp"])
    shown = set(groups)
    gone = [m.text for m in assembled.missing if (str(m.codec), m.variant, m.scenario) in shown]
    _finish(figure, axes, list(dict.fromkeys(gone)))
    words = "PSNR of the decoded image over bits per pixel, for the scenarios that give one."
    return render(figure, "psnr", "Image quality", words)


def _words(title: str, own: list[Curve]) -> str:
    said = [
        f"{named(c.scenario, c.variant)} {c.frame['value'].iloc[0]:.2f} at "
        f"{c.frame['bpp'].iloc[0]:.2g} bpp to {c.frame['value'].iloc[-1]:.2f} at "
        f"{c.frame['bpp'].iloc[-1]:.2g}"
        for c in own
        if len(c.frame)
    ]
    return f"{title} over bits per pixel: " + "; ".join(said) + "."


def render(figure: Figure, name: str, title: str, alt: str) -> Plot:
    """The figure as files, and in words."""
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", facecolor="white")
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(svg, format="svg", transparent=True, metadata=nothing)
    return Plot(name, title, alt, png.getvalue(), svg.getvalue().decode())


def file_name(name: str) -> str:
    """A name as it can stand in a file's."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
