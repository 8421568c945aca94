"""Figures of curves: accuracy over bits per pixel, per task and on the mean, and PSNR."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis.curves.assemble import Assembled
from analysis.curves.curve import Curve
from analysis.curves.grouping import in_panels
from analysis.curves.missing import in_words
from analysis.figures.layout import entries_of, new_axes, of_names, stack
from analysis.figures.looks import Look, Looks
from analysis.figures.render import Plot, file_name, line_style, styled
from analysis.figures.style import MUTED, PALE
from analysis.figures.titles import PSNR, Titled, bound_of, chance_of, titled
from analysis.io.frames import rows_of
from analysis.io.scenarios import Scenarios

HEIGHT: Final = 2.05
"""Inches: of the axes of a figure of one panel."""
PANEL_HEIGHT: Final = 1.6
"""And of several."""
MANY: Final = 8
"""Curves in one panel at the most; with more the figure is divided ..."""
MOST: Final = 6
"""... into panels of at most so many, the others pale behind them."""
NEAR: Final = 1.1
"""The factor that an axis of rates spans at least: what differs less is the same rate."""
OTHERS: Final = "the other curves"

RATE: Final = "bits per pixel (real bytes written)"


def draw_curves(assembled: Assembled) -> list[Plot]:
    """Accuracy over bits per pixel: the mean over tasks, then each task and metric.

    With several MLLMs there is a figure for each, its name ending in the MLLM's. A missing point is
    named under its figure and breaks the line. More than `MANY` curves are divided into panels.

    Args:
        assembled: the sweep assembled.
    """
    looks = Looks.of(assembled)
    shown = [*assembled.means, *assembled.curves]
    kinds = dict.fromkeys((c.mllm, c.task, c.metric) for c in shown)
    mllms = {mllm for mllm, _, _ in kinds}
    out = []
    with styled():
        for mllm, task, metric in kinds:
            drawn = [c for c in shown if (c.mllm, c.task, c.metric) == (mllm, task, metric)]
            named = titled(assembled, task, metric, mllm if len(mllms) > 1 else "")
            limit = bound_of(assembled, drawn)
            chance = chance_of(assembled.tasks, task, metric)
            notes = _notes(drawn, looks, assembled.sweep.scenarios)
            figure = _figure(assembled, drawn, looks, named, limit, chance, notes)
            whole = of_names(named.title, named.of)
            words = _words(f"{whole}: {named.label}", drawn, looks)
            out.append(Plot(file_name(named.name), whole, words, figure))
    return out


def draw_psnr(assembled: Assembled) -> list[Plot]:
    """PSNR of the decoded image over bits per pixel, where there are decoded images.

    Scenarios that show the base codec's image unchanged share one curve per codec.

    Args:
        assembled: the sweep assembled.
    """
    every = psnr_curves(assembled)
    if not every:
        return []
    looks = Looks.of(assembled)
    drawn = distinct_images(every)
    notes = _notes(every, looks, assembled.sweep.scenarios)
    with styled():
        figure = _figure(assembled, drawn, looks, PSNR, None, None, notes)
    words = _words(f"{PSNR.title}: {PSNR.label} of the decoded image", drawn, looks)
    return [Plot(PSNR.name, PSNR.title, words, figure)]


def psnr_curves(assembled: Assembled) -> list[Curve]:
    """A curve of PSNR for each codec, variant and scenario that gives an image."""
    points = assembled.sweep.curve_points
    rows = points[points["psnr"].notna()]
    rows = rows.assign(
        codec=rows["codec"].fillna(""),
        rate=rows["lmbda"].astype(object).where(rows["lmbda"].notna(), rows["point_key"]),
    )
    by = ["codec", "variant", "scenario"]
    means = rows.groupby([*by, "rate"], sort=False, as_index=False).agg(
        lmbda=("lmbda", "first"),
        bpp=("bpp", "mean"),
        value=("psnr", "mean"),
        point_keys=("point_key", lambda keys: tuple(dict.fromkeys(keys))),
        seeds=("seed", lambda seeds: tuple(dict.fromkeys(seeds))),
    )
    frames = {tuple(map(str, key)): frame for key, frame in means.groupby(by)}
    out = []
    # One of each owner, in the curves' order.
    for of in {(c.codec, c.variant, c.scenario): c for c in assembled.curves}.values():
        frame = frames.get((of.codec, of.variant, of.scenario))
        if frame is not None:
            frame = frame.assign(low=np.nan, high=np.nan).sort_values("bpp", ignore_index=True)
            out.append(replace(of, frame=frame, task="", metric="psnr"))
    return out


def distinct_images(curves: Iterable[Curve]) -> list[Curve]:
    """The curves of PSNR to draw: of the base codec's unchanged images one per codec.

    A curve of base images is left out where its points are all on one that is drawn. (Variants may
    change the base codec, which makes other images.)

    Args:
        curves: what `psnr_curves` gave.
    """
    curves = list(curves)
    drawn: dict[str, list[set[tuple[float, float]]]] = {}
    left_out = set()
    for number, curve in sorted(enumerate(curves), key=lambda item: -len(item[1].frame)):
        points = {(round(b, 12), round(v, 12)) for b, v in curve.frame[["bpp", "value"]].to_numpy()}
        same_codec = drawn.setdefault(curve.codec, [])
        if curve.look.image == "base":
            if any(points <= images for images in same_codec):
                left_out.add(number)
            same_codec.append(points)
    return [curve for number, curve in enumerate(curves) if number not in left_out]


def near_chance(values: Sequence[float], chance: float, near: float = 1.0) -> bool:
    """Whether chance is nearer to the values than `near` times their range: else it is left out."""
    return min(values) - chance < near * (max(values) - min(values)) + 1e-9


def rate_ticks(low: float, high: float) -> list[float]:
    """Plain numbers for a logarithmic axis: 1, 2, 5, fewer of them where the range is wide."""
    shown: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = (m * 10.0**e for e in range(-5, 4) for m in steps)
        shown = [tick for tick in ticks if low <= tick <= high]
        if len(shown) <= 8:
            break
    return shown


def rate_axis(axes: Axes, rates: Iterable[float], label: str = RATE) -> None:
    """Logarithmic where the rates span a factor of 4 or more, with plain numbers."""
    values = np.asarray(list(rates), dtype=np.float64)
    axes.set_xlabel(label)
    if len(values) == 0:
        axes.set_xticks([])
        return
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if values.max() / values.min() < NEAR:
        middle = np.sqrt(values.max() * values.min())
        axes.set_xlim(middle / np.sqrt(NEAR), middle * np.sqrt(NEAR))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    if values.max() / values.min() >= 4:
        axes.set_xscale("log")
        low, high = values.min() / 1.15, values.max() * 1.15
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(FixedLocator(rate_ticks(low, high)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def band(axes: Axes, x: pd.Series, low: pd.Series, high: pd.Series, look: Look) -> None:
    """An interval along a curve: a band, or a bar where there is one point."""
    bottom, top = low.to_numpy(dtype=float), high.to_numpy(dtype=float)
    if not np.isfinite(bottom).all():
        return
    if len(x) > 1:
        axes.fill_between(x, bottom, top, color=look.colour, alpha=0.14, lw=0, zorder=2)
    else:
        axes.vlines(x, bottom, top, color=look.colour, lw=1.1, zorder=2)


def _figure(
    assembled: Assembled,
    curves: list[Curve],
    looks: Looks,
    titled: Titled,
    limit: pd.DataFrame | None,
    chance: float | None,
    notes: tuple[Sequence[str], Sequence[str]],
) -> Figure:
    figure = Figure()
    groups = in_panels([c for c in curves if len(c.frame)] or curves, MANY, MOST)
    panels = [new_axes(figure) for _ in groups]
    entries: list[dict[str, Line2D]] = []
    bound = looks.scenario(assembled.sweep.bound)
    anchors = [c for c in curves if c.scenario == assembled.sweep.anchor]
    for axes, group in zip(panels, groups, strict=True):
        pale: dict[str, Line2D] = {}
        if len(groups) > 1:
            # The anchor is drawn in every panel.
            codecs = {c.codec for c in group}
            group = [*(a for a in anchors if a not in group and a.codec in codecs), *group]
            _pale(axes, [c for c in curves if c not in group])
            pale[OTHERS] = Line2D([], [], color=PALE, lw=0.8)
        for curve in group:
            _line(axes, curve, looks.curve(curve))
        near = 1.0 if len(groups) == 1 else 0.5
        levels = _levels(axes, curves, limit, bound, chance, near)
        seen = [(c.codec, c.scenario, c.variant) for c in group if len(c.frame)]
        entries.append(entries_of(looks, seen))
        if axes is panels[-1]:
            entries[-1] |= pale | levels
        axes.set_ylabel(titled.label)
        rate_axis(axes, np.concatenate([c.frame["bpp"].to_numpy(dtype=float) for c in curves]))
    for axes in panels[:-1]:
        axes.set_xlabel("")
    height = HEIGHT if len(panels) == 1 else PANEL_HEIGHT
    stack(figure, panels, entries, titled.title, height, titled.of, *notes)
    return figure


def _levels(
    axes: Axes,
    curves: list[Curve],
    limit: pd.DataFrame | None,
    bound: Look,
    chance: float | None,
    near: float,
) -> dict[str, Line2D]:
    """The bound and chance as lines, and the range of values; returns the lines by their labels.

    Chance is drawn where it is nearer to the values than `near` times their range.
    """
    lines: dict[str, Line2D] = {}
    values = pd.concat([c.frame["value"] for c in curves])
    span = [float(values.min()), float(values.max())] if len(values) else [0.0, 1.0]
    for row in rows_of(limit) if limit is not None else ():
        lines[bound.label] = axes.axhline(row.value, color=bound.colour, lw=0.9, zorder=1.5)
        if np.isfinite(row.low):
            axes.axhspan(row.low, row.high, color=bound.colour, alpha=0.07, lw=0, zorder=1)
        span.append(float(row.value))
    if chance is not None and near_chance(span, chance, near):
        dots = (0, (1, 2))
        lines["chance"] = axes.axhline(chance, color=MUTED, lw=0.9, ls=dots, zorder=1.5)
        span.append(chance)
    room = 0.06 * (max(span) - min(span) or 1.0)
    bottom, top = axes.get_ylim()
    axes.set_ylim(
        min(min(span) - room, bottom), max(max(span) + room, min(top, max(span) + 4 * room))
    )
    return lines


def _line(axes: Axes, curve: Curve, look: Look) -> None:
    for part in curve.segments:
        axes.plot(part["bpp"], part["value"], zorder=3, **line_style(look))
        band(axes, part["bpp"], part["low"], part["high"], look)


def _notes(
    curves: Sequence[Curve], looks: Looks, scenarios: Scenarios
) -> tuple[list[str], list[str]]:
    """What is missing, and which curves are one."""
    gone = in_words((m for curve in curves for m in curve.missing), scenarios, looks.by_codec)
    same = [group for group in same_points(curves) if len(group) > 1]
    return [f"missing: {words}" for words in gone], [
        f"the same points: {', '.join(looks.curve(c).label for c in group)}" for group in same
    ]


def same_points(curves: Iterable[Curve]) -> list[list[Curve]]:
    """The curves in groups that have the same points; those without any are one each."""
    groups: dict[bytes | int, list[Curve]] = {}
    for number, curve in enumerate(curves):
        values = np.round(curve.frame[["bpp", "value"]].to_numpy(dtype=np.float64), 12)
        groups.setdefault(values.tobytes() or number, []).append(curve)
    return list(groups.values())


def _pale(axes: Axes, curves: Iterable[Curve]) -> None:
    for curve in curves:
        for part in curve.segments:
            axes.plot(part["bpp"], part["value"], color=PALE, lw=0.8, zorder=1.2)


def _words(title: str, curves: list[Curve], looks: Looks) -> str:
    words = [
        f"{looks.curve(c).label} {c.frame['value'].iloc[0]:.2f} at "
        f"{c.frame['bpp'].iloc[0]:.2g} bpp to {c.frame['value'].iloc[-1]:.2f} at "
        f"{c.frame['bpp'].iloc[-1]:.2g}"
        for c in curves
        if len(c.frame)
    ]
    return f"{title} over bits per pixel. " + "; ".join(words) + "."
