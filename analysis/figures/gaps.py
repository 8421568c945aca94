"""Accuracy lost to compression, and what is left of the loss with receivers of the same streams."""

from __future__ import annotations

from typing import Final

import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.curves.curve import MEAN, Curve
from analysis.curves.tasks import mean_label
from analysis.figures.common.drawing import Drawing, Panel, Series, groups_of, with_subtitle
from analysis.figures.common.looks import Looks
from analysis.figures.common.render import Plot, draw, file_name
from analysis.figures.rate_accuracy import RATE, TITLES
from analysis.stats.gaps import ANCHOR
from analysis.stats.savings import CURVE

TITLE: Final = "Lost, and left to recover"
HOVER: Final = "%{y:.3f} below at %{x:.3g} bpp"


def main_gaps(found: pd.DataFrame) -> pd.DataFrame:
    """Of each MLLM the rows of its mean over tasks, or of all tasks where it has none; those with
    rates."""
    with_rate = found[found["rate"].notna()]
    has_mean = with_rate["mllm"].isin(with_rate.loc[with_rate["task"] == MEAN, "mllm"])
    return with_rate[~has_mean | (with_rate["task"] == MEAN)]


def draw_gaps(assembled: Assembled, found: pd.DataFrame) -> list[Plot]:
    """A figure per MLLM: accuracy below the bound over bits per pixel, lower is better.

    The anchor's line is what compression costs. That of a receiver of the same streams is what it
    leaves; the distance between both is what it recovers.

    Args:
        assembled: the sweep assembled.
        found: what `gaps` gave.

    Returns:
        None of an MLLM where no curve has the anchor's streams, where there is no bound, and where
        several tasks have no mean.
    """
    shown = main_gaps(found).dropna(subset="lost")
    looks = Looks.of(assembled)
    several = shown["mllm"].nunique() > 1
    axis = f"below {assembled.sweep.scenarios.title(assembled.sweep.bound)}"
    out = []
    for mllm, rows in shown.groupby("mllm", sort=False):
        if rows["task"].nunique() > 1:
            continue
        task = str(rows["task"].iloc[0])
        label = mean_label(assembled.tasks) if task == MEAN else TITLES.get(task, task)
        subtitle = f"{label}, {mllm}" if several else label
        drawn = _curves(assembled, rows)
        curves = [curve for curve, _, _ in drawn]
        anchors = [curve for curve, gap, _ in drawn if gap == "lost"]
        series = [_series(curve, looks, of_curve, gap) for curve, gap, of_curve in drawn]
        descriptions = [
            f"{looks.curve(curve).label} {of_curve[gap].iloc[0]:.2f} at "
            f"{of_curve['rate'].iloc[0]:.3g} bpp"
            for curve, gap, of_curve in drawn
        ]
        panel = Panel(axis, series, groups_of(curves, looks, anchors), x_label=RATE)
        name = file_name(f"gaps-{mllm}" if several else "gaps")
        alt = f"{with_subtitle(TITLE, subtitle)}: {'; '.join(descriptions)}."
        out.append(draw(Drawing(name, TITLE, subtitle, alt, [[panel]], logarithmic=True)))
    return out


def _curves(assembled: Assembled, rows: pd.DataFrame) -> list[tuple[Curve, str, pd.DataFrame]]:
    """Each anchor once and each receiver, with the gap that is drawn of it, and its rows."""
    by_kind = {
        tuple(getattr(curve, name) for name in CURVE): curve
        for curve in [*assembled.means, *assembled.curves]
    }
    drawn: dict[tuple[str, ...], tuple[str, list[pd.DataFrame]]] = {}
    for receiver, of_curve in rows.groupby(CURVE, sort=False):
        mllm, *_, task, metric = map(str, receiver)
        anchor = (mllm, *map(str, of_curve[list(ANCHOR)].iloc[0]), task, metric)
        for key, gap in ((anchor, "lost"), (tuple(map(str, receiver)), "left")):
            drawn.setdefault(key, (gap, []))[1].append(of_curve)
    return [
        (by_kind[key], gap, pd.concat(frames).drop_duplicates("rate").sort_values("rate"))
        for key, (gap, frames) in drawn.items()
    ]


def _series(curve: Curve, looks: Looks, rows: pd.DataFrame, gap: str) -> Series:
    return Series(
        *(curve.owner, looks.curve(curve), rows["rate"], rows[gap]),
        *(rows[f"{gap}_low"], rows[f"{gap}_high"]),
        joined=True,
        hover=HOVER,
    )
