"""Relative curve difference: how many more or fewer bits than the anchor, at each accuracy.

BD-rate is the mean of this over the shared accuracies (of its logarithm); the figure shows where
the savings come from and where they end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.curves.assemble import Assembled
from analysis.curves.curve import MEAN, Curve
from analysis.curves.grouping import in_panels
from analysis.figures.layout import entries_of, new_axes, of_names, stack
from analysis.figures.looks import Look, Looks
from analysis.figures.rate_accuracy import HEIGHT, MANY, MOST, PANEL_HEIGHT, band
from analysis.figures.render import Plot, file_name, line_style, styled
from analysis.figures.titles import TITLES
from analysis.stats.anchor import against_anchors

STEPS: Final = 25
"""Accuracies at which a difference is computed."""


def differences(assembled: Assembled, task: str = MEAN) -> list[tuple[Curve, pd.DataFrame]]:
    """Every curve of a task against its anchor, where they share accuracies.

    Args:
        assembled: the sweep assembled.
        task: a task's name, or the mean over tasks.

    Returns:
        (curve, frame of `Pair.relative_difference`).
    """
    compared = [
        (compared.curve, compared.pair)
        for compared in against_anchors(assembled)
        if compared.pair is not None and compared.curve.task == task
    ]
    frames = [(curve, pair.relative_difference(STEPS)) for curve, pair in compared]
    return [(curve, frame) for curve, frame in frames if not frame.empty]


def title_of(assembled: Assembled) -> str:
    """What the figures show."""
    return f"Bits relative to {assembled.sweep.scenarios.title(assembled.sweep.anchor)}"


def draw_difference(
    assembled: Assembled,
    task: str = MEAN,
    changes: Sequence[tuple[Curve, pd.DataFrame]] | None = None,
) -> list[Plot]:
    """A figure per MLLM: percent of bits relative to the anchor over accuracy.

    Args:
        assembled: the sweep assembled.
        task: a task's name, or the mean over tasks.
        changes: what `differences` gave, where the caller has it already.

    Returns:
        Nothing where no curve shares accuracies with its anchor.
    """
    looks, title = Looks.of(assembled), title_of(assembled)
    anchor = looks.scenario(assembled.sweep.anchor)
    changes = differences(assembled, task) if changes is None else changes
    mllms = list(dict.fromkeys(curve.mllm for curve, _ in changes))
    label = "mean accuracy over tasks" if task == MEAN else f"{TITLES.get(task, task)}"
    out = []
    with styled():
        for mllm in mllms:
            shown = [(curve, frame) for curve, frame in changes if curve.mllm == mllm]
            of = mllm if len(mllms) > 1 else ""
            name = "difference" if task == MEAN else f"difference-{task}"
            name += f"-{mllm}" if len(mllms) > 1 else ""
            figure = _figure(shown, looks, anchor, label, title, of)
            words = _words(shown, looks, f"{title} over {label}", of)
            out.append(Plot(file_name(name), of_names(title, of), words, figure))
    return out


def _figure(
    shown: Sequence[tuple[Curve, pd.DataFrame]],
    looks: Looks,
    anchor: Look,
    label: str,
    title: str,
    of: str,
) -> Figure:
    figure = Figure()
    frames = {id(curve): frame for curve, frame in shown}
    groups = in_panels([curve for curve, _ in shown], MANY, MOST)
    panels = [new_axes(figure) for _ in groups]
    ends = [float(end) for _, f in shown for end in (f["accuracy"].min(), f["accuracy"].max())]
    room = 0.03 * (max(ends) - min(ends))
    for axes, group in zip(panels, groups, strict=True):
        for curve in group:
            frame, look = frames[id(curve)], looks.curve(curve)
            style = line_style(look) | {"markevery": (2, 6)}
            axes.plot(frame["accuracy"], frame["change"], **style)
            known = frame[frame["low"].notna()]
            band(axes, known["accuracy"], known["low"], known["high"], look)
        axes.axhline(0, color=anchor.colour, lw=1.1, ls="--", zorder=1.5)
        axes.set_xlim(min(ends) - room, max(ends) + room)
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -100), min(high, 200))  # an interval may run off; a saving may not
        axes.set_ylabel("bits (%)")
    panels[-1].set_xlabel(label)
    zero = Line2D([], [], color=anchor.colour, lw=1.1, ls="--")
    height = HEIGHT if len(panels) == 1 else PANEL_HEIGHT
    entries = [entries_of(looks, [curve.owner for curve in group]) for group in groups]
    entries[-1] |= {anchor.label: zero}
    stack(figure, panels, entries, title, height, of)
    return figure


def _words(shown: Sequence[tuple[Curve, pd.DataFrame]], looks: Looks, title: str, of: str) -> str:
    words = [
        f"{looks.curve(curve).label} {round(frame['change'].iloc[0]):+d} % at "
        f"{frame['accuracy'].iloc[0]:.2f} to {round(frame['change'].iloc[-1]):+d} % at "
        f"{frame['accuracy'].iloc[-1]:.2f}"
        for curve, frame in shown
    ]
    return of_names(title, of) + ": " + "; ".join(words) + "."
