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
from analysis.stats.savings import CURVE

TITLE: Final = "Lost, and left to recover"
HOVER: Final = "%{y:.3f} below at %{x:.3g} bpp"


def main_gaps(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of the mean over tasks, or of all tasks where there is no mean; those with rates."""
    of_mean = found[found["task"] == MEAN]
    shown = found if of_mean.empty else of_mean
    return shown[shown["rate"].notna()]


def draw_gaps(assembled: Assembled, found: pd.DataFrame) -> list[Plot]:
    """A figure per MLLM: accuracy below the bound over bits per pixel, lower is better.

    The anchor's line is what compression costs. That of a receiver of the same streams is what it
    leaves; the distance between both is what it recovers.

    Args:
        assembled: the sweep assembled.
        found: what `gaps` gave.

    Returns:
        Nothing where no curve has the anchor's streams, where there is no bound, and where several
        tasks have no mean.
    """
    shown = main_gaps(found).dropna(subset="lost")
    if shown["task"].nunique() != 1:
        return []
    looks, task = Looks.of(assembled), str(shown["task"].iloc[0])
    by_kind = {
        tuple(getattr(curve, name) for name in CURVE): curve
        for curve in [*assembled.means, *assembled.curves]
    }
    several = shown["mllm"].nunique() > 1
    label = mean_label(assembled.tasks) if task == MEAN else TITLES.get(task, task)
    scenarios = assembled.sweep.scenarios
    axis = f"below {scenarios.title(assembled.sweep.bound)}"
    out = []
    for mllm, rows in shown.groupby("mllm", sort=False):
        subtitle = f"{label}, {mllm}" if several else label
        curves: list[Curve] = []
        series: list[Series] = []
        descriptions: list[str] = []
        for kind, of_curve in rows.groupby(CURVE, sort=False):
            curve = by_kind[kind]
            anchor = _anchor_of(assembled, curve)
            for one, gap in ((anchor, "lost"), (curve, "left")):
                if one is None or one in curves:
                    continue
                curves.append(one)
                series.append(_series(one, looks, of_curve, gap))
                first = of_curve.iloc[0]
                descriptions.append(
                    f"{looks.curve(one).label} {first[gap]:.2f} at {first['rate']:.3g} bpp"
                )
        anchors = [curve for curve in curves if curve.scenario == assembled.sweep.anchor]
        panel = Panel(axis, series, groups_of(curves, looks, anchors), x_label=RATE)
        name = file_name(f"gaps-{mllm}" if several else "gaps")
        alt = f"{with_subtitle(TITLE, subtitle)}: {'; '.join(descriptions)}."
        out.append(draw(Drawing(name, TITLE, subtitle, alt, [[panel]], logarithmic=True)))
    return out


def _anchor_of(assembled: Assembled, curve: Curve) -> Curve | None:
    """The anchor's curve of the same codec and measure."""
    same = ("mllm", "codec", "task", "metric")
    return next(
        (
            other
            for other in [*assembled.means, *assembled.curves]
            if other.scenario == assembled.sweep.anchor
            and all(getattr(other, name) == getattr(curve, name) for name in same)
        ),
        None,
    )


def _series(curve: Curve, looks: Looks, rows: pd.DataFrame, gap: str) -> Series:
    return Series(
        *(curve.owner, looks.curve(curve), rows["rate"], rows[gap]),
        *(rows[f"{gap}_low"], rows[f"{gap}_high"]),
        joined=True,
        hover=HOVER,
    )
