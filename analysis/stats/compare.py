"""Every curve against the anchor: BD-rate, bits saved at equal accuracy, and what limits them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import Assembled, assemble
from analysis.curves.curve import MEAN, Curve
from analysis.curves.missing import in_words
from analysis.curves.tasks import chance_of, less_is_better
from analysis.io.frames import rows_of
from analysis.io.scenarios import Scenarios
from analysis.io.sweep import Sweep
from analysis.sampling import bd
from analysis.sampling.intervals import RESAMPLES
from analysis.stats.anchor import against_anchors
from analysis.stats.as_text import with_interval
from analysis.stats.pairs import NAN, Estimate, Pair, arrays
from analysis.stats.ranking import ranked
from analysis.stats.seeds import about_seeds, fewest_seeds, other_numbers

PARTIAL: Final = 0.75
"""Overlap below which a note warns (the `bjontegaard` package warns at the same value)."""

AT_CHANCE: Final = "is at chance"
"""Of the bound: in the notes of its task's rows."""


@dataclass
class Row:
    """One curve against the anchor; the columns of `compare`'s frame.

    `bd_rate*` and `saved*` are percent: BD-rate is negative where bits are saved, `saved` positive.
    `bd_accuracy*` is in the metric's unit, positive where accuracy is gained.
    """

    mllm: str
    codec: str
    variant: str
    scenario: str
    task: str
    metric: str
    anchor_codec: str = ""
    """Codec of the anchor's curve that this one is compared with; empty without one."""
    n_points: int = 0
    n_missing: int = 0
    n_seeds: int = 0
    n_seeds_least: int = 0
    """Seeds of the curve, and the fewest at one of its rates."""
    bpp_low: float = NAN
    bpp_high: float = NAN
    value_low: float = NAN
    value_high: float = NAN
    overlap: float = NAN
    """Shared accuracies over all accuracies of both curves, 0 to 1."""
    shared_low: float = NAN
    shared_high: float = NAN
    """The shared accuracies, over which `bd_rate` is."""
    bd_rate: float = NAN
    bd_rate_low: float = NAN
    bd_rate_high: float = NAN
    bd_defined: float = NAN
    """Share of the bootstrap resamples in which the BD-rate exists."""
    bd_rate_pooled: float = NAN
    """BD-rate with the points that are left out (`bd.pooled`); nan where none is."""
    ranked_low: float = NAN
    ranked_high: float = NAN
    """Accuracies that all curves of this anchor share which have a BD-rate (see `ranking`)."""
    ranked_bd_rate: float = NAN
    ranked_bd_rate_low: float = NAN
    ranked_bd_rate_high: float = NAN
    """BD-rate over these, the only ones to rank by."""
    next_curve: str = ""
    """The next one in the ranking."""
    bd_rate_to_next: float = NAN
    bd_rate_to_next_low: float = NAN
    bd_rate_to_next_high: float = NAN
    """BD-rate against that one, paired, over the ranking's accuracies."""
    bd_accuracy: float = NAN
    """Mean gain over the log rates that both curves have."""
    bd_accuracy_low: float = NAN
    bd_accuracy_high: float = NAN
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
    anchor: str | None = None,
    n_resamples: int = RESAMPLES,
    assembled: Assembled | None = None,
    codec: str | None = None,
) -> pd.DataFrame:
    """Compare every curve with the anchor's curve of the same codec, variant, MLLM and task; that
    of a codec without one (a standard's, or coded features) with the first codec's.

    The task's primary metric is compared. For each (MLLM, codec, variant, scenario) a first row,
    task `mean over tasks`, compares the curves of the *mean accuracy* over tasks: one curve, less
    noise, defined even where a single task saturates. `bd_rate_of_tasks` in that row is the other
    mean, that of the tasks' BD-rates. The anchor itself and the bound have rows too. BD-rates are
    over the accuracies that a curve shares with its anchor, which differ; the first rows also have
    a ranking over common ones (`ranking`).

    Intervals: 95 % bootstrap over test samples and, from three seeds on, over seeds; paired (all
    curves see the same resampled samples and seeds, and the front is taken anew in each). Those of
    BD-rate and BD-accuracy are percentiles, and there is none where 2.5 % of the resamples or more
    have no number; for that of `saved` see `inversion`.

    Args:
        sweep: the sweep.
        anchor: scenario to compare with; by default the sweep's scenario of role `anchor`.
        n_resamples: bootstrap resamples.
        assembled: the sweep assembled, where the caller has it already.
        codec: compare all with the anchor of this codec, instead of each with its own codec's.

    Returns:
        A row per curve, columns as the fields of `Row`; nan and a `note` where there is no number.

    Raises:
        AnalysisError: the sweep has no curve of that anchor, or none of that codec.
    """
    assembled = assembled or assemble(sweep, n_resamples)
    bound = {(b.mllm, b.task, b.metric): b for b in rows_of(assembled.bounds)}
    rows: list[Row] = []
    heads: dict[Pair, Row] = {}
    comparisons = list(against_anchors(assembled, anchor, codec))
    for compared in comparisons:
        curve, row = compared.curve, _describe(compared.curve)
        rows.append(row)
        limit = bound.get((curve.mllm, curve.task, curve.metric))
        upward = not less_is_better(assembled.tasks, curve.task, curve.metric)
        notes = [compared.note, _missing_note(curve, sweep.scenarios)]
        notes += _limits(assembled, curve, limit) if upward else []
        if compared.pair is not None and not curve.frame.empty:
            notes += _fill_in(row, compared.pair)
            if curve.task == MEAN or not assembled.means:  # once a curve
                notes.append(about_seeds(curve, compared.pair.anchor))
                notes.append(other_numbers(curve, (each.curve for each in comparisons)))
                if np.isfinite(row.bd_rate):
                    heads[compared.pair] = row
        elif compared.is_anchor and upward:
            notes.append(_front_note(curve))
        row.note = "; ".join(note for note in notes if note)
    _rank(heads)
    _mean_of_bd_rates(rows, len(assembled.tasks))
    return _ordered(rows, assembled)


