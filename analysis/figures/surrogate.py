"""Does the surrogate predict the task? Its terms on the test images against each task's metric.

points with distill_pooled, distill_tokens --> rank correlations per task --> words, table, figure

Every operating point carries the surrogate's distances between its features and the teacher's, on
the test images. If they order the points as the task's metric does, the surrogate can stand in for
the task while training. The rate drives both, so the correlation is also given at equal rate. The
uncompressed image, whose distance is zero by definition, does not count.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from analysis.curves.assemble import BOUND, Assembled
from analysis.figures.layout import (
    LABEL_ROOM,
    LEFT,
    RIGHT,
    TICK_ROOM,
    WIDTH,
    entries_of,
    head_height,
    legend_height,
    of_names,
    put_legend,
    write_head,
)
from analysis.figures.render import Plot, file_name, line_style, styled
from analysis.figures.style import MUTED, STYLE, Looks
from analysis.figures.text_size import broken
from analysis.io.frames import rows_of
from analysis.sampling.intervals import Floats

TITLE: Final = "Does the surrogate predict the task?"
TERMS: Final = {"distill_pooled": "pooled feature", "distill_tokens": "patch tokens"}
"""Columns of the points file and what they compare with the teacher's."""
FEWEST: Final = 5
"""Points under which no correlation is stated."""
_Z: Final = 1.959964
"""The 97.5 % point of the normal distribution."""
_MANY: Final = 300
_PANEL: Final = 1.15
_GAP: Final = 0.42

NAN: Final = float("nan")


@dataclass
class Row:
    """One term against one task's primary metric; the columns of `surrogate`'s frame.

    `spearman` and `kendall` (tau-b) are in [-1, 1] with 95 % intervals, nan where there is none;
    `at_equal_rate` is Spearman's with the ranks of bpp partialled out.
    """

    mllm: str
    task: str
    metric: str
    term: str
    n_points: int
    spearman: float = NAN
    spearman_low: float = NAN
    spearman_high: float = NAN
    kendall: float = NAN
    kendall_low: float = NAN
    kendall_high: float = NAN
    at_equal_rate: float = NAN
    words: str = ""


def surrogate(assembled: Assembled) -> pd.DataFrame:
    """Rank correlations: a row per MLLM, task and term, where points carry the term.

    Args:
        assembled: the sweep assembled.
    """
    points = assembled.sweep.points
    points = points[points["scenario"] != BOUND]
    out = []
    for mllm in dict.fromkeys(points["mllm"]):
        for task in assembled.tasks.values():
            of = (points["task"] == task.name) & (points["metric"] == task.primary)
            own = points[of & (points["mllm"] == mllm)]
            for term in (name for name in TERMS if name in own.columns):
                rows = own[own[term].notna()]
                if len(rows):
                    better = task.primary not in task.lower_is_better
                    out.append(_row(mllm, task.name, task.primary, term, rows, better))
    return pd.DataFrame([asdict(row) for row in out], columns=list(Row.__dataclass_fields__))


def surrogate_sentence(frame: pd.DataFrame) -> str:
    """The answer to the question, in a few sentences; empty where no point carries the terms.

    Args:
        frame: what `surrogate` gave.
    """
    if frame.empty:
        return ""
    known = frame[frame["spearman"].notna()]
    if known.empty:
        return f"Too few points (under {FEWEST}) to say whether the surrogate predicts the tasks."
    said = []
    for term, own in known.groupby("term", sort=False):
        text = [
            f"{row.task} {_signed(row.spearman)}{_interval(row.spearman_low, row.spearman_high)}"
            for row in rows_of(own)
        ]
        good = int(own["words"].str.startswith("predicts").sum())
        several = own["mllm"].nunique() > 1
        of = f"{good} of {len(own)} tasks" + (" (times MLLMs)" if several else "")
        said.append(
            f"The error of the {TERMS[str(term)]} orders the points as the task does in {of} "
            f"(Spearman: {', '.join(text)})."
        )
    return " ".join(said)


