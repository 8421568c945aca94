"""What only all results of a table tell: the unit of a metric, and whether samples are the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from analysis.io.benchmarks.scores import Scale, Score

FACTORS: Final[Mapping[Scale, float]] = {"fraction": 1.0, "percent": 100.0}
"""What a score is divided by to be a fraction."""


def with_units(scores: Sequence[Score]) -> list[Score]:
    """The scores, of which none is a `share`: those of its task and metric say which it is."""
    groups: dict[tuple[str, str], list[int]] = {}
    for place, score in enumerate(scores):
        groups.setdefault((score.task, score.metric), []).append(place)
    united = list(scores)
    for places in groups.values():
        units = _units([scores[place] for place in places])
        for place, unit in zip(places, units, strict=True):
            united[place] = replace(scores[place], scale=unit)
    return united


def _units(scores: Sequence[Score]) -> list[Scale]:
    """The unit of each of a metric's scores.

    Samples say it where those of all scores do. A score that is no mean over samples may equal it
    at a point by chance. What else may be either is a percentage when one value is above 1.
    """
    said = {score.of_samples for score in scores if score.of_samples is not None}
    if "own" in said or any(score.is_no_mean for score in scores):
        said = set()
    if any(score.scale == "own" for score in scores):
        largest = max((FACTORS[unit] for unit in said), default=0.0)
        if not said or not all(0 <= score.value <= largest for score in scores):
            return ["own"] * len(scores)
    units = [score.of_samples if said and score.of_samples else score.scale for score in scores]
    if any(u == "fraction" and s.value > 1 for u, s in zip(units, scores, strict=True)):
        units = ["share"] * len(scores)  # not of the form that it seemed to have
    unsaid = [s.value for u, s in zip(units, scores, strict=True) if u not in FACTORS]
    rest: Scale = "percent" if "percent" in units or any(v > 1 for v in unsaid) else "fraction"
    return [unit if unit in FACTORS else rest for unit in units]


def same_samples(scores: Iterable[Score]) -> tuple[set[str], list[str]]:
    """Compare the test samples of each task's scores.

    Returns:
        The tasks of which samples of one name are not the same, so that they cannot be paired;
        and a line for each of these, and for each task whose scores have different samples.
    """
    by_task: dict[str, dict[int, Mapping[str, str]]] = {}
    for score in scores:
        if score.samples is not None:
            by_task.setdefault(score.task, {})[id(score.targets)] = score.targets
    clashing, lines = set(), []
    for task, of_task in by_task.items():
        known: dict[str, str] = {}
        parts = list(of_task.values())
        other = (n for part in parts for n, t in part.items() if known.setdefault(n, t) != t)
        if (name := next(other, None)) is not None:
            clashing.add(task)
            lines.append(
                f"{task}: rows have different targets for one sample (doc_id {name}), so no "
                "samples are read"
            )
        elif (shared := len(set(known).intersection(*parts))) < len(known):
            lines.append(
                f"{task}: rows have different samples: {shared} of {len(known)} doc_ids are in all"
            )
    return clashing, lines
