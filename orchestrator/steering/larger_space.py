"""Is a space a larger one of the space of a sweep, and which points does it add?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from orchestrator.monitoring.status_text import shortened
from orchestrator.plan.jobs import Plan
from orchestrator.steering.named_things import added_extensions, added_places
from orchestrator.steering.words import number_of
from orchestrator.storage import provenance
from orchestrator.storage.store import Store
from search_spaces import Space, operating_points
from search_spaces.settings.mistakes import explain

_MOST_SETTINGS: Final = 8
"""Settings that are named of those that differ."""
_LONGEST_VALUE: Final = 60
_MOST_POINTS: Final = 100_000
"""Operating points of a space that a storage may hold: a few bytes of it could make millions."""


class NotLargerError(ValueError):
    """A space that cannot be added to a sweep; a line per reason."""


def read_space(data: object, known: Space) -> Space:
    """The space that somebody else wrote into the storage; reads none of the files that it names.

    Args:
        known: the driver's space.

    Raises:
        NotLargerError: it is none here, or names an extension or a place that `known` does not; a
            line per mistake.
    """
    try:
        _refuse("an extension", added_extensions(data, known))  # before it is imported
        space = Space.model_validate(data)
        _refuse("a file or model", added_places(space, known))
        _refuse_many(space)
    except ValidationError as error:
        raise NotLargerError("\n".join(explain(error, Space))) from None
    except RecursionError:
        raise NotLargerError("this space is nested too deeply") from None
    return space


def _refuse(kind: str, names: Sequence[str]) -> None:
    if names:
        raise NotLargerError(
            f"this space names {kind} that the sweep which runs does not: "
            f"{shortened(names, len(names))}; give it a --name of its own, or stop that sweep and "
            "start it again with this space"
        )


def _refuse_many(space: Space) -> None:
    rates = sum(len(codec.lambdas) for codec in space.codecs)
    scenarios = len(space.scenarios) + len(space.baselines)
    most = rates * scenarios * len(space.seeds) * max(1, len(space.variants))
    if most > _MOST_POINTS:
        raise NotLargerError(
            f"this space has up to {most:,} operating points; {_MOST_POINTS:,} can be added"
        )


def whole_plan(space: Space, store: Store) -> Plan:
    """The plan of all operating points of a space, as if the storage were empty.

    Raises:
        OSError, ValueError: a file that the space names is missing.
    """
    checksums = provenance.fingerprints(space, store.local(provenance.CHECKSUMS))
    return Plan(space, operating_points(space), checksums, None)


def check_larger(plan: Plan, whole: Plan) -> None:
    """Make sure that a space has what a sweep has, with the same settings.

    Args:
        plan: of the sweep.
        whole: of all operating points of the other space.

    Raises:
        NotLargerError: it lacks points, measures or names them otherwise, asks for other
            resources, or is searched.
    """
    before, after = plan.space, whole.space
    if before.search is not None or after.search is not None:
        raise NotLargerError("a space with a search cannot be added to, nor be added")
    lost = [point.label for key, point in plan.wanted.items() if key not in whole.wanted]
    kept = [key for key in plan.wanted if key in whole.wanted]
    measured_otherwise = [
        whole.wanted[key].label for key in kept if _measured(plan, key) != _measured(whole, key)
    ]
    named_otherwise = [
        whole.wanted[key].label for key in kept if _names(plan, key) != _names(whole, key)
    ]
    has_other_resources = before.resources != after.resources
    if not (lost or measured_otherwise or named_otherwise or has_other_resources):
        return
    settings = list(differences(before.model_dump(mode="json"), after.model_dump(mode="json")))
    lines = settings[:_MOST_SETTINGS]
    if len(settings) > _MOST_SETTINGS:
        lines.append(f"and {len(settings) - _MOST_SETTINGS} other settings")
    # What follows from a setting that differs is not said a second time.
    if all(line.startswith("resources.") for line in settings):
        lines += _effects(lost, measured_otherwise, named_otherwise)
    if not settings and not named_otherwise:
        lines.append("its settings are the same, but not the files that it names")
    raise NotLargerError("\n".join(lines))


def _effects(lost: Sequence[str], measured: Sequence[str], named: Sequence[str]) -> list[str]:
    """Lines about operating points that are lost, measured otherwise and named otherwise."""
    lines = []
    if lost:
        text = f"this space lacks {number_of(len(lost))} of the sweep that runs"
        lines.append(f"{text}: {shortened(lost, len(lost))}")
    # Rows of points named otherwise would have two names of one codec, MLLM, data set or variant.
    for verb, labels in (("measures", measured), ("names", named)):
        if labels:
            text = f"this space {verb} {number_of(len(labels))} otherwise"
            lines.append(f"{text}: {shortened(labels, len(labels))}")
    return lines


def _measured(plan: Plan, key: str) -> tuple[str, ...]:
    """Keys of the evaluations of a point, in their order."""
    return tuple(stage.key for _, stage in plan.evaluations(plan.wanted[key]))


def _names(plan: Plan, key: str) -> tuple[object, ...]:
    """What a point's rows are labelled with, in their order."""
    point = plan.wanted[key]
    space = plan.stages.of(point.variant).space
    benchmarks = [each.benchmark for each in space.measurements]
    return (
        tuple(point.fields.items()),
        space.data.label,
        tuple(each.label for each in space.measurements),
        tuple((each.label, each.shown_split) for each in benchmarks if each is not None),
    )


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Settings that a space changes or lacks, a line each; what it has besides is no difference.

    Args:
        before, after: JSON data.
        path: of the settings, dotted.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            below = f"{path}.{name}" if path else name
            yield from differences(value, after.get(name), below)
    elif isinstance(before, list) and isinstance(after, list):
        if all(item in after for item in before):
            return
        if len(before) > len(after) or not isinstance(before[0], dict):
            yield _difference(path, before, after)
            return
        for number, (item, other) in enumerate(zip(before, after, strict=False)):
            yield from differences(item, other, f"{path}.{number}")
    elif before != after and path not in ("name", "description"):
        yield _difference(path, before, after)


def _difference(path: str, before: object, after: object) -> str:
    texts = (json.dumps(value) for value in (before, after))
    was, now = (t if len(t) <= _LONGEST_VALUE else f"{t[:_LONGEST_VALUE]}..." for t in texts)
    return f"{path} = {now}, in the sweep that runs {was}"


def keys_of(whole: Plan, chosen: Iterable[Mapping[str, object]]) -> frozenset[str]:
    """The keys of operating points, given as `OperatingPoint.fields`.

    Args:
        whole: of all operating points of their space.
    """
    texts = {_text(fields) for fields in chosen}
    return frozenset(key for key, point in whole.wanted.items() if _text(point.fields) in texts)


def _text(fields: Mapping[str, object]) -> str:
    return json.dumps(dict(fields), sort_keys=True)