def spearman(x: Floats, y: Floats) -> float:
    """Spearman's rank correlation, ties at their mean rank; nan where one of them is constant."""
    return _pearson(_ranks(x), _ranks(y))


def kendall(x: Floats, y: Floats) -> float:
    """Kendall's tau-b; nan where one of them is constant."""
    a, b = (np.sign(v[:, None] - v[None, :]) for v in (x, y))
    ties = np.sqrt(np.abs(a).sum() * np.abs(b).sum())
    return float((a * b).sum() / ties) if ties else NAN


def interval(coefficient: float, n: int, of: str) -> tuple[float, float]:
    """95 % interval of a rank correlation through Fisher's z.

    Bonett and Wright 2000, "Sample size requirements for estimating Pearson, Kendall and Spearman
    correlations": the variance of z is (1 + r^2 / 2) / (n - 3) for Spearman's coefficient and
    0.437 / (n - 4) for Kendall's.

    Args:
        coefficient: in [-1, 1].
        n: points.
        of: `spearman` or `kendall`.

    Returns:
        (low, high); nan with fewer than `FEWEST` points and for a perfect order, where z has no
        finite value.
    """
    if n < FEWEST or not abs(coefficient) < 1:
        return NAN, NAN
    variance = (1 + coefficient**2 / 2) / (n - 3) if of == "spearman" else 0.437 / (n - 4)
    z, half = np.arctanh(coefficient), _Z * np.sqrt(variance)
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def draw_surrogate(assembled: Assembled, frame: pd.DataFrame | None = None) -> list[Plot]:
    """A figure per MLLM: a row per task, a column per term; nothing where no point has a term.

    Args:
        assembled: the sweep assembled.
        frame: what `surrogate` gave, where the caller has it already.
    """
    frame = surrogate(assembled) if frame is None else frame
    several = frame["mllm"].nunique() > 1
    out = []
    with styled():
        for mllm, own in frame.groupby("mllm", sort=False):
            of = str(mllm) if several else ""
            name = file_name(f"surrogate-{mllm}" if several else "surrogate")
            title = of_names("Surrogate terms against the tasks' metrics", of)
            words = f"{title}. {surrogate_sentence(own)}"
            out.append(Plot(name, of_names(TITLE, of), words, _figure(assembled, own, of)))
    return out


def points_of(assembled: Assembled, mllm: str, task: str, metric: str, term: str) -> pd.DataFrame:
    """The points behind a row: one per operating point that carries the term."""
    points = assembled.sweep.points
    of = (points["mllm"] == mllm) & (points["task"] == task) & (points["metric"] == metric)
    own = points[of & (points["scenario"] != BOUND) & points[term].notna()]
    return own.assign(codec=own["codec"].fillna(""))


def _row(mllm: str, task: str, metric: str, term: str, rows: pd.DataFrame, better: bool) -> Row:
    row = Row(mllm, task, metric, term, len(rows))
    if len(rows) < FEWEST:
        row.words = f"too few points ({len(rows)})"
        return row
    x, y, rate = (rows[n].to_numpy(dtype=np.float64) for n in (term, "value", "bpp"))
    row.spearman, row.kendall = spearman(x, y), kendall(x, y)
    row.spearman_low, row.spearman_high = interval(row.spearman, len(x), "spearman")
    row.kendall_low, row.kendall_high = interval(row.kendall, len(x), "kendall")
    row.at_equal_rate = _partial(x, y, rate)
    row.words = _judged(row, better)
    return row


def _judged(row: Row, better: bool) -> str:
    """What a correlation says, for people."""
    if np.isnan(row.spearman):
        return "no order: one of the two is the same at every point"
    wanted = -row.spearman if better else row.spearman
    low, high = sorted(-end if better else end for end in (row.spearman_low, row.spearman_high))
    if np.isnan(low):
        return "predicts: the same order at every point" if wanted > 0 else "the reverse order"
    if high < 0:
        return "misleads: a smaller error goes with a worse metric"
    if low <= 0:
        return "not shown: the interval holds zero"
    if wanted >= 0.8:
        return "predicts: a smaller error goes with a better metric"
    return "predicts in part: a smaller error tends to go with a better metric"


