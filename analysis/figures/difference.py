"""Curves against the anchor: bits at each accuracy, and a forest plot of the BD-rates.

BD-rate is the exponential of the mean log ratio of the rates over the shared accuracies, minus one;
the figure shows where the savings come from and where they end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.curves.assemble import Assembled
from analysis.curves.curve import MEAN, Curve
from analysis.curves.tasks import main_rows, mean_label
from analysis.figures.common.drawing import Drawing, Level, Panel, Series, groups_of, with_subtitle
from analysis.figures.common.layout import NOTE_SIZE, WIDTH
from analysis.figures.common.looks import Look, Looks, line_style
from analysis.figures.common.render import STEPS as TICK_STEPS
from analysis.figures.common.render import Plot, draw, file_name, styled
from analysis.figures.common.style import GRID, INK, MUTED, STYLE
from analysis.figures.common.text_size import broken, text_width
from analysis.figures.rate_accuracy import TITLES
from analysis.io.frames import rows_of
from analysis.stats.anchor import against_anchors
from analysis.stats.as_text import rounded, span, with_interval

STEPS: Final = 25
"""Accuracies at which a difference is computed."""
FARTHEST: Final = 150.0
"""Percent: BD-rates and intervals beyond it are cut off, and their numbers stand beside them."""
_NAMES: Final = 1.25
_RANGES: Final = 0.62
"""Inches: of the names on the left at the most, and of the shared accuracies on the right."""
_HEAD, _FOOT = 0.46, 0.42
_LINE, _PAD = 0.125, 0.055


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


def draw_difference(assembled: Assembled, task: str = MEAN) -> list[Plot]:
    """A figure per MLLM: percent of bits relative to the anchor over accuracy.

    Args:
        assembled: the sweep assembled.
        task: a task's name, or the mean over tasks.

    Returns:
        Nothing where no curve shares accuracies with its anchor.
    """
    looks, changes = Looks.of(assembled), differences(assembled, task)
    anchor = looks.scenario(assembled.sweep.anchor)
    mllms = list(dict.fromkeys(curve.mllm for curve, _ in changes))
    title = f"Bits relative to {assembled.sweep.scenarios.title(assembled.sweep.anchor)}"
    label = mean_label(assembled.tasks) if task == MEAN else TITLES.get(task, task)
    out = []
    for mllm in mllms:
        shown = [(curve, frame) for curve, frame in changes if curve.mllm == mllm]
        subtitle = mllm if len(mllms) > 1 else ""
        name = "-".join(filter(None, ["difference", task if task != MEAN else "", subtitle]))
        panel = Panel(
            "bits (%)",
            [
                Series(
                    *(curve.owner, looks.curve(curve), frame["accuracy"], frame["change"]),
                    *(frame["low"], frame["high"]),
                    joined=True,
                    dense=len(frame) > 1,  # a single shared accuracy is a marker
                    hover="%{y:.0f} % bits at accuracy %{x:.3f}",
                )
                for curve, frame in shown
            ],
            groups_of([curve for curve, _ in shown], looks),
            [Level(anchor.label, 0.0, anchor.colour, "--")],
            label,
            limits=(-100, 200),  # an interval may run off; a saving may not
        )
        descriptions = [
            f"{looks.curve(curve).label} {' to '.join(_ends(frame))}" for curve, frame in shown
        ]
        alt = f"{with_subtitle(f'{title} over {label}', subtitle)}: {'; '.join(descriptions)}."
        out.append(draw(Drawing(file_name(name), title, subtitle, alt, [[panel]])))
    return out


def _ends(frame: pd.DataFrame) -> Iterator[str]:
    """The bits at the lowest and at the highest shared accuracy, once where these are one."""
    for row in rows_of(frame.iloc[list(dict.fromkeys((0, len(frame) - 1)))]):
        yield f"{rounded(row.change)} % at {row.accuracy:.2f}"


def draw_forest(assembled: Assembled, comparison: pd.DataFrame) -> list[Plot]:
    """A figure per MLLM of the BD-rates on the mean over tasks, or on the only task.

    Curves are in the order of `main_rows`: anchor by anchor, each in its ranking. Those whose
    interval holds 0, or is unknown, are grey. The accuracies that a curve shares with the anchor
    stand beside it.

    Args:
        assembled: the sweep assembled.
        comparison: what `compare` gave.

    Returns:
        Nothing where no curve has a BD-rate there.
    """
    task, rows_of_task = main_rows(comparison, assembled.tasks)
    shown = rows_of_task[rows_of_task["scenario"] != assembled.sweep.anchor]
    looks = Looks.of(assembled)
    label = mean_label(assembled.tasks) if task == MEAN else TITLES.get(task, task)
    title = f"BD-rate against {assembled.sweep.scenarios.title(assembled.sweep.anchor)}"
    several = comparison["mllm"].nunique() > 1
    out = []
    for mllm, rows in shown.groupby("mllm", sort=False):
        subtitle = f"{label}, {mllm}" if several else label
        if rows["anchor_codec"].nunique() > 1:
            subtitle += "; each against its own codec's"
        name = file_name(f"forest-{mllm}" if several else "forest")
        each = list(rows_of(rows))
        described = [_words(row, looks.owner(row.codec, row.scenario, row.variant)) for row in each]
        alt = f"{with_subtitle(title, subtitle)}: {'; '.join(described)}."
        with styled():
            out.append(Plot(name, title, alt, _figure(each, looks, title, subtitle)))
    return out


def holds_zero(row: Any) -> bool:
    """Whether a row of the comparison shows no difference: its interval holds 0 or is unknown."""
    return not (row.bd_rate_high < 0 or row.bd_rate_low > 0)


def _words(row: Any, look: Look) -> str:
    number = with_interval(row.bd_rate, row.bd_rate_low, row.bd_rate_high, sign=True)
    words = f"{look.label} {number} over {span(row.shared_low, row.shared_high, 2)}"
    return f"{words}, no difference shown" if holds_zero(row) else words


def _figure(rows: Sequence[Any], looks: Looks, title: str, subtitle: str) -> Figure:
    """Names, intervals and shared accuracies in three columns."""
    size = STYLE["font.size"]
    of_rows = [looks.owner(row.codec, row.scenario, row.variant) for row in rows]
    names = [broken(look.label, _NAMES, size) for look in of_rows]
    widest = max(text_width(line, size) for lines in names for line in lines)
    heights = [_LINE * len(lines) + _PAD for lines in names]
    main = broken(title, WIDTH - 0.2, STYLE["axes.titlesize"], bold=True)
    below = broken(subtitle, WIDTH - 0.2, NOTE_SIZE)
    head = _HEAD + _LINE * (len(main) + len(below) - 1)
    total = head + sum(heights) + _FOOT
    figure = Figure(figsize=(WIDTH, total))
    how: dict[str, Any] = {"va": "top", "linespacing": 1.05}
    bold = {"fontsize": STYLE["axes.titlesize"], "fontweight": STYLE["axes.titleweight"]}
    figure.text(0.1 / WIDTH, 1 - 0.075 / total, "\n".join(main), color=INK, **bold, **how)
    y = 1 - (0.085 + _LINE * len(main)) / total
    figure.text(0.1 / WIDTH, y, "\n".join(below), color=MUTED, fontsize=NOTE_SIZE, **how)

    left, right = 0.1 + widest + 0.14, _RANGES + 0.1
    bottom = _FOOT / total
    axes = figure.add_axes(
        (left / WIDTH, bottom, (WIDTH - left - right) / WIDTH, sum(heights) / total)
    )
    axes.set_ylim(sum(heights), 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.axvline(0, color=INK, lw=0.9, zorder=1.5)
    middles = np.cumsum(heights) - np.array(heights) / 2
    for row, look, lines, middle in zip(rows, of_rows, names, middles, strict=True):
        colour = MUTED if holds_zero(row) else look.colour
        ends = np.clip([row.bd_rate_low, row.bd_rate_high], -100, FARTHEST)
        if np.isfinite(ends).all():
            axes.hlines(middle, *ends, color=colour, lw=1.3, zorder=2)
        style = line_style(look) | {"ls": "", "color": colour}
        axes.plot(min(row.bd_rate, FARTHEST), middle, zorder=3, **style)
        y = (total - head - middle) / total
        figure.text(0.1 / WIDTH, y, "\n".join(lines), va="center", color=INK, fontsize=size)
        shared = span(row.shared_low, row.shared_high, 2)
        end = 1 - 0.1 / WIDTH
        figure.text(end, y, shared, va="center", ha="right", color=MUTED, fontsize=NOTE_SIZE)
    above = 1 - (head - 0.06) / total
    figure.text(1 - 0.1 / WIDTH, above, "accuracies", ha="right", color=MUTED, fontsize=NOTE_SIZE)
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=TICK_STEPS))
    figure.text(
        *((left + WIDTH - right) / 2 / WIDTH, 0.05 / total),
        "bits for equal accuracy (%)",
        ha="center",
        color=INK,
    )
    return figure
