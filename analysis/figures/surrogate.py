"""Does the surrogate predict the task? A figure of its terms against each task's metric."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.figures.common.drawing import Drawing, Group, Panel, Series, with_subtitle
from analysis.figures.common.looks import Looks
from analysis.figures.common.render import Plot, draw, file_name
from analysis.io.frames import rows_of
from analysis.stats.surrogate import TERMS, coefficient, points_of, surrogate, surrogate_sentence

TITLE: Final = "Does the surrogate predict the task?"
PANEL: Final = 1.15
"""Inches: height of a panel's axes."""


def draw_surrogate(assembled: Assembled, frame: pd.DataFrame | None = None) -> list[Plot]:
    """A figure per MLLM: a row per task, a column per term; nothing where no point has a term.

    Args:
        assembled: the sweep assembled.
        frame: what `surrogate` gave, where the caller has it already.
    """
    frame = surrogate(assembled) if frame is None else frame
    several = frame["mllm"].nunique() > 1
    out = []
    looks = Looks.of(assembled)
    for mllm, rows in frame.groupby("mllm", sort=False):
        subtitle = str(mllm) if several else ""
        name = file_name(f"surrogate-{mllm}" if several else "surrogate")
        title = with_subtitle("Surrogate terms against the tasks' metrics", subtitle)
        by_place = {(row.task, row.term): row for row in rows_of(rows)}
        panels = [
            [_panel(assembled, looks, by_place.get((task, term))) for term in rows["term"].unique()]
            for task in rows["task"].unique()
        ]
        owners = [s.owner for row in panels for panel in row for s in panel.series]
        group = Group(frozenset(owners), looks.legend(owners))
        panels[-1] = [replace(panel, groups=[group]) for panel in panels[-1]]
        alt = f"{title}. {surrogate_sentence(rows)}"
        out.append(draw(Drawing(name, TITLE, subtitle, alt, panels, PANEL, logarithmic=True)))
    return out


def _panel(assembled: Assembled, looks: Looks, row: Any) -> Panel:
    """A term against a task's metric; empty where no point of the task has the term."""
    if row is None:
        return Panel("", [], [Group(frozenset())])
    points = points_of(assembled, row.mllm, row.task, row.metric, row.term)
    series = []
    for names, rows in points.groupby(["codec", "scenario", "variant"], sort=False):
        codec, scenario, variant = map(str, names)
        owner = (codec, scenario, variant)
        keys = list(rows["point_key"])
        series.append(Series(owner, looks.owner(*owner), rows[row.term], rows["value"], keys=keys))
    heading = f"n = {row.n_points}"
    if np.isfinite(row.spearman):
        heading = f"ρ {coefficient(row.spearman)}, τ {coefficient(row.kendall)}, {heading}"
    return Panel(
        f"{row.task}: {row.metric.replace('_', ' ')}",
        series,
        [Group(frozenset(s.owner for s in series))],
        x_label=f"error of the {TERMS[row.term]}",
        heading=heading,
    )
