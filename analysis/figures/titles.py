"""Titles and labels of a task's figures, and the levels across them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.curves.curve import MEAN, Curve
from analysis.curves.tasks import Task, less_is_better

TITLES: Final = {
    MEAN: "Mean over tasks",
    "captioning": "Captioning",
    "vqa": "Visual question answering",
    "rec": "Referring expressions",
    "fewshot": "Few-shot classification",
    "zeroshot": "Zero-shot classification",
    "captions": "Captioning",
    "choice": "Multiple choice",
    "yes_no": "Yes or no",
    "open_vqa": "Open questions",
    "grounding": "Grounding",
    "text_reading": "Text reading",
}
"""Tasks in figures' titles; the title of any other task is its name."""


class Titled(NamedTuple):
    """Title, labels and file name of a figure.

    Attributes:
        name: of its file.
        title: what it shows.
        of: the names that go with the title; may be empty.
        label: of the value axis.
    """

    name: str
    title: str
    of: str
    label: str


PSNR: Final = Titled("psnr", "Image quality", "", "PSNR (dB)")


def titled(assembled: Assembled, task: str, metric: str, mllm: str = "") -> Titled:
    """Title, labels and file name of the figure of a task's metric."""
    known = assembled.tasks
    if task == MEAN:
        first = next(iter(known.values()))  # all have the same unit, or there is no mean
        name, title, unit = "mean", TITLES[MEAN], first.units[first.primary]
        label = "mean accuracy over tasks" if unit == "fraction" else TITLES[MEAN].lower()
    else:
        title, label = TITLES.get(task, task), metric.replace("_", " ")
        unit, main = known[task].units[metric], metric == known[task].primary
        name = task if main else f"{task}-{metric}"
        if not main:
            title = f"{title}: {metric if unit == 'fraction' else unit}"
    if unit not in ("fraction", metric, ""):
        label = f"{label} ({unit})" if unit.lower() != label.lower() else unit
    if less_is_better(known, task, metric):
        label = f"{label}, lower is better"
    return Titled(f"{name}-{mllm}" if mllm else name, title, mllm, label)


def bound_of(assembled: Assembled, curves: Sequence[Curve]) -> pd.DataFrame:
    """The bound of curves of one MLLM, task and metric: one row or none."""
    limits, of = assembled.bounds, curves[0]
    return limits[
        (limits["mllm"] == of.mllm) & (limits["task"] == of.task) & (limits["metric"] == of.metric)
    ]


def chance_of(known: dict[str, Task], task: str, metric: str) -> float | None:
    """Value that guessing gives; None where it is unknown."""
    if task == MEAN:
        chances = [t.chance for t in known.values()]
        return None if None in chances else float(np.mean([c or 0 for c in chances]))
    return known[task].chance if metric == known[task].primary else None
