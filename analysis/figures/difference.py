"""Relative curve difference: how many more or fewer bits than the anchor, at each accuracy.

BD-rate is the exponential of the mean log ratio of the rates over the shared accuracies, minus one;
the figure shows where the savings come from and where they end.
"""

from __future__ import annotations

from typing import Final

import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.curves.curve import MEAN, Curve
from analysis.curves.tasks import mean_label
from analysis.figures.drawing import Drawing, Level, Panel, Series, groups_of, with_subtitle
from analysis.figures.looks import Looks
from analysis.figures.rate_accuracy import TITLES
from analysis.figures.render import Plot, draw, file_name
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
                    dense=True,
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
            f"{looks.curve(curve).label} {round(frame['change'].iloc[0]):+d} % at "
            f"{frame['accuracy'].iloc[0]:.2f} to {round(frame['change'].iloc[-1]):+d} % at "
            f"{frame['accuracy'].iloc[-1]:.2f}"
            for curve, frame in shown
        ]
        alt = f"{with_subtitle(f'{title} over {label}', subtitle)}: {'; '.join(descriptions)}."
        out.append(draw(Drawing(file_name(name), title, subtitle, alt, [[panel]])))
    return out