def _limits(assembled: Assembled, curve: Curve, bound: Any | None) -> list[str]:
    """Notes of what the bound says about a curve: nothing left to gain, nothing to learn."""
    if bound is None:
        return []
    chance = chance_of(assembled.tasks, curve.task, curve.metric)
    return [
        _saturated(curve, bound.low, bound.value),
        _at_chance(assembled.sweep, bound, chance),
    ]


def _ordered(rows: list[Row], assembled: Assembled) -> pd.DataFrame:
    """The rows curve by curve, the mean over tasks first; then those of the bound."""
    rank = assembled.sweep.scenarios.rank
    rows.sort(key=lambda row: (row.mllm, row.codec, rank(row.scenario)))  # stable
    frame = _frame([*rows, *_bound_rows(assembled)])
    order = frame["task"].map({name: i for i, name in enumerate([MEAN, *assembled.tasks])})
    curve_number = frame.groupby(["mllm", "codec", "variant", "scenario"], sort=False).ngroup()
    positions = pd.DataFrame({"curve": curve_number, "task": order})
    return frame.loc[positions.sort_values(["curve", "task"]).index].reset_index(drop=True)


def _frame(rows: Iterable[Row]) -> pd.DataFrame:
    return pd.DataFrame([asdict(row) for row in rows], columns=list(Row.__dataclass_fields__))


def _bound_rows(assembled: Assembled) -> Iterator[Row]:
    """A row per MLLM and task for the bound."""
    sweep = assembled.sweep
    for level in rows_of(assembled.bounds):
        if level.task == MEAN or level.metric == assembled.tasks[level.task].primary:
            row = Row(level.mllm, "", "", sweep.bound, level.task, level.metric, n_points=1)
            row.bpp_low, row.bpp_high = _ends(sweep.bound_points["bpp"])
            row.value_low = row.value_high = level.value
            guessing = _at_chance(
                sweep, level, chance_of(assembled.tasks, level.task, level.metric)
            )
            row.note = "; ".join(filter(None, ["the bound", guessing]))
            yield row


def _at_chance(sweep: Sweep, bound: Any, chance: float | None) -> str:
    """The warning where nothing can be learnt from a task: the bound itself may be guessing."""
    low = bound.value if np.isnan(bound.low) else bound.low
    if chance is None or low > chance:
        return ""
    return f"{sweep.scenarios.title(sweep.bound)} itself {AT_CHANCE} ({chance:.3g})"


def _describe(curve: Curve) -> Row:
    row = Row(curve.mllm, curve.codec, curve.variant, curve.scenario, curve.task, curve.metric)
    row.n_points, row.n_missing = len(curve.frame), len(curve.missing)
    row.n_seeds, row.n_seeds_least = len(curve.seeds), fewest_seeds(curve)
    if row.n_points:
        row.bpp_low, row.bpp_high = _ends(curve.frame["bpp"])
        row.value_low, row.value_high = _ends(curve.frame["value"])
    return row


