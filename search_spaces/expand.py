"""From a space, variant by variant, to its operating points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import JOINED, Space
from search_spaces.specs.stages import Stage, Stages


def operating_points(space: Space) -> tuple[OperatingPoint, ...]:
    """All operating points of a space, in the order they are best started.

    Base codecs do not depend on the seed, nor do released points, so `uncompressed`,
    `reconstruction` and released scenarios stand once, under the first seed. A point that is the
    same in several variants stands once, under all of these.
    """
    if not space.variants:
        return tuple(_points(space))
    stages = Stages(space)
    owners = variants_of(stages)
    found: dict[tuple[str, str], OperatingPoint] = {}
    for name in space.variants:
        own = stages.of(name)
        for point in _points(own.space):
            key = own.point(point).key
            found.setdefault((key, point.label), replace(point, variant=owners[key]))
    return tuple(found.values())


def variants_of(stages: Stages) -> dict[str, str]:
    """The variants that each stage of a space belongs to, by the stage's key.

    Joined by `+`; empty where all variants share the stage. Nothing at all without variants.
    """
    names = stages.space.variants
    owners: dict[str, dict[str, None]] = {}
    for name in names:
        own = stages.of(name)
        for point in _points(own.space):
            for stage in _walk(own.point(point)):
                owners.setdefault(stage.key, {})[name] = None
    return {key: "" if len(of) == len(names) else JOINED.join(of) for key, of in owners.items()}


def _points(space: Space) -> Iterator[OperatingPoint]:
    """The operating points of a space without variants."""
    if "uncompressed" in space.baselines:
        yield OperatingPoint(None, None, "uncompressed", space.seeds[0])
    for classical in space.classical:
        for quality in classical.rates:
            yield OperatingPoint(
                None, None, "classical", space.seeds[0], classical=classical, quality=quality
            )
    if "feature_coding" in space.baselines:
        for lmbda in space.feature_coding.lambdas:
            for seed in space.seeds:
                yield OperatingPoint(None, lmbda, "feature_coding", seed)
    for codecs in space.codecs:
        own = [one for one in (*space.scenarios, *space.baselines) if space.is_for(one, codecs)]
        own.sort(key=lambda one: one != "reconstruction")
        for lmbda in codecs.lambdas:
            codec = codecs.at(lmbda)
            # What no seed changes stands once.
            once = {"reconstruction", *codec.released.named()}
            for number, seed in enumerate(space.seeds):
                for scenario in own:
                    if scenario not in once or not number:
                        yield OperatingPoint(codec, lmbda, scenario, seed)


def _walk(stage: Stage) -> Iterator[Stage]:
    yield stage
    for one in stage.inputs:
        yield from _walk(one)
