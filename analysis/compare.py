"""Every curve against the anchor: BD-rate, bits saved at equal accuracy, and what limits them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np
import pandas as pd

from analysis import bd
from analysis.curves import (
    BOUND,
    MEAN,
    Assembled,
    Curve,
    Missing,
    assemble,
    missing_points,
    named,
    of_variant,
    scenario_rank,
)
from analysis.frames import rows_of
from analysis.intervals import RESAMPLES, Floats, percentile_interval
from analysis.points import Sweep
from analysis.resampling import Key, Resampled
from search_spaces.spec import JOINED

ANCHOR: Final = "reconstruction"
"""What curves are compared with: the decoded image into the MLLM."""
DEFINED: Final = 0.9
"""Share of resamples that must have a number before an interval is given."""
PARTIAL: Final = 0.75
"""Overlap under which a note says so (the same bar as the `bjontegaard` package's)."""

NAN: Final = float("nan")


@dataclass
class Row:
    """One curve against the anchor; the columns of `compare`'s frame.

    `bd_*` and `saved*` are percent: BD-rate is negative where bits are saved, `saved` positive.
    """

    mllm: str
    codec: str
    variant: str
    scenario: str
    task: str
    metric: str
    n_points: int = 0
    n_missing: int = 0
    bpp_low: float = NAN
    bpp_high: float = NAN
    value_low: float = NAN
    value_high: float = NAN
    overlap: float = NAN
    """Shared accuracies over all accuracies of both curves, 0 to 1."""
    bd_rate: float = NAN
    bd_rate_low: float = NAN
    bd_rate_high: float = NAN
    bd_defined: float = NAN
    """Share of the bootstrap resamples in which the BD-rate exists."""
    bd_rate_of_tasks: float = NAN
    """On the mean's row: the mean of the tasks' BD-rates, where every task has one."""
    target: float = NAN
    """Accuracy at which `saved` is stated: the middle of the overlap."""
    saved: float = NAN
    saved_low: float = NAN
    saved_high: float = NAN
    saved_max: float = NAN
    """The largest saving at a measured accuracy (of either curve) inside the overlap."""
    saved_max_at: float = NAN
    saved_at_anchor: list[tuple[float, float]] = field(default_factory=list)
    """(accuracy, percent saved) at the anchor's own points inside the overlap."""
    note: str = ""


def compare(
    sweep: Sweep,
    anchor: str = ANCHOR,
    n_resamples: int = RESAMPLES,
    assembled: Assembled | None = None,
) -> pd.DataFrame:
    """Compare every curve with the anchor's curve of the same codec, variant, MLLM and task.

    A codec without one (a standard's, or coded features) is compared with the first codec's.

    The task's primary metric is compared. For each (MLLM, codec, variant, scenario) a first row,
    task `mean over tasks`, compares the curves of the *mean accuracy* over tasks: one curve, less
    noise, defined even where a single task saturates. `bd_rate_of_tasks` in that row is the other
    mean, that of the tasks' BD-rates. The anchor itself and the uncompressed bound have rows too.

    Intervals: 95 % percentile bootstrap over test samples, paired (all curves see the same
    resampled samples, and the front is taken anew in each); none where under 90 % of the resamples
    have a number.

    Args:
        sweep: the sweep.
        anchor: scenario to compare with.
        n_resamples: bootstrap resamples.
        assembled: the sweep assembled, where the caller has it already.

    Returns:
        A row per curve, columns as the fields of `Row`; nan and a `note` where there is no number.
    """
    if assembled is None:
        assembled = assemble(sweep, n_resamples)
    known, resampled = assembled.tasks, assembled.resampled
    single = [c for c in assembled.curves if c.metric == known[c.task].primary]
    shown = [*assembled.means, *single]
    anchors = [c for c in shown if c.scenario == anchor]
    bound = {(b.mllm, b.task, b.metric): b for b in rows_of(assembled.bounds)}
    members = {MEAN: [(t.name, t.primary) for t in known.values()]}
    rows: list[Row] = []
    for curve in shown:
        row = _describe(curve)
        rows.append(row)
        limit = bound.get((curve.mllm, curve.task, curve.metric))
        saturated = None if limit is None else _saturated(curve, limit.low, limit.value)
        notes = [_missing_note(curve), saturated]
        of = _anchor_of(curve, anchors)
        if of is None and curve.scenario != anchor and (of := _of_other_codec(curve, anchors)):
            notes.insert(0, f"against {anchor} of {of.codec}")
        parts = members.get(curve.task, [(curve.task, curve.metric)])
        if curve.scenario == anchor:
            notes.insert(0, "the anchor")
            notes.append(_front_note(curve))
        elif of is None or of.frame.empty:
            notes.insert(0, f"no {anchor} of this codec to compare with")
        else:
            notes += _compare_pair(row, curve, of, parts, resampled)
        row.note = "; ".join(note for note in notes if note)
    _mean_of_bd_rates(rows, len(known))
    rows.sort(key=lambda r: (r.mllm, r.codec, scenario_rank(r.scenario)))  # stable
    uncompressed = sweep.points.loc[sweep.points["scenario"] == BOUND, "bpp"]
    for limit in bound.values():
        if limit.task == MEAN or limit.metric == known[limit.task].primary:
            rows.append(
                Row(
                    *(limit.mllm, "", "", BOUND, limit.task, limit.metric, 1, 0),
                    *(uncompressed.min(), uncompressed.max(), limit.value, limit.value),
                    note="the bound",
                )
            )
    frame = pd.DataFrame([asdict(r) for r in rows], columns=list(Row.__dataclass_fields__))
    order = {name: i for i, name in enumerate([MEAN, *known])}
    frame["_order"] = frame["task"].map(order)
    of_curve = frame.groupby(["mllm", "codec", "variant", "scenario"], sort=False)
    frame["_curve"] = of_curve.ngroup()
    return frame.sort_values(["_curve", "_order"], ignore_index=True).drop(
        columns=["_order", "_curve"]
    )


def summary_table(sweep: Sweep, comparison: pd.DataFrame | None = None) -> pd.DataFrame:
    """The comparison as short strings for a terminal: a row per curve and task.

    Args:
        sweep: the sweep.
        comparison: what `compare` gave, where the caller has it already.

    Returns:
        Columns `curve, task, bpp, accuracy, BD-rate, bits saved, note`; `bits saved` is at equal
        accuracy against reconstruction, in the middle of the shared accuracies.
    """
    frame = compare(sweep) if comparison is None else comparison
    several = {name: frame.loc[frame[name] != "", name].nunique() > 1 for name in ("mllm", "codec")}
    out = []
    for row in rows_of(frame):
        names = [row.mllm if several["mllm"] else "", row.codec if several["codec"] else ""]
        out.append(
            {
                "curve": " ".join([*filter(None, names), named(row.scenario, row.variant)]),
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


def summary_sentence(
    sweep: Sweep,
    comparison: pd.DataFrame | None = None,
    missing: Sequence[Missing] | None = None,
) -> str:
    """What came out, in a sentence or two: savings on the mean over tasks, and what is missing."""
    frame = compare(sweep) if comparison is None else comparison
    heads = frame[(frame["task"] == MEAN) & frame["bd_rate"].notna()]
    varies = [name for name in ("codec", "mllm") if heads[name].nunique() > 1]
    said = []
    for row in rows_of(heads.sort_values("bd_rate")):
        of = ", ".join(str(getattr(row, name)) for name in varies)
        name = named(row.scenario, row.variant) + (f" ({of})" if of else "")
        more = "fewer" if row.bd_rate < 0 else "more"
        low, high = sorted((abs(row.bd_rate_low), abs(row.bd_rate_high)))
        known = np.isfinite(low) and row.bd_rate_low * row.bd_rate_high > 0
        interval = f" ({low:.0f} to {high:.0f})" if known else ""
        if np.isfinite(low) and not known:
            interval = f" (BD-rate {row.bd_rate_low:+.0f} to {row.bd_rate_high:+.0f} %)"
        said.append(f"{name} needs {abs(row.bd_rate):.0f} % {more} bits{interval}")
    first = (
        "For equal accuracy on the mean over tasks, against reconstruction: "
        + "; ".join(said)
        + "."
        if said
        else "No curve compares with reconstruction on the mean over tasks; the notes say why."
    )
    gone = missing_points(sweep) if missing is None else missing
    total = len(sweep.manifest.get("expected", [])) or sweep.points["point_key"].nunique()
    if gone:
        return f"{first} {len(gone)} of {total} operating points are missing or incomplete."
    return f"{first} All {total} operating points are present."


def span(low: float, high: float, digits: int) -> str:
    """`0.12 to 0.50` as short text; empty where unknown."""
    if np.isnan(low):
        return ""
    if np.isclose(low, high):
        return f"{low:.{digits}f}"
    return f"{low:.{digits}f}–{high:.{digits}f}"


def with_interval(value: float, low: float, high: float, sign: bool = False) -> str:
    """`-34 % [-41, -28]` as short text; empty where there is no number."""
    form = "+.0f" if sign else ".0f"
    if np.isnan(value):
        return ""
    text = f"{value:{form}} %".replace("-", "−")
    if np.isnan(low):
        return text
    return text + f" [{low:{form}}, {high:{form}}]".replace("-", "−")


def _describe(curve: Curve) -> Row:
    row = Row(curve.mllm, curve.codec, curve.variant, curve.scenario, curve.task, curve.metric)
    row.n_points, row.n_missing = len(curve.frame), len(curve.missing)
    if row.n_points:
        row.bpp_low, row.bpp_high = _ends(curve.frame["bpp"])
        row.value_low, row.value_high = _ends(curve.frame["value"])
    return row


def _anchor_of(curve: Curve, anchors: Sequence[Curve]) -> Curve | None:
    """The anchor of a curve: its own variant's, which several variants may share."""
    first = curve.variant.partition(JOINED)[0]
    return next(
        (
            one
            for one in anchors
            if (one.mllm, one.codec, one.task) == (curve.mllm, curve.codec, curve.task)
            and of_variant(first, one.variant)
        ),
        None,
    )


def _of_other_codec(curve: Curve, anchors: Sequence[Curve]) -> Curve | None:
    """What a codec without an anchor of its own is compared with: the first codec's."""
    return next((one for one in anchors if (one.mllm, one.task) == (curve.mllm, curve.task)), None)


def _ends(values: pd.Series[float]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _arrays(curve: Curve) -> tuple[Floats, Floats]:
    rate = curve.frame["bpp"].to_numpy(dtype=np.float64)
    accuracy = curve.frame["value"].to_numpy(dtype=np.float64)
    order = np.lexsort((-accuracy, rate))
    return rate[order], accuracy[order]


def _missing_note(curve: Curve) -> str:
    if not curve.missing:
        return ""
    if curve.frame.empty:
        return "no point at all: " + ", ".join(m.text for m in curve.missing)
    return "missing: " + ", ".join(m.text for m in curve.missing)


def _saturated(curve: Curve, low: float, value: float) -> str:
    bar = value if np.isnan(low) else low
    n = int((curve.frame["value"] >= bar).sum())
    if n < 2 or 2 * n < len(curve.frame):
        return ""
    return f"saturated: {n} of {len(curve.frame)} points within the bound's interval"


def _front_note(curve: Curve) -> str:
    """Which points are left out of the comparison because more bits bought no accuracy."""
    rate, accuracy = _arrays(curve)
    off = ~bd.front(rate, accuracy)
    if not off.any():
        return ""
    dip = float((np.maximum.accumulate(accuracy) - accuracy).max())
    how = f"dips by {dip:.3f}" if dip > bd.TIE else "no more accuracy"
    where = ", ".join(f"{r:.2g}" for r in rate[off])
    return f"{curve.scenario} {how}: {off.sum()} of {len(off)} points left out ({where} bpp)"


def _compare_pair(
    row: Row, curve: Curve, anchor: Curve, parts: list[tuple[str, str]], resampled: Resampled
) -> list[str]:
    """Fill in the row's numbers; returns the notes."""
    if curve.frame.empty:
        return []
    for one in (curve, anchor):
        if one.holes:
            gone = ", ".join(f"{x:g}" for x in one.holes)
            return [f"no number: {one.scenario} has a hole at lambda {gone}"]
    notes = [_front_note(curve), _front_note(anchor)]
    (anchor_rate, anchor_value), (rate, value) = _front_of(anchor), _front_of(curve)
    shared = bd.overlap(anchor_value, value)
    row.overlap = shared.share
    alike = np.array_equal(anchor_rate, rate) and np.array_equal(anchor_value, value)
    if len(anchor_rate) < 2:
        return [*notes, f"no number: {anchor.scenario} has a single usable point"]
    if shared.low > shared.high or (shared.low == shared.high and len(rate) > 1):
        return [*notes, _apart(curve, anchor)]
    inside = (anchor_value >= shared.low) & (anchor_value <= shared.high)
    row.target = (shared.low + shared.high) / 2
    at = np.unique(np.concatenate([anchor_value, value]))
    at = at[(at >= shared.low) & (at <= shared.high)]
    savings = _savings((anchor_rate, anchor_value), (rate, value), at)
    row.saved_max, row.saved_max_at = float(savings.max()), float(at[savings.argmax()])
    row.saved_at_anchor = [
        (float(a), float(s)) for a, s in zip(at, savings, strict=True) if a in anchor_value[inside]
    ]
    middle = _savings((anchor_rate, anchor_value), (rate, value), np.array([row.target]))
    row.saved = float(middle[0])
    if len(rate) < 2:
        notes.append(f"no BD-rate: {curve.scenario} has a single usable point")
    else:
        row.bd_rate = bd.bd_rate(anchor_rate, anchor_value, rate, value)
        if shared.share < PARTIAL:
            notes.append(
                f"over accuracies {shared.low:.2f}–{shared.high:.2f} ({shared.share:.0%} shared)"
            )
        if min(len(rate), len(anchor_rate)) == 2:
            notes.append("a curve of two points: a straight line in log rate")
    if alike:
        notes.append(f"identical to {anchor.scenario}")
    return [*notes, _intervals(row, curve, anchor, parts, resampled)]


def _intervals(
    row: Row, curve: Curve, anchor: Curve, parts: list[tuple[str, str]], resampled: Resampled
) -> str:
    """Fill in the bootstrap intervals; returns a note where one is not given."""
    if any((curve.mllm, task, metric) in resampled.disagree for task, metric in parts):
        return "no interval: the per-sample values do not average to the points"
    test, base = (_resample(one, parts, resampled) for one in (curve, anchor))
    if test is None or base is None:
        return "no interval: per-sample values are not known"
    short = []
    if np.isfinite(row.bd_rate):
        rates = test.bd_rate(base)
        rates = rates[np.isfinite(rates)]
        row.bd_defined = len(rates) / len(test.low)
        if row.bd_defined >= DEFINED:
            row.bd_rate_low, row.bd_rate_high = percentile_interval(rates)
        else:
            short.append(f"BD-rate exists in {row.bd_defined:.0%} of the resamples")
    target = np.array([row.target])
    with np.errstate(invalid="ignore"):
        saved = 100 * (1 - test.rate_at(target) / base.rate_at(target))
    saved = saved[np.isfinite(saved)]
    if len(saved) >= DEFINED * len(test.low):
        row.saved_low, row.saved_high = percentile_interval(saved)
    elif len(curve.frame) > 1:
        short.append(f"the saving in {len(saved) / len(test.low):.0%}")
    return f"no interval: {', '.join(short)}" if short else ""


def _resample(curve: Curve, parts: list[tuple[str, str]], resampled: Resampled) -> bd.Batch | None:
    """The curve in every resample; None where a point's samples are not known."""
    found = []
    for keys in curve.frame["point_keys"]:
        wanted: list[Key] = [(curve.mllm, task, metric, keys) for task, metric in parts]
        found.append(resampled.mean(wanted))
    if any(f is None for f in found):
        return None
    both = [f for f in found if f is not None]
    return bd.Batch(np.stack([f[0] for f in both], 1), np.stack([f[1] for f in both], 1))


def _front_of(curve: Curve) -> tuple[Floats, Floats]:
    rate, accuracy = _arrays(curve)
    on = bd.front(rate, accuracy)
    return rate[on], accuracy[on]


def _savings(anchor: tuple[Floats, Floats], test: tuple[Floats, Floats], at: Floats) -> Floats:
    saved: Floats = 100 * (1 - bd.rate_at(*test, at) / bd.rate_at(*anchor, at))
    return saved


def _apart(curve: Curve, anchor: Curve) -> str:
    """Why there is no number where the accuracies do not meet, and what can be said."""
    (anchor_rate, anchor_value), (rate, value) = _front_of(anchor), _front_of(curve)
    if value[0] >= anchor_value[-1]:
        saved = 100 * (1 - rate[0] / anchor_rate[-1])
        how = f"{saved:.0f} % fewer" if saved >= 0 else f"{-saved:.0f} % more"
        return (
            f"no number: no overlap, every point is at or above {anchor.scenario}'s best "
            f"({value[0]:.3f}, {anchor_value[-1]:.3f}), the cheapest with {how} bits than that"
        )
    return (
        f"no number: no overlap, its best {value[-1]:.3f} is at or below "
        f"{anchor.scenario}'s lowest {anchor_value[0]:.3f}"
    )


def _mean_of_bd_rates(rows: list[Row], n_tasks: int) -> None:
    for head in rows:
        if head.task == MEAN:
            of = [
                row.bd_rate
                for row in rows
                if row.task != MEAN
                and (row.mllm, row.codec, row.variant, row.scenario)
                == (head.mllm, head.codec, head.variant, head.scenario)
            ]
            if len(of) == n_tasks and np.isfinite(of).all():
                head.bd_rate_of_tasks = float(np.mean(of))