def _ends(values: pd.Series[float]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _missing_note(curve: Curve, scenarios: Scenarios) -> str:
    if not curve.missing:
        return ""
    head = "no point at all" if curve.frame.empty else "missing"
    return f"{head}: {'; '.join(in_words(curve.missing, scenarios))}"


def _saturated(curve: Curve, low: float, value: float) -> str:
    bar = value if np.isnan(low) else low
    n = int((curve.frame["value"] >= bar - bd.TIE).sum())
    if n < 2 or 2 * n < len(curve.frame):
        return ""
    return f"saturated: {n} of {len(curve.frame)} points within the bound's interval"


def _front_note(curve: Curve) -> str:
    """Which points are left out of the comparison because more bits gain no accuracy."""
    rate, accuracy = arrays(curve)
    off = ~bd.front(rate, accuracy)
    if not off.any():
        return ""
    dip = float((np.maximum.accumulate(accuracy) - accuracy).max())
    how = f"dips by {dip:.3f}" if dip > bd.TIE else "gains no more accuracy"
    where = ", ".join(f"{r:.2g}" for r in rate[off])
    return f"{curve.display_name} {how}: {off.sum()} of {len(off)} points left out ({where} bpp)"


def _fill_in(row: Row, pair: Pair) -> list[str]:
    """Fill in the row's numbers; returns the notes."""
    row.anchor_codec = pair.anchor.codec
    if pair.why:
        return [f"no number: {pair.why}"]
    anchor, curve, shared = pair.anchor, pair.test, pair.accuracies
    notes = [_front_note(curve), _front_note(anchor)]
    row.overlap = shared.share
    if shared.low <= shared.high:
        row.shared_low, row.shared_high = shared.low, shared.high
    gain = pair.bd_accuracy()
    row.bd_accuracy, row.bd_accuracy_low, row.bd_accuracy_high = gain.value, gain.low, gain.high
    rate = pair.bd_rate()
    row.bd_rate, row.bd_rate_low, row.bd_rate_high = rate.value, rate.low, rate.high
    row.bd_defined = rate.defined
    row.bd_rate_pooled = pair.bd_rate_pooled()
    points = [len(values) for values, _ in pair.fronts]
    if shared.low > shared.high or (shared.low == shared.high and min(points) > 1):
        reason = rate.why if pair.at_floor or min(points) > 1 else _beside(pair)
        lacking = "number" if np.isnan(gain.value) else "BD-rate, no saving"
        return [*notes, f"no {lacking}: {reason}"]
    row.target = (shared.low + shared.high) / 2
    saved = pair.saved(row.target)
    if np.isnan(saved.value):
        return [*notes, f"no BD-rate, no saving: {saved.why}", _interval_note(rate, saved, gain)]
    row.saved, row.saved_low, row.saved_high = saved.value, saved.low, saved.high
    measured = [
        values[(values >= shared.low) & (values <= shared.high)] for _, values in pair.fronts
    ]
    at_anchor, at_test = (
        list(zip(values.tolist(), pair.saved_at(values).tolist(), strict=True))
        for values in measured
    )
    row.saved_at_anchor = at_anchor
    row.saved_max_at, row.saved_max = max([*at_anchor, *at_test], key=lambda saving: saving[1])
    if np.isnan(rate.value):
        notes.append(f"no BD-rate: {rate.why}")
    else:
        if shared.share < PARTIAL:
            notes.append(f"over {shared.share:.0%} of both curves' accuracies")
        if min(points) == 2:
            notes.append("a curve of two points: a straight line in log rate")
    if np.isfinite(row.bd_rate_pooled):
        pooled = with_interval(row.bd_rate_pooled, sign=True)
        notes.append(f"BD-rate {pooled} where points are pooled with neighbours, not left out")
    if pair.identical:
        notes.append(f"identical to {anchor.display_name}")
    return [*notes, _interval_note(rate, saved, gain)]


def _rank(rows: dict[Pair, Row]) -> None:
    """Fill in the rankings, each of an anchor's curves, of which these have a BD-rate."""
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for pair in rows:
        owner = (pair.test.mllm, pair.test.task, *pair.anchor.owner)
        groups.setdefault(owner, []).append(pair)
    for place in (place for group in groups.values() for place in ranked(group)):
        row, rate, to_next = rows[place.pair], place.bd_rate, place.against_next
        row.ranked_low, row.ranked_high = place.low, place.high
        row.ranked_bd_rate = rate.value
        row.ranked_bd_rate_low, row.ranked_bd_rate_high = rate.low, rate.high
        row.next_curve, row.bd_rate_to_next = place.next_name, to_next.value
        row.bd_rate_to_next_low, row.bd_rate_to_next_high = to_next.low, to_next.high


def _interval_note(rate: Estimate, saved: Estimate, gain: Estimate) -> str:
    """Why intervals are missing, stated once where all are missing for the same reason."""
    named = (("BD-rate", rate), ("the saving", saved), ("BD-accuracy", gain))
    numbers = [(name, estimate.why) for name, estimate in named if np.isfinite(estimate.value)]
    reasons: dict[str, list[str]] = {}
    for name, reason in numbers:
        if reason:
            reasons.setdefault(reason.removeprefix("no interval: "), []).append(name)
    if not reasons:
        return ""
    (first, names), *_ = reasons.items()
    if len(names) == len(numbers):
        return f"no interval: {first}"
    return "no interval: " + ", ".join(
        f"{' and '.join(names)} ({reason})" for reason, names in reasons.items()
    )


def _beside(pair: Pair) -> str:
    """Why a single point outside the other curve's accuracies cannot be compared."""
    (_, anchor_value), (_, value) = pair.fronts
    low, high = max(anchor_value[0], value[0]), min(anchor_value[-1], value[-1])
    return f"no overlap, accuracies end at {high:.3f} and begin at {low:.3f}"


def _mean_of_bd_rates(rows: list[Row], n_tasks: int) -> None:
    for head in rows:
        if head.task == MEAN:
            task_rates = [
                row.bd_rate
                for row in rows
                if row.task != MEAN
                and (row.mllm, row.codec, row.variant, row.scenario)
                == (head.mllm, head.codec, head.variant, head.scenario)
            ]
            if len(task_rates) == n_tasks and np.isfinite(task_rates).all():
                head.bd_rate_of_tasks = float(np.mean(task_rates))
