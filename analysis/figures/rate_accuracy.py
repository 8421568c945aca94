"""Figures of curves: accuracy over bits per pixel, per task and on the mean, and PSNR."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from analysis.curves.assemble import Assembled, by_rate
from analysis.curves.curve import MEAN, Curve
from analysis.curves.missing import in_words
from analysis.curves.tasks import chance_of, less_is_better, mean_label
from analysis.figures.common.drawing import (
    Drawing,
    Group,
    Level,
    Panel,
    Series,
    groups_of,
    with_subtitle,
)
from analysis.figures.common.looks import Looks
from analysis.figures.common.render import Plot, draw, file_name
from analysis.figures.common.style import MUTED
from analysis.io.frames import rows_of
from analysis.io.schema import MEASURE
from analysis.stats.seeds import unequal_seeds

RATE: Final = "bits per pixel (real bytes written)"

TITLES: Final = {
    MEAN: "Mean over tasks",
    "captioning": "Captioning",
    "vqa": "Visual question answering",
    "rec": "Referring expressions",
    "fewshot": "Few-shot classification",
    "classification": "Classification by the encoder",
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
        subtitle: the names that go with the title; may be empty.
        label: of the value axis.
    """

    name: str
    title: str
    subtitle: str
    label: str


FULL_WIDTH: Final = 7.0
"""Inches: of a page's text."""
ABREAST: Final = 4
"""Tasks side by side at the most."""
SMALL: Final = 1.0
"""Inches: height of the axes of a small multiple."""

PSNR: Final = Titled("psnr", "Image quality", "", "PSNR (dB)")


def titled(assembled: Assembled, task: str, metric: str, mllm: str = "") -> Titled:
    """Title, labels and file name of the figure of a task's metric."""
    known = assembled.tasks
    if task == MEAN:
        first = next(iter(known.values()))  # all have the same unit, or there is no mean
        name, title, unit = "mean", TITLES[MEAN], first.units[first.primary]
        label = mean_label(known) if unit == "fraction" else TITLES[MEAN].lower()
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


def draw_curves(assembled: Assembled) -> list[Plot]:
    """Accuracy over bits per pixel: the mean over tasks, then each task and metric.

    With several MLLMs there is a figure for each, its name ending in the MLLM's. A missing point is
    named under its figure and breaks the line. More than `UNDIVIDED_CURVES` curves are divided into
    panels.

    Args:
        assembled: the sweep assembled.
    """
    shown = [*assembled.means, *assembled.curves]
    kinds = dict.fromkeys((c.mllm, c.task, c.metric) for c in shown)
    several = len({mllm for mllm, _, _ in kinds}) > 1
    out = []
    for mllm, task, metric in kinds:
        drawn = [c for c in shown if (c.mllm, c.task, c.metric) == (mllm, task, metric)]
        named = titled(assembled, task, metric, mllm if several else "")
        levels = list(_levels(assembled, drawn))
        out.append(_draw(assembled, drawn, drawn, named, levels))
    return out


