"""Which curve each curve is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.curves.assemble import Assembled
from analysis.curves.curve import MEAN, Curve, of_variant
from analysis.curves.tasks import floor_of, less_is_better
from analysis.io.schema import AnalysisError
from analysis.stats.pairs import Pair
from search_spaces.specs.points import JOINED


@dataclass(frozen=True)
class AnchorComparison:
    """A curve and what it is compared with.

    Attributes:
        curve: the curve.
        parts: the (task, metric) pairs that it averages; for a single task its own.
        pair: the curve against its anchor; None for an anchor itself and where there is none.
        note: a remark on the choice of the anchor; empty where it is the curve's own codec's.
        is_anchor: whether the curve is what other curves are compared with.
    """

    curve: Curve
    parts: list[tuple[str, str]]
    pair: Pair | None
    note: str
    is_anchor: bool = False


def against_anchors(
    assembled: Assembled, anchor: str | None = None, codec: str | None = None
) -> Iterator[AnchorComparison]:
    """Every curve of primary metrics, the means over tasks first, with its anchor.

    The anchor is the curve of the anchor's scenario, of the same codec, variant, MLLM and task. A
    codec without one (a standard's, or coded features) is compared with the first codec's.
    Curves of lower-is-better metrics are not compared.

    Args:
        assembled: the sweep assembled.
        anchor: scenario to compare with; by default the sweep's scenario of role `anchor`.
        codec: compare all with the anchor of this codec, instead of each with its own codec's.

    Raises:
        AnalysisError: no curve of that scenario, or of that scenario and codec.
    """
    known, scenarios = assembled.tasks, assembled.sweep.scenarios
    single = [c for c in assembled.curves if c.metric == known[c.task].primary]
    shown = [*assembled.means, *single]
    scenario = _checked(assembled, anchor, codec)
    title = scenarios.title(scenario) or "curve of role anchor"
    anchors = [c for c in shown if c.scenario == scenario and codec in (None, c.codec)]
    members = {MEAN: [(task.name, task.primary) for task in known.values()]}
    for curve in shown:
        parts = members.get(curve.task, [(curve.task, curve.metric)])
        if curve in anchors:
            yield AnchorComparison(curve, parts, None, "the anchor", is_anchor=True)
            continue
        if less_is_better(known, curve.task, curve.metric):
            reason = f"no number: lower {curve.metric} is better, which is not compared"
            yield AnchorComparison(curve, parts, None, reason)
            continue
        base, same_codec = _anchor_of(curve, anchors)
        if base is None or base.frame.empty:
            whose = "this codec" if codec is None else codec
            yield AnchorComparison(curve, parts, None, f"no {title} of {whose} to compare with")
        else:
            note = "" if same_codec else f"against {title} of {base.codec}"
            floor = floor_of(known, curve.task, curve.metric)
            pair = Pair(base, curve, assembled.resampled, parts, floor)
            yield AnchorComparison(curve, parts, pair, note)


def _checked(assembled: Assembled, anchor: str | None, codec: str | None) -> str:
    """The scenario to compare with.

    Raises:
        AnalysisError: as `against_anchors`.
    """
    scenarios = list(dict.fromkeys(curve.scenario for curve in assembled.curves))
    if anchor is not None and anchor not in scenarios:
        raise AnalysisError(
            f"anchor {anchor!r}: no such scenario in this sweep; there are {', '.join(scenarios)}"
        )
    chosen = assembled.sweep.anchor if anchor is None else anchor
    codecs = dict.fromkeys(c.codec for c in assembled.curves if c.scenario == chosen)
    if codec is not None and codec not in codecs:
        raise AnalysisError(
            f"codec {codec!r}: no {chosen or 'anchor'} of it in this sweep; there are "
            f"{', '.join(codecs) or 'none'}"
        )
    return chosen


def _anchor_of(curve: Curve, anchors: Sequence[Curve]) -> tuple[Curve | None, bool]:
    """The anchor of a curve and whether it is of its codec: its own variant's, which several
    variants may share; for a codec that has none the first codec's."""
    first = curve.variant.partition(JOINED)[0]
    candidates = [a for a in anchors if (a.mllm, a.task) == (curve.mllm, curve.task)]
    for anchor in candidates:
        if anchor.codec == curve.codec and of_variant(first, anchor.variant):
            return anchor, True
    return next(iter(candidates), None), False
