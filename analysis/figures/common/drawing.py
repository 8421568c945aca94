"""What a figure shows: points, levels and panels, before anything draws them.

`render` draws it with Matplotlib, `analysis.report.interactive` with Plotly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from analysis.curves.curve import Curve
from analysis.curves.grouping import in_panels
from analysis.figures.common.looks import Look, Looks
from analysis.sampling.intervals import Floats

UNDIVIDED_CURVES: Final = 8
"""Largest number of curves in an undivided panel."""
CURVES_PER_PANEL: Final = 6
"""Largest number of curves in each part of a divided panel, where the other curves are pale."""

Owner = tuple[str, str, str]
"""Codec, scenario and variant."""


@dataclass(frozen=True)
class Series:
    """Points in one look, and their 95 % intervals along y.

    Attributes:
        owner: whose points they are.
        look: label, colour, marker and line.
        x, y: (P,) places.
        low, high: (P,) ends of the intervals, nan where unknown; None where none is known.
        joined: whether a line joins the points; its intervals are a band, else bars.
        dense: whether the points are too many for a marker each.
        keys: (P,) keys of the operating points that the points lead to.
        hover: shown when the pointer is over a point, as Plotly's template; unused with `keys`.
        texts: (P,) `%{text}` of that template.
    """

    owner: Owner
    look: Look
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    joined: bool = False
    dense: bool = False
    keys: Sequence[str] = ()
    hover: str = ""
    texts: Sequence[str] = ()

    def interval(self) -> tuple[Floats, Floats]:
        """Low and high (P,), nan where unknown."""
        unknown = np.full(np.size(self.x), np.nan)
        low, high = (unknown if end is None else end for end in (self.low, self.high))
        return np.asarray(low, np.float64), np.asarray(high, np.float64)


@dataclass(frozen=True)
class Level:
    """A horizontal line with a 95 % interval, nan where unknown; without label in no legend."""

    label: str
    value: float
    colour: str
    line: str = "-"
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True)
class Group:
    """Series that one column-wide panel has room for, and the looks in its legend."""

    owners: frozenset[Owner]
    legend: Sequence[Look] = ()


@dataclass(frozen=True)
class Panel:
    """Axes and what is on them.

    Attributes:
        label: of the value axis.
        series: in the order in which they are drawn.
        groups: in which the series are divided where a column has no room for all.
        levels: lines across.
        x_label: shown where the panel is in the last row.
        heading: small, above the axes.
        limits: values beyond which the axis never reaches.
        absent: places along x where a value is missing, and why.
    """

    label: str
    series: Sequence[Series]
    groups: Sequence[Group]
    levels: Sequence[Level] = ()
    x_label: str = ""
    heading: str = ""
    limits: tuple[float, float] = (float("-inf"), float("inf"))
    absent: Mapping[float, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawing:
    """A figure: rows of panels, from the top; the panels of a row have one value axis.

    Attributes:
        name: file name without extension, e.g. `vqa`.
        title: what it shows.
        subtitle: names that go with the title; may be empty.
        alt: the figure in words, for those who do not see it.
        rows: as many panels in each.
        height: inches of a panel's axes; 0 for the usual.
        names: of the places 0, 1, ... along x.
        logarithmic: whether x is logarithmic where its values span a factor of 4 or more.
        warnings: lines below the figure.
        remarks: further lines, which warn of nothing.
        width: inches of the figure; 0 for a column's.
    """

    name: str
    title: str
    subtitle: str
    alt: str
    rows: Sequence[Sequence[Panel]]
    height: float = 0.0
    names: Sequence[str] = ()
    logarithmic: bool = False
    warnings: Sequence[str] = ()
    remarks: Sequence[str] = ()
    width: float = 0.0


def only_value(panels: Sequence[Panel]) -> float | None:
    """The value that all points of a row of panels have; None where there is more to show.

    An axis around it would have ticks at values that nothing has, and that may not exist.
    """
    series = [series for panel in panels for series in panel.series]
    values = {float(y) for one in series for y in np.ravel(one.y)}
    is_alone = not any(panel.levels for panel in panels) and all(one.low is None for one in series)
    return values.pop() if is_alone and len(values) == 1 else None


def log_range(values: Sequence[float]) -> tuple[float, float] | None:
    """Ends of a logarithmic axis; None where the values span less than a factor of 4."""
    if not len(values) or min(values) <= 0 or max(values) / min(values) < 4:
        return None
    return min(values) / 1.15, max(values) * 1.15


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Plain numbers for a logarithmic axis: 1, 2, 5, fewer of them where the range is wide."""
    shown: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = (m * 10.0**e for e in range(-5, 4) for m in steps)
        shown = [tick for tick in ticks if low <= tick <= high]
        if len(shown) <= most:
            break
    return shown


def with_subtitle(title: str, subtitle: str) -> str:
    """A title in one line: `Captioning (a codec, an MLLM)`."""
    return f"{title} ({subtitle})" if subtitle else title


def groups_of(curves: Sequence[Curve], looks: Looks, anchors: Iterable[Curve] = ()) -> list[Group]:
    """The curves divided into panels by scenario family.

    Args:
        curves: those to divide; without points they take no room.
        looks: of the sweep.
        anchors: drawn in every panel of their codecs where there are several.
    """
    groups = in_panels(
        [c for c in curves if len(c.frame)] or curves, UNDIVIDED_CURVES, CURVES_PER_PANEL
    )
    out = []
    for group in groups:
        if len(groups) > 1:
            codecs = {c.codec for c in group}
            group = [*(a for a in anchors if a not in group and a.codec in codecs), *group]
        owners = [c.owner for c in group if len(c.frame)]
        out.append(Group(frozenset(owners), looks.legend(owners)))
    return out
