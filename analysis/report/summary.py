"""A comparison as text: the terminal's table, the summary sentence, formatted numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import missing_points
from analysis.curves.curve import MEAN
from analysis.curves.missing import Missing
from analysis.curves.tasks import main_rows, mean_label, no_mean, tasks
from analysis.io.frames import rows_of
from analysis.io.scenarios import Scenarios
from analysis.io.sweep import Sweep
from analysis.stats.as_text import bd_rate_over, over, rounded, span, with_interval
from analysis.stats.compare import AT_CHANCE
from analysis.stats.trainings import training_caveat


def summary_table(sweep: Sweep, comparison: pd.DataFrame) -> pd.DataFrame:
    """The comparison as short strings for a terminal: a row per curve and task.

    Args:
        sweep: the sweep.
        comparison: what `compare` gave.

    Returns:
        Columns `curve, task, bpp, accuracy, BD-rate, bits, note`; the BD-rate stands with the
        accuracies that it is over, and `bits` is the change at equal accuracy against the anchor,
        in the middle of these: as a BD-rate, negative where the curve needs fewer.
    """
    scenarios = sweep.scenarios
    several = {
        name: comparison.loc[comparison[name] != "", name].nunique() > 1
        for name in ("mllm", "codec")
    }
    out = []
    for row in rows_of(comparison):
        names = [row.mllm if several["mllm"] else "", row.codec if several["codec"] else ""]
        out.append(
            {
                "curve": " ".join(
                    [*filter(None, names), scenarios.title(row.scenario), row.variant]
                ).strip(),
                "task": row.task,
                "bpp": span(row.bpp_low, row.bpp_high, 3),
                "accuracy": span(row.value_low, row.value_high, 2),
                "BD-rate": bd_rate_over(row),
                "bits": with_interval(-row.saved, -row.saved_high, -row.saved_low, sign=True),
                "note": row.note,
            }
        )
    columns = ["curve", "task", "bpp", "accuracy", "BD-rate", "bits", "note"]
    return pd.DataFrame(out, columns=columns)


NAMED_CURVES: Final = 6
"""Curves of a ranking that the summary sentence names, those that save most."""


_BITS: Final = (
    " A BD-rate averages over shared accuracies; the column bits is at their middle alone."
)
"""Explains the heads of `summary_table`."""


def summary_sentence(
    sweep: Sweep,
    comparison: pd.DataFrame,
    missing: Sequence[Missing] | None = None,
) -> str:
    """The result in a sentence or two: savings on the mean over tasks, and missing points."""
    scenarios = sweep.scenarios
    anchor = scenarios.title(sweep.anchor) or "the anchor"
    heads = comparison[(comparison["task"] == MEAN) & comparison["bd_rate"].notna()]
    claims = _rankings(heads, scenarios)
    known = tasks(sweep)
    reason = no_mean(known)
    place = f"the report page, under 'Comparison with {anchor}',"
    first = (
        f"For equal {mean_label(known)}, against {anchor}: " + "; ".join(claims) + "."
        if claims
        else f"There is no mean over tasks: {reason}; {place} compares task by task."
        if reason
        else f"No curve has a BD-rate against {anchor} on the mean over tasks; {place} says why."
        f"{_BITS if comparison['saved'].notna().any() else ''}"
    )
    if claims and (caveat := training_caveat(sweep)):
        first += f" {caveat}"
    bounds = comparison[(comparison["scenario"] == sweep.bound) & (comparison["task"] != MEAN)]
    guessed = bounds.loc[bounds["note"].str.contains(AT_CHANCE), "task"]
    if len(guessed):
        title = scenarios.title(sweep.bound)
        first += f" Warning: {title} itself {AT_CHANCE} in {', '.join(dict.fromkeys(guessed))}."
    gone = missing_points(sweep) if missing is None else missing
    total = len(sweep.manifest.get("expected", [])) or sweep.points["point_key"].nunique()
    if gone:
        return f"{first} {len(gone)} of {total} operating points are missing or incomplete."
    return f"{first} All {total} operating points are present."


def lead_sentence(sweep: Sweep, comparison: pd.DataFrame) -> str:
    """The result in one sentence that claims no more than the intervals show.

    Of the curves against one anchor it names the first in the ranking whose interval is below 0, on
    the mean over tasks or on the only task, and says how many are better, worse or not told apart.
    Numbers against the anchors of several codecs do not rank.
    """
    known = tasks(sweep)
    task, rows = main_rows(comparison, known)
    anchor = sweep.scenarios.title(sweep.anchor) or "the anchor"
    what = mean_label(known) if task == MEAN else task
    if rows.empty:
        return f"No curve has a BD-rate against {anchor} for equal {what}."
    start = f"As trained in this sweep, for equal {what}"
    fewer, more = rows[rows["bd_rate_high"] < 0], rows[rows["bd_rate_low"] > 0]
    open_ = len(rows) - len(fewer) - len(more)
    counts = [(len(more), f"need more bits than {anchor}"), (open_, "show no difference")]
    rest = ", ".join(f"{count} {words}" for count, words in counts if count)
    if fewer.empty:
        return f"{start}, no curve is shown to need fewer bits than {anchor}: {rest}."
    firsts = list(rows_of(fewer.drop_duplicates(["mllm", "anchor_codec"])))
    claims = []
    for first in firsts[:NAMED_CURVES]:
        varies = [getattr(first, name) for name in ("codec", "mllm") if rows[name].nunique() > 1]
        name = f"{sweep.scenarios.title(first.scenario)} {first.variant}".strip()
        name += f" ({', '.join(map(str, varies))})" if varies else ""
        claim = _claim(first.bd_rate, first.bd_rate_low, first.bd_rate_high)
        claims.append(f"{name} {claim}{over(first.shared_low, first.shared_high)}")
    counted = f"{len(fewer)} of {len(rows)} curves need fewer bits than {anchor}"
    own = ", each against its own codec's" if rows["anchor_codec"].nunique() > 1 else ""
    return f"{start}, {counted}{f', {rest}' if rest else ''}; {'; '.join(claims)}{own}."


def _rankings(heads: pd.DataFrame, scenarios: Scenarios) -> list[str]:
    """What the curves need, best first: each ranking over the accuracies that its curves share;
    curves that share none, each over its own."""
    varies = [name for name in ("codec", "mllm") if heads[name].nunique() > 1]
    ordered = heads.sort_values("ranked_bd_rate")
    out: list[str] = []
    for _, rows in ordered.groupby(["ranked_low", "ranked_high"], sort=False, dropna=False):
        claims = []
        low, high = float(rows["ranked_low"].iloc[0]), float(rows["ranked_high"].iloc[0])
        is_ranked = bool(np.isfinite(low))
        for row in rows_of(rows):
            name = f"{scenarios.title(row.scenario)} {row.variant}".strip()
            qualifiers = ", ".join(str(getattr(row, column)) for column in varies)
            name += f" ({qualifiers})" if qualifiers else ""
            numbers = row.ranked_bd_rate, row.ranked_bd_rate_low, row.ranked_bd_rate_high
            own = row.bd_rate, row.bd_rate_low, row.bd_rate_high
            claim = _claim(*(numbers if is_ranked else own))
            where = "" if is_ranked else over(row.shared_low, row.shared_high)
            claims.append(f"{name} {claim}{where}{_to_next(row)}")
        if len(claims) > NAMED_CURVES:
            rates = rows["ranked_bd_rate" if is_ranked else "bd_rate"][NAMED_CURVES:]
            further = [f"{rounded(value)} %" for value in rates]
            ends = further[0] if len(further) == 1 else f"{further[0]} to {further[-1]}"
            claims = [*claims[:NAMED_CURVES], f"BD-rates of {len(further)} more: {ends}"]
        text = "; ".join(claims)
        apart = "over accuracies of their own, not ranked: " if out else ""
        out.append(
            f"over the accuracies {span(low, high, 2)}: {text}" if is_ranked else apart + text
        )
    return out


def _to_next(row: Any) -> str:
    """Whether the next curve of a ranking is told apart; empty where it is, or there is none."""
    low, high = row.bd_rate_to_next_low, row.bd_rate_to_next_high
    if row.next_curve and np.isnan(low):
        return f", not known to be told apart from {row.next_curve}"
    if not low <= 0 <= high:
        return ""
    number = with_interval(row.bd_rate_to_next, low, high, sign=True)
    return f", not told apart from {row.next_curve} ({number})"


def _claim(rate: float, low: float, high: float) -> str:
    """A BD-rate in words that claim no more than its interval shows; all in percent."""
    if np.isfinite(low) and low <= 0 <= high:
        ends = f"{rounded(low)} to {rounded(high)} %"
        return f"shows no difference (BD-rate {rounded(rate)} %, interval {ends})"
    nearest, farthest = sorted((abs(low), abs(high)))
    interval = f" ({nearest:.0f} to {farthest:.0f})" if np.isfinite(low) else " (no interval)"
    return f"needs {abs(rate):.0f} % {'fewer' if rate < 0 else 'more'} bits{interval}"