def _figure(assembled: Assembled, own: pd.DataFrame, of: str) -> Figure:
    looks = Looks.of(assembled)
    terms = list(dict.fromkeys(own["term"]))
    tasks = list(dict.fromkeys(own["task"]))
    figure = Figure()
    owners: list[tuple[str, str, str]] = []
    cells: dict[tuple[int, int], Axes] = {}
    left, gap = LEFT + 0.1, 0.22
    for row in rows_of(own):
        axes = figure.add_subplot()
        cells[tasks.index(row.task), terms.index(row.term)] = axes
        points = points_of(assembled, row.mllm, row.task, row.metric, row.term)
        for owner, rows in points.groupby(["codec", "scenario", "variant"], sort=False):
            codec, scenario, variant = map(str, owner)
            look = looks.owner(codec, scenario, variant)
            style = {**line_style(look), "ls": ""}
            # Of very many points a picture: as paths they would be most of the file.
            axes.plot(rows[row.term], rows["value"], rasterized=len(points) > _MANY, **style)
            owners.append((codec, scenario, variant))
        _frame_cell(axes, row, points[row.term])
        if row.term == terms[0]:
            said = [f"{row.task}", row.metric.replace("_", " ")]
            lines = [part for one in said for part in broken(one, _PANEL + 0.3, STYLE["font.size"])]
            left = max(left, LEFT + 0.12 * (len(lines) - 1))
            axes.set_ylabel("\n".join(lines))
        if row.task == tasks[-1]:
            axes.set_xlabel(f"error of the {TERMS[row.term]}")
    entries = entries_of(looks, owners, lines=False)
    legend = legend_height(entries)
    head = head_height(TITLE, of, left) + 0.14
    below = legend + TICK_ROOM + LABEL_ROOM
    height = head + len(tasks) * _PANEL + (len(tasks) - 1) * _GAP + below
    width = (WIDTH - left - RIGHT - gap * (len(terms) - 1)) / len(terms)
    figure.set_size_inches(WIDTH, height)
    for (i, j), axes in cells.items():
        bottom = height - head - (i + 1) * _PANEL - i * _GAP
        x = left + j * (width + gap)
        axes.set_position((x / WIDTH, bottom / height, width / WIDTH, _PANEL / height))
        if j:
            axes.sharey(cells.get((i, 0), axes))
            axes.tick_params("y", labelleft=False)
    write_head(figure, TITLE, of, left)
    put_legend(figure, entries, legend, handle=1.2)
    return figure


def _frame_cell(axes: Axes, row: Any, x: pd.Series) -> None:
    axes.grid(True, axis="y")
    axes.set_axisbelow(True)
    said = f"n = {row.n_points}"
    if np.isfinite(row.spearman):
        said = f"ρ {_signed(row.spearman)}, τ {_signed(row.kendall)}, {said}"
    axes.set_title(said, fontsize=7, fontweight="normal", color=MUTED, pad=2.5)
    positive = x[x > 0]
    if len(positive) == len(x) and positive.max() / positive.min() >= 4:
        axes.set_xscale("log")
        decades = np.log10(positive.max() / positive.min())
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _ranks(values: Floats) -> Floats:
    ranks: Floats = pd.Series(values).rank().to_numpy(dtype=np.float64)
    return ranks


def _pearson(x: Floats, y: Floats) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(np.clip((x @ y) / scale, -1, 1)) if scale else NAN


def _partial(x: Floats, y: Floats, z: Floats) -> float:
    """Spearman's coefficient of x and y with the ranks of z partialled out."""
    xy, xz, yz = spearman(x, y), spearman(x, z), spearman(y, z)
    rest = (1 - xz**2) * (1 - yz**2)
    return float((xy - xz * yz) / np.sqrt(rest)) if rest > 1e-12 else NAN


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _interval(low: float, high: float) -> str:
    return "" if np.isnan(low) else f" [{_signed(low)}, {_signed(high)}]"
