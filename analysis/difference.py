"""Relative curve difference: how many more or fewer bits than the anchor, at each accuracy.

BD-rate is the mean of this over the shared accuracies (of its logarithm); the figure shows where
the savings come from and where they end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import bd
from analysis.compare import ANCHOR, DEFINED
from analysis.curves import MEAN, Assembled, Curve, of_variant
from analysis.intervals import Floats
from analysis.looks import Looks, in_panels
from analysis.plots import HEIGHT, MANY, MOST, PANEL_HEIGHT, TITLES, band
from analysis.render import Plot, entries_of, file_name, line_style, new_axes, stack, styled
from analysis.resampling import Key
from search_spaces.spec import JOINED

STEPS: Final = 25
"""Accuracies at which a difference is computed."""


def difference(assembled: Assembled, curve: Curve, anchor: Curve) -> pd.DataFrame | None:
    """Bits of a curve relative to the anchor's at equal accuracy.

    As in `compare`: on the fronts of both, PCHIP of log rate over accuracy; intervals are a paired
    bootstrap over test samples, none where under 90 % of the resamples have a number.

    Args:
        assembled: the sweep assembled.
        curve, anchor: of the same MLLM, task and metric.

    Returns:
        Columns `accuracy, change, low, high`, the last three in percent (negative: fewer bits), at
        equal steps over the shared accuracies; None where there are none, or one has a hole.
    """
    if curve.holes or anchor.holes or min(len(curve.frame), len(anchor.frame)) < 2:
        return None
    test, base = (bd.Batch(*_once(one)) for one in (curve, anchor))
    low, high = max(test.low[0], base.low[0]), min(test.high[0], base.high[0])
    if min(test.size[0], base.size[0]) < 2 or not low < high:
        return None
    accuracies = np.linspace(low, high, STEPS)
    both = [_resamples(assembled, one) for one in (curve, anchor)]
    rows = []
    for accuracy in accuracies:
        at = np.array([accuracy])
        change = 100 * (test.rate_at(at)[0] / base.rate_at(at)[0] - 1)
        interval = (np.nan, np.nan)
        if both[0] is not None and both[1] is not None:
            found = 100 * (both[0].rate_at(at) / both[1].rate_at(at) - 1)
            defined = found[np.isfinite(found)]
            if len(defined) >= DEFINED * len(found):
                interval = assembled.resampled.interval(defined)
        rows.append((accuracy, change, *interval))
    return pd.DataFrame(rows, columns=["accuracy", "change", "low", "high"])


def differences(assembled: Assembled, task: str = MEAN) -> list[tuple[Curve, pd.DataFrame]]:
    """Every curve of a task against its anchor, with its `difference`, where there is one."""
    own = assembled.means if task == MEAN else _primary(assembled, task)
    out = []
    for curve in own:
        anchor = _anchor_of(curve, own)
        if anchor is not None and anchor is not curve:
            found = difference(assembled, curve, anchor)
            if found is not None:
                out.append((curve, found))
    return out


def draw_difference(assembled: Assembled, task: str = MEAN) -> list[Plot]:
    """A figure per MLLM: percent of bits relative to reconstruction over accuracy.

    Args:
        assembled: the sweep assembled.
        task: a task's name, or the mean over tasks.

    Returns:
        Nothing where no curve shares accuracies with its anchor.
    """
    looks = Looks.of(assembled)
    found = differences(assembled, task)
    mllms = list(dict.fromkeys(curve.mllm for curve, _ in found))
    label = "mean accuracy over tasks" if task == MEAN else f"{TITLES.get(task, task)}"
    out = []
    with styled():
        for mllm in mllms:
            own = [(curve, frame) for curve, frame in found if curve.mllm == mllm]
            of = f" ({mllm})" if len(mllms) > 1 else ""
            title = f"Bits relative to {ANCHOR}{of}"
            name = "difference" if task == MEAN else f"difference-{task}"
            name += f"-{mllm}" if len(mllms) > 1 else ""
            figure = _figure(own, looks, title, label)
            out.append(Plot(file_name(name), title, _words(own, looks, label), figure))
    return out


def _figure(
    own: Sequence[tuple[Curve, pd.DataFrame]], looks: Looks, title: str, label: str
) -> Figure:
    figure = Figure()
    frames = {id(curve): frame for curve, frame in own}
    groups = in_panels([curve for curve, _ in own], MANY, MOST)
    panels = [new_axes(figure) for _ in groups]
    ends = [float(end) for _, f in own for end in (f["accuracy"].min(), f["accuracy"].max())]
    room = 0.03 * (max(ends) - min(ends))
    for axes, group in zip(panels, groups, strict=True):
        for curve in group:
            frame, look = frames[id(curve)], looks.curve(curve)
            style = line_style(look) | {"markevery": (2, 6)}
            axes.plot(frame["accuracy"], frame["change"], **style)
            known = frame[frame["low"].notna()]
            band(axes, known["accuracy"], known["low"], known["high"], look)
        axes.axhline(0, color=looks.scenario(ANCHOR).colour, lw=1.1, ls="--", zorder=1.5)
        axes.set_xlim(min(ends) - room, max(ends) + room)
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -100), min(high, 200))  # an interval may run off; a saving may not
        axes.set_ylabel("bits (%)")
    panels[-1].set_xlabel(label)
    zero = Line2D([], [], color=looks.scenario(ANCHOR).colour, lw=1.1, ls="--")
    height = HEIGHT if len(panels) == 1 else PANEL_HEIGHT
    entries = [
        entries_of(looks, [(c.codec, c.scenario, c.variant) for c in group]) for group in groups
    ]
    entries[-1] |= {ANCHOR: zero}
    stack(figure, panels, entries, title, height)
    return figure


def _anchor_of(curve: Curve, curves: Sequence[Curve]) -> Curve | None:
    """The anchor of a curve: its codec's and variant's; of a codec without one the first there is,
    as in `compare`."""
    anchors = [c for c in curves if c.scenario == ANCHOR and c.mllm == curve.mllm]
    if curve.scenario == ANCHOR:
        return None
    first = curve.variant.partition(JOINED)[0]
    own = [c for c in anchors if c.codec == curve.codec and of_variant(first, c.variant)]
    return next(iter([*own, *anchors]), None)


def _primary(assembled: Assembled, task: str) -> list[Curve]:
    metric = assembled.tasks[task].primary
    return [c for c in assembled.curves if (c.task, c.metric) == (task, metric)]


def _once(curve: Curve) -> tuple[Floats, Floats]:
    rate, value = (curve.frame[n].to_numpy(dtype=np.float64)[None] for n in ("bpp", "value"))
    return rate, value


def _resamples(assembled: Assembled, curve: Curve) -> bd.Batch | None:
    """The curve in every resample; None where a point's samples are not known."""
    tasks = assembled.tasks.values()
    parts = (
        [(t.name, t.primary) for t in tasks] if curve.task == MEAN else [(curve.task, curve.metric)]
    )
    found = []
    for keys in curve.frame["point_keys"]:
        wanted: list[Key] = [(curve.mllm, task, metric, keys) for task, metric in parts]
        one = assembled.resampled.mean(wanted)
        if one is None:
            return None
        found.append(one)
    return bd.Batch(np.stack([f[0] for f in found], 1), np.stack([f[1] for f in found], 1))


def _words(own: Sequence[tuple[Curve, pd.DataFrame]], looks: Looks, label: str) -> str:
    said = [
        f"{looks.curve(curve).label} {frame['change'].iloc[0]:+.0f} % at "
        f"{frame['accuracy'].iloc[0]:.2f} to {frame['change'].iloc[-1]:+.0f} % at "
        f"{frame['accuracy'].iloc[-1]:.2f}"
        for curve, frame in own
    ]
    return f"Bits relative to {ANCHOR} over {label}: " + "; ".join(said) + "."