def draw_tasks(assembled: Assembled) -> list[Plot]:
    """All tasks in one figure per MLLM, as wide as a page: small multiples with shared axes.

    A column per task, with its primary metric, and a row per family of curves; one legend. Tasks
    in other units than the first one's, and a single task, have only figures of their own.

    Args:
        assembled: the sweep assembled.
    """
    known = assembled.tasks
    unit = next(iter(t.units[t.primary] for t in known.values()), "")
    names = [task for task, t in known.items() if t.units[t.primary] == unit]
    mllms = list(dict.fromkeys(curve.mllm for curve in assembled.curves))
    looks = Looks.of(assembled)
    out = []
    for mllm in mllms if len(names) > 1 else []:
        drawn = {
            task: [
                curve
                for curve in assembled.curves
                if (curve.mllm, curve.task, curve.metric) == (mllm, task, known[task].primary)
            ]
            for task in names
        }
        drawn = {task: curves for task, curves in drawn.items() if curves}
        if len(drawn) < 2:
            continue
        groups = _shared_groups(assembled, drawn, looks)
        panels = [_small(assembled, task, curves, groups) for task, curves in drawn.items()]
        columns = -(-len(panels) // -(-len(panels) // ABREAST))
        panels += [Panel("", [], [Group(frozenset())] * len(groups))] * (-len(panels) % columns)
        rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
        owners = [curve.owner for curves in drawn.values() for curve in curves]
        everything = Group(groups[-1].owners, looks.legend(owners))
        rows[-1][0] = replace(rows[-1][0], groups=[*groups[:-1], everything])
        subtitle = mllm if len(mllms) > 1 else ""
        name = file_name(f"tasks-{mllm}" if subtitle else "tasks")
        shown = ", ".join(TITLES.get(task, task) for task in drawn)
        alt = f"{with_subtitle('Task by task', subtitle)}: primary metrics over {RATE} of {shown}."
        size = {"height": SMALL, "width": FULL_WIDTH, "logarithmic": True}
        plot = draw(Drawing(name, "Task by task", subtitle, alt, rows, **size))  # type: ignore[arg-type]
        out.append(replace(plot, drawing=None))
    return out


def _shared_groups(
    assembled: Assembled, drawn: Mapping[str, Sequence[Curve]], looks: Looks
) -> list[Group]:
    """The same rows of curves for every task, without legends."""
    curves = list({c.owner: c for each in drawn.values() for c in each if len(c.frame)}.values())
    anchors = [curve for curve in curves if curve.scenario == assembled.sweep.anchor]
    return [Group(group.owners) for group in groups_of(curves, looks, anchors)]


def _small(
    assembled: Assembled, task: str, curves: Sequence[Curve], groups: Sequence[Group]
) -> Panel:
    """A task's curves as one of the small multiples."""
    named = titled(assembled, task, assembled.tasks[task].primary)
    unit = assembled.tasks[task].units[assembled.tasks[task].primary]
    label = "accuracy" if unit == "fraction" else named.label
    series = _series(assembled, curves)
    levels = list(_levels(assembled, curves))
    return Panel(label, series, groups, levels, "bits per pixel", heading=named.title)


def draw_psnr(assembled: Assembled) -> list[Plot]:
    """PSNR of the decoded image over bits per pixel, where there are decoded images.

    Scenarios that show the base codec's image unchanged share one curve per codec.

    Args:
        assembled: the sweep assembled.
    """
    every = psnr_curves(assembled)
    return [_draw(assembled, distinct_images(every), every, PSNR)] if every else []


def psnr_curves(assembled: Assembled) -> list[Curve]:
    """A curve of PSNR for each codec, variant and scenario that gives an image."""
    points = assembled.sweep.curve_points
    rows = points[points["psnr"].notna()]
    nothing: dict[str, Any] = dict.fromkeys(("value_low", "value_high"), np.nan)
    nothing |= {"mllm": "", "task": "", "metric": "psnr"}
    rows = rows.assign(bpp=rows.groupby("point_key")["bpp"].transform("mean"), **nothing)
    frames = by_rate(rows.drop_duplicates("point_key").assign(value=lambda each: each["psnr"]))
    out = []
    # One of each owner, in the curves' order.
    for curve in {(c.codec, c.variant, c.scenario): c for c in assembled.curves}.values():
        frame = frames.get((curve.codec, curve.variant, curve.scenario, "", "", "psnr"))
        if frame is not None:
            out.append(replace(curve, frame=frame, task="", metric="psnr"))
    return out


def distinct_images(curves: Iterable[Curve]) -> list[Curve]:
    """The curves of PSNR to draw: of the base codec's unchanged images one per codec.

    A curve of base images is left out where its points are all on one that is drawn. (Variants may
    change the base codec, which makes other images.)

    Args:
        curves: what `psnr_curves` gave.
    """
    curves = list(curves)
    drawn: dict[str, list[set[tuple[float, float]]]] = {}
    left_out = set()
    for number, curve in sorted(enumerate(curves), key=lambda item: -len(item[1].frame)):
        points = {(round(b, 12), round(v, 12)) for b, v in curve.frame[["bpp", "value"]].to_numpy()}
        same_codec = drawn.setdefault(curve.codec, [])
        if curve.look.image == "base":
            if any(points <= images for images in same_codec):
                left_out.add(number)
            same_codec.append(points)
    return [curve for number, curve in enumerate(curves) if number not in left_out]


def same_points(curves: Iterable[Curve]) -> list[list[Curve]]:
    """The curves in groups that have the same points; those without any are one each."""
    groups: dict[bytes | int, list[Curve]] = {}
    for number, curve in enumerate(curves):
        values = np.round(curve.frame[["bpp", "value"]].to_numpy(dtype=np.float64), 12)
        groups.setdefault(values.tobytes() or number, []).append(curve)
    return list(groups.values())


def near_chance(values: Sequence[float], chance: float) -> bool:
    """Whether chance is nearer to the values than their range: else it is left out."""
    return min(values) - chance < max(values) - min(values) + 1e-9


def _draw(
    assembled: Assembled,
    drawn: Sequence[Curve],
    every: Sequence[Curve],
    titled: Titled,
    levels: Sequence[Level] = (),
) -> Plot:
    """A figure of some curves, with notes on all that it stands for."""
    looks = Looks.of(assembled)
    series = _series(assembled, drawn)
    anchors = [c for c in drawn if c.scenario == assembled.sweep.anchor]
    panel = Panel(titled.label, series, groups_of(drawn, looks, anchors), levels, RATE)
    missing = [m for curve in every for m in curve.missing]
    descriptions = [
        f"{looks.curve(c).label} {c.frame['value'].iloc[0]:.2f} at "
        f"{c.frame['bpp'].iloc[0]:.2g} bpp to {c.frame['value'].iloc[-1]:.2f} at "
        f"{c.frame['bpp'].iloc[-1]:.2g}"
        for c in drawn
        if len(c.frame)
    ]
    title = with_subtitle(titled.title, titled.subtitle)
    return draw(
        Drawing(
            file_name(titled.name),
            titled.title,
            titled.subtitle,
            f"{title}: {titled.label} over bits per pixel. " + "; ".join(descriptions) + ".",
            [[panel]],
            logarithmic=True,
            warnings=[
                f"missing: {line}"
                for line in in_words(missing, assembled.sweep.scenarios, looks.by_codec)
            ],
            remarks=[
                f"the same points: {', '.join(looks.curve(c).label for c in group)}"
                for group in same_points(every)
                if len(group) > 1
            ]
            + [note for note in map(unequal_seeds, every) if note],
        )
    )


def _series(assembled: Assembled, curves: Sequence[Curve]) -> list[Series]:
    """The curves as lines that end where a point is missing."""
    looks = Looks.of(assembled)
    return [
        Series(
            *(curve.owner, looks.curve(curve), part["bpp"], part["value"]),
            *(part["low"], part["high"]),
            joined=True,
            keys=[keys[0] for keys in part["point_keys"]],
        )
        for curve in sorted(curves, key=lambda curve: curve.rank)
        for part in curve.segments
    ]


def _levels(assembled: Assembled, curves: Sequence[Curve]) -> Iterator[Level]:
    """The bound of curves of one MLLM, task and metric, and chance where that is near."""
    first, limits = curves[0], assembled.bounds
    values = [float(value) for curve in curves for value in curve.frame["value"]]
    look = Looks.of(assembled).scenario(assembled.sweep.bound)
    for row in rows_of(
        limits[(limits[MEASURE] == [first.mllm, first.task, first.metric]).all(axis=1)]
    ):
        values.append(float(row.value))
        yield Level(look.label, float(row.value), look.colour, "-", row.low, row.high)
    chance = chance_of(assembled.tasks, first.task, first.metric)
    if chance is not None and near_chance(values or [0.0, 1.0], chance):
        yield Level("chance", chance, MUTED, ":")
