"""How long a sweep will take and how much it will store, from what earlier stages took.

    stage to make --same kind, most similar settings--> earlier stages
    their seconds / their planned costs, the median  x  the stage's planned cost  -->  seconds

Where the storage holds no stage of the kind, the planned cost is taken as seconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from orchestrator.plan.history import History, Leaves, Past, leaves_of
from orchestrator.plan.subjects import SubjectFields, subject_fields
from search_spaces import Stage

_NOT_SIMILARITY: Final = ("seed", "lmbda", "quality")
"""Settings that change neither the seconds of a stage nor its bytes by much."""


@dataclass(frozen=True)
class StageEstimate:
    """What making a stage takes.

    Attributes:
        seconds: of computing, in one job.
        size: bytes in the storage; None if the storage holds no stage of the kind.
        rests_on: how many earlier stages it is estimated from; 0: from planned costs.
    """

    seconds: float
    size: float | None
    rests_on: int


class Estimates:
    """Estimates of stages to make.

    Args:
        history: of the storage.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._similar: dict[tuple[Any, ...], tuple[Past, ...]] = {}

    def of(self, stage: Stage, cost: float, grows: bool) -> StageEstimate:
        """What making a stage takes.

        Args:
            cost: planned, in rough seconds on one core.
            grows: whether its bytes grow with its cost, as those of shards do; those of trained
                weights do not grow with the steps.
        """
        similar = self._most_similar(stage, cost > 0)
        if not similar:
            return StageEstimate(cost, None, 0)
        seconds, size = (median(values) for values in _figures(similar, grows))
        if not cost:
            return StageEstimate(seconds, size, len(similar))
        return StageEstimate(cost * seconds, cost * size if grows else size, len(similar))

    def _most_similar(self, stage: Stage, costs: bool) -> tuple[Past, ...]:
        """The earlier stages of the kind and scenario that have most in common with a stage.

        Args:
            costs: whether a cost is planned for it, and so for them.
        """
        subject, leaves = subject_fields(stage), leaves_of(stage.spec)
        profile = _profile(subject, leaves)
        key = stage.kind, costs, *profile
        if key not in self._similar:
            scenario = subject.get("scenario")
            stages = (
                past
                for past in self._history.of_kind(stage.kind)
                if past.cost is not None
                and (past.cost > 0) == costs
                and past.subject is not None
                and past.subject.get("scenario") == scenario
            )
            self._similar[key] = _nearest(profile, stages)
        return self._similar[key]


def _figures(stages: Iterable[Past], grows: bool) -> tuple[list[float], list[float]]:
    """Seconds and bytes of stages: per planned second where there is one."""
    pairs = [(past, past.cost or 1.0) for past in stages]
    sizes = [past.size / cost if grows else past.size for past, cost in pairs]
    return [past.seconds / cost for past, cost in pairs], sizes


def _profile(subject: SubjectFields, leaves: Leaves) -> tuple[frozenset[str], frozenset[str]]:
    """What stages of similar seconds and bytes share: of the subject, and of the settings."""
    fields, settings = (
        frozenset(f"{k}={v}" for k, v in values.items() if k not in _NOT_SIMILARITY)
        for values in (subject, leaves)
    )
    return fields, settings


def _nearest(
    profile: tuple[frozenset[str], frozenset[str]], stages: Iterable[Past]
) -> tuple[Past, ...]:
    nearest: dict[tuple[int, int], list[Past]] = defaultdict(list)
    for past in stages:
        fields, settings = _profile(past.subject or {}, past.leaves)
        nearest[len(profile[0] & fields), len(profile[1] & settings)].append(past)
    return tuple(nearest[max(nearest)]) if nearest else ()
