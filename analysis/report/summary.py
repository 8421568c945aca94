"""A comparison as text: the terminal's table, the summary sentence, formatted numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import missing_points
from analysis.curves.curve import MEAN
from analysis.curves.missing import Missing
from analysis.curves.tasks import no_mean, tasks
from analysis.io.frames import rows_of
from analysis.io.sweep import Sweep
from analysis.stats.as_text import span, with_interval
from analysis.stats.trainings import training_caveat


def summary_table(sweep: Sweep, comparison: pd.DataFrame) -> pd.DataFrame:
    """The comparison as short strings for a terminal: a row per curve and task.

    Args:
        sweep: the sweep.
        comparison: what `compare` gave.

    Returns:
        Columns `curve, task, bpp, accuracy, BD-rate, bits saved, note`; `bits saved` is at equal
        accuracy against the anchor, in the middle of the shared accuracies.
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
                "BD-rate": with_interval(row.bd_rate, row.bd_rate_low, row.bd_rate_high, sign=True),
                "bits saved": with_interval(row.saved, row.saved_low, row.saved_high),
                "note": row.note,
            }
        )
    columns = ["curve", "task", "bpp", "accuracy", "BD-rate", "bits saved", "note"]
    return pd.DataFrame(out, columns=columns)


NAMED_CURVES: Final = 6
"""Curves that the summary sentence names, those that save most."""


def summary_sentence(
    sweep: Sweep,
    comparison: pd.DataFrame,
    missing: Sequence[Missing] | None = None,
) -> str:
    """The result in a sentence or two: savings on the mean over tasks, and missing points."""
    scenarios = sweep.scenarios
    anchor = scenarios.title(sweep.anchor) or "the anchor"
    heads = comparison[(comparison["task"] == MEAN) & comparison["bd_rate"].notna()]
    varies = [name for name in ("codec", "mllm") if heads[name].nunique() > 1]
    claims = []
    for row in rows_of(heads.sort_values("bd_rate")):
        name = f"{scenarios.title(row.scenario)} {row.variant}".strip()
        qualifiers = ", ".join(str(getattr(row, column)) for column in varies)
        name += f" ({qualifiers})" if qualifiers else ""
        claims.append(f"{name} {_claim(row.bd_rate, row.bd_rate_low, row.bd_rate_high)}")
    if len(claims) > NAMED_CURVES:
        further = [f"{value:+.0f} %" for value in heads["bd_rate"].sort_values()[NAMED_CURVES:]]
        ends = further[0] if len(further) == 1 else f"{further[0]} to {further[-1]}"
        claims = [*claims[:NAMED_CURVES], f"BD-rates of {len(further)} more: {ends}"]
    reason = no_mean(tasks(sweep))
    first = (
        f"For equal accuracy on the mean over tasks, against {anchor}: " + "; ".join(claims) + "."
        if claims
        else f"There is no mean over tasks: {reason}; the notes compare task by task."
        if reason
        else f"No curve compares with {anchor} on the mean over tasks; the notes say why."
    )
    if claims and (caveat := training_caveat(sweep)):
        first += f" {caveat}"
    gone = missing_points(sweep) if missing is None else missing
    total = len(sweep.manifest.get("expected", [])) or sweep.points["point_key"].nunique()
    if gone:
        return f"{first} {len(gone)} of {total} operating points are missing or incomplete."
    return f"{first} All {total} operating points are present."


def _claim(rate: float, low: float, high: float) -> str:
    """A BD-rate in words that claim no more than its interval shows; all in percent."""
    if np.isfinite(low) and low <= 0 <= high:
        return f"shows no difference (BD-rate {rate:+.0f} %, interval {low:+.0f} to {high:+.0f} %)"
    nearest, farthest = sorted((abs(low), abs(high)))
    interval = f" ({nearest:.0f} to {farthest:.0f})" if np.isfinite(low) else " (no interval)"
    return f"needs {abs(rate):.0f} % {'fewer' if rate < 0 else 'more'} bits{interval}"
