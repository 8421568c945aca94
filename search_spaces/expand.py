"""From a space, variant by variant, to its operating points."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from search_spaces.scenarios import point_stage, scenarios_of
from search_spaces.specs.points import JOINED, OperatingPoint
from search_spaces.specs.space import Space
from search_spaces.specs.stage import Stage
from search_spaces.specs.stages import Stages


def operating_points(space: Space) -> tuple[OperatingPoint, ...]:
    """All operating points of a space, in the order they are best started.

    What no seed changes (base codecs, released points, some scenarios) is there once, under the
    first seed. A point that several variants train and measure alike is there once, under all of
    these.
    """
    if not space.variants:
        return tuple(_points(space))
    stages = Stages(space)
    owners: dict[tuple[str, ...], dict[str, None]] = {}
    points: dict[tuple[str, ...], OperatingPoint] = {}
    for name in space.variants:
        variant = stages.of(name)
        measured = _measured_alike(variant)
        for point in _points(variant.space):
            identity = (point_stage(variant, point).key, point.label, *measured)
            owners.setdefault(identity, {})[name] = None
            points.setdefault(identity, point)
    return tuple(
        replace(point, variant=_joined(owners[identity], space))
        for identity, point in points.items()
    )


def variants_of(stages: Stages) -> dict[str, str]:
    """The variants that each stage of a space belongs to, by the stage's key.

    Joined by `+`; empty where all variants share the stage. Nothing at all without variants.
    """
    names = stages.space.variants
    owners: dict[str, dict[str, None]] = {}
    for name in names:
        variant = stages.of(name)
        for point in _points(variant.space):
            for stage in _walk(point_stage(variant, point)):
                owners.setdefault(stage.key, {})[name] = None
    return {key: _joined(variants, stages.space) for key, variants in owners.items()}


def _joined(variants: Collection[str], space: Space) -> str:
    """The names of some variants; empty where these are all."""
    return JOINED.join(variants) if len(variants) < len(space.variants) else ""


def _measured_alike(stages: Stages) -> tuple[str, ...]:
    """What the measurements of a variant depend on besides the point that is measured."""
    of_any_point = Stage("point", "", {})
    measurements = stages.space.measurements
    return tuple(stages.evaluation(of_any_point, measured).key for measured in measurements)


def _points(space: Space) -> Iterator[OperatingPoint]:
    """The operating points of a space without variants."""
    scenarios = sorted(scenarios_of(space), key=lambda scenario: scenario.trains)
    for scenario in scenarios:
        yield from scenario.own_points(space)
    for codec in space.codecs:
        applied = [scenario for scenario in scenarios if scenario.applies_to(space, codec)]
        for lmbda, at_rate in codec.at_each():
            for number, seed in enumerate(space.seeds):
                for scenario in applied:
                    seeded = scenario.depends_on_seed and scenario.name not in codec.released
                    if seeded or not number:
                        yield OperatingPoint(at_rate, lmbda, scenario.name, seed)


def _walk(stage: Stage) -> Iterator[Stage]:
    yield stage
    for read in stage.inputs:
        yield from _walk(read)
