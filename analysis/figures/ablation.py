"""What a space's variants change: a figure over the variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from textwrap import wrap
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.figures.common.drawing import Drawing, Group, Level, Panel, Series, with_subtitle
from analysis.figures.common.looks import Looks
from analysis.figures.common.render import Plot, draw, file_name
from analysis.io.frames import rows_of
from analysis.stats.as_text import rounded, with_interval
from analysis.stats.variants import ablation

PANEL: Final = 1.25
"""Inches: height of one panel's axes."""
TITLE: Final = "What the variants change"
PANELS: Final = {
    "accuracy": "mean accuracy",
    "gained": "gain at {:.3g} bpp",
    "bd_rate": "BD-rate (%)",
    "psnr": "PSNR (dB)",
}

AGAINST: Final = ("gained", "bd_rate")
"""Numbers that compare with the anchor, which is 0."""
SAME_BPP: Final = 0.01
"""Share by which mean bits may differ and still be called the same. Ours."""


def draw_ablation(assembled: Assembled, comparison: pd.DataFrame) -> list[Plot]:
    """A figure for each codec and MLLM: accuracy, BD-rate and PSNR over the variants.

    Where a variant changes the bits, the gain of accuracy at matched bits stands in place of the
    accuracy. PSNR only where it varies. Nothing at all for a space without variants.

    Args:
        assembled: the sweep assembled.
        comparison: what `compare` gave.
    """
    frame = ablation(assembled, comparison)
    # Variants are on the axis: looks have none.
    owners = [(curve.codec, curve.scenario) for curve in assembled.curves]
    looks = Looks(owners, scenarios=assembled.sweep.scenarios)
    names = list(assembled.sweep.variants)
    several = frame[["mllm", "codec"]].drop_duplicates().shape[0] > 1
    out = []
    for (mllm, codec), rows in frame.groupby(["mllm", "codec"], sort=False):
        varied = rows[rows["variant"] != ""]
        if varied.empty:
            continue
        subtitle = f"{codec}, {mllm}" if several else ""
        name = file_name(f"ablation-{codec}-{mllm}" if several else "ablation")
        kinds = ["gained" if _is_at_other_rates(varied) else "accuracy"]
        kinds += ["bd_rate"] if varied["bd_rate"].notna().any() else []
        kinds += ["psnr"] if _varies(varied) else []
        panels = [[_panel(rows, kind, names, looks, assembled.sweep.anchor)] for kind in kinds]
        scenarios = [("", scenario, "") for scenario in varied["scenario"].unique()]
        everything = Group(frozenset(scenarios), [looks.scenario(s) for _, s, _ in scenarios])
        panels[-1] = [replace(panels[-1][0], groups=[everything])]
        alt = _words(varied, subtitle, looks)
        out.append(draw(Drawing(name, TITLE, subtitle, alt, panels, PANEL, names)))
    return out


def _panel(
    rows: pd.DataFrame, kind: str, variants: Sequence[str], looks: Looks, anchor: str
) -> Panel:
    """One number over the variants: its scenarios side by side, so that none covers another."""
    levels, series = [], []
    absent: dict[float, str] = {}
    if kind in AGAINST:
        look = looks.scenario(anchor)
        levels.append(Level(look.label, 0.0, look.colour, "--"))
    else:
        # What no variant touches: a line to measure the others by.
        for row in rows_of(rows[(rows["variant"] == "") & rows[kind].notna()]):
            look = looks.scenario(row.scenario)
            levels.append(Level(look.label, getattr(row, kind), look.colour, look.line))
    varied = rows[rows["variant"] != ""]
    scenarios = list(varied["scenario"].unique())
    for number, scenario in enumerate(scenarios):
        if kind in AGAINST and scenario == anchor:  # the line at 0
            continue
        of_scenario = varied[varied["scenario"] == scenario]
        positions = of_scenario["variant"].map(variants.index)
        positions += 0.14 * (number - (len(scenarios) - 1) / 2)
        known = of_scenario[kind].notna()
        if kind != "psnr":  # not every scenario gives an image
            absent |= dict(zip(positions[~known], of_scenario.loc[~known, "note"], strict=True))
        if not known.any():
            continue
        shown = of_scenario[known]
        ends = [shown[end] for end in (f"{kind}_low", f"{kind}_high") if end in shown]
        low, high = ends or (None, None)
        coordinates = (positions[known], shown[kind], low, high)
        texts = [_hover(row) for row in rows_of(shown)]
        look = looks.scenario(scenario)
        series.append(Series(("", scenario, ""), look, *coordinates, hover="%{text}", texts=texts))
    owners = frozenset(s.owner for s in series)
    label = PANELS[kind].format(rows["matched_bpp"].max())
    return Panel(label, series, [Group(owners)], levels, absent=absent)


def _is_at_other_rates(varied: pd.DataFrame) -> bool:
    """Whether variants of one scenario have other bits, and a gain at matched bits."""
    bpp = varied.groupby("scenario")["bpp"]
    return bool((bpp.max() > (1 + SAME_BPP) * bpp.min()).any() and varied["gained"].notna().any())


def _varies(varied: pd.DataFrame) -> bool:
    spread = varied.groupby("scenario")["psnr"].agg(lambda values: values.max() - values.min())
    return bool((spread > 0.01).any())


def _words(rows: pd.DataFrame, subtitle: str, looks: Looks) -> str:
    descriptions = [
        f"{looks.scenario(row.scenario).label} {row.variant} {row.accuracy:.2f}"
        + (f", BD-rate {rounded(row.bd_rate)} %" if np.isfinite(row.bd_rate) else "")
        for row in rows_of(rows)
    ]
    title = with_subtitle("Mean accuracy over tasks and rates, and BD-rate, by variant", subtitle)
    return f"{title}: " + "; ".join(descriptions) + "."


def _hover(row: Any) -> str:
    """The text shown when the pointer is over a variant."""
    accuracy = f"accuracy {row.accuracy:.3f}"
    if np.isfinite(row.accuracy_low):
        accuracy += f" [{row.accuracy_low:.3f}, {row.accuracy_high:.3f}]"
    gain = with_interval(
        row.gained, row.gained_low, row.gained_high, sign=True, digits=2, unit=" of accuracy"
    )
    rate = with_interval(row.bd_rate, row.bd_rate_low, row.bd_rate_high, sign=True)
    lines = [
        row.variant,
        *wrap(row.settings or "unchanged settings", 60),
        accuracy,
        f"{gain} at {row.matched_bpp:.3g} bpp" if gain else "",
        f"BD-rate {rate or 'has no number'}",
        f"PSNR {row.psnr:.2f} dB" if np.isfinite(row.psnr) else "",
        f"{row.n_rates} rates, mean {row.bpp:.3f} bpp",
        *wrap(row.note, 60),
    ]
    return "<br>".join(escape(line, quote=False) for line in lines if line)
