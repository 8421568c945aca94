"""Does the surrogate predict the task? Its terms on the test images against each task's metric.

points with distill_pooled, distill_tokens --> rank correlations per task --> words, table, figure

Every operating point has the surrogate's distances between its features and the teacher's on the
test images. If they order the points as the task's metric does, the surrogate can replace the task
during training. The rate drives both, so the correlation is also given at equal rate. The
bound, whose distance is zero by definition, does not count.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.io.frames import rows_of
from analysis.sampling.intervals import Floats
from analysis.stats.as_text import with_interval

TERMS: Final = {"distill_pooled": "pooled feature", "distill_tokens": "patch tokens"}
"""Columns of the points file and what they compare with the teacher's."""
FEWEST: Final = 5
"""Points under which no correlation is stated."""
STRONG: Final = 0.8
"""Size of Spearman's coefficient from which on a term predicts, and below which in part. Ours."""
PREDICTS: Final = "predicts"
ROUNDING: Final = 1e-12
_Z: Final = 1.959964
"""The 97.5 % point of the normal distribution."""

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
    points = assembled.sweep.curve_points
    out = []
    for mllm in dict.fromkeys(points["mllm"]):
        for task in assembled.tasks.values():
            is_primary = (points["task"] == task.name) & (points["metric"] == task.primary)
            task_points = points[is_primary & (points["mllm"] == mllm)]
            for term in (name for name in TERMS if name in task_points.columns):
                rows = task_points[task_points[term].notna()]
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
    judged = frame[frame["n_points"] >= FEWEST]
    if judged.empty:
        return f"Too few points (under {FEWEST}) to say whether the surrogate predicts the tasks."
    sentences = []
    for term, rows in judged.groupby("term", sort=False):
        several = " (times MLLMs)" if rows["mllm"].nunique() > 1 else ""
        by_verdict: dict[str, list[str]] = {PREDICTS: []}
        for row in rows_of(rows):
            number = coefficient(row.spearman, row.spearman_low, row.spearman_high)
            verdict = row.words.partition(":")[0]
            by_verdict.setdefault(verdict, []).append(f"{row.task} {number}".strip())
        counts = {verdict: str(len(tasks)) for verdict, tasks in by_verdict.items()}
        counts[PREDICTS] += f" of {len(rows)} tasks{several}"
        claims = [
            f"{verdict} in {counts[verdict]}" + (f" ({', '.join(tasks)})" if tasks else "")
            for verdict, tasks in by_verdict.items()
        ]
        sentences.append(f"Error of the {TERMS[str(term)]}: {'; '.join(claims)}.")
    return (
        f"{' '.join(sentences)} The numbers are Spearman's correlations; predicts means "
        f"{STRONG} or more in size, with an order at equal rate too, and predicts in part the same "
        f"under {STRONG}."
    )


def spearman(x: Floats, y: Floats) -> float:
    """Spearman's rank correlation, ties at their mean rank; nan where one of them is constant."""
    from scipy.stats import spearmanr  # scipy.stats takes a while to import

    return float(spearmanr(x, y).statistic) if np.ptp(x) and np.ptp(y) else NAN


def kendall(x: Floats, y: Floats) -> float:
    """Kendall's tau-b; nan where one of them is constant."""
    from scipy.stats import kendalltau

    return float(kendalltau(x, y).statistic) if np.ptp(x) and np.ptp(y) else NAN


def interval(coefficient: float, n: int, kind: str) -> tuple[float, float]:
    """95 % interval of a rank correlation through Fisher's z.

    Bonett and Wright 2000, "Sample size requirements for estimating Pearson, Kendall and Spearman
    correlations": the variance of z is (1 + r^2 / 2) / (n - 3) for Spearman's coefficient and
    0.437 / (n - 4) for Kendall's.

    Args:
        coefficient: in [-1, 1].
        n: points.
        kind: `spearman` or `kendall`.

    Returns:
        (low, high); nan with fewer than `FEWEST` points and for a perfect order, where z has no
        finite value.
    """
    if n < FEWEST or not abs(coefficient) < 1 - ROUNDING:
        return NAN, NAN
    variance = (1 + coefficient**2 / 2) / (n - 3) if kind == "spearman" else 0.437 / (n - 4)
    z, half = np.arctanh(coefficient), _Z * np.sqrt(variance)
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def points_of(assembled: Assembled, mllm: str, task: str, metric: str, term: str) -> pd.DataFrame:
    """The points behind a row: one per operating point that carries the term."""
    points = assembled.sweep.curve_points
    is_selected = (points["mllm"] == mllm) & (points["task"] == task) & (points["metric"] == metric)
    with_term = points[is_selected & points[term].notna()]
    return with_term.assign(codec=with_term["codec"].fillna(""))


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
    """A correlation in words."""
    if np.isnan(row.spearman):
        return "no order: one of the two is the same at every point"
    wanted = -row.spearman if better else row.spearman
    low, high = sorted(-end if better else end for end in (row.spearman_low, row.spearman_high))
    if np.isnan(low):
        same = f"{PREDICTS}: the same order at every point"
        return same if wanted > 0 else "misleads: the reverse order at every point"
    if high < 0:
        return "misleads: a smaller error goes with a worse metric"
    if low <= 0:
        return "not shown: the interval holds zero"
    at_equal_rate = interval(row.at_equal_rate, row.n_points - 1, "spearman")
    if at_equal_rate[0] <= 0 <= at_equal_rate[1]:
        return "through the rate: more bits go with both; at equal rate no order is shown"
    if wanted >= STRONG:
        return f"{PREDICTS}: a smaller error goes with a better metric ({STRONG} or more in size)"
    return (
        f"{PREDICTS} in part: a smaller error tends to go with a better metric (under {STRONG} in "
        "size)"
    )


def _partial(x: Floats, y: Floats, z: Floats) -> float:
    """Spearman's coefficient of x and y with the ranks of z partialled out."""
    xy, xz, yz = spearman(x, y), spearman(x, z), spearman(y, z)
    rest = (1 - xz**2) * (1 - yz**2)
    return float((xy - xz * yz) / np.sqrt(rest)) if rest > ROUNDING else NAN


def coefficient(value: float, low: float = NAN, high: float = NAN) -> str:
    """A coefficient with its sign, two digits, and its interval as far as it is known."""
    return with_interval(value, low, high, sign=True, digits=2, unit="")
