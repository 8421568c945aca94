"""The costs of a space's scenarios: parameters, and kMAC per pixel of the image given to the codec.

    space --> parts of codecs, scenarios, encoder --> per codec and scenario: sums over its parts

The costs of codecs and of the encoder are counted for every space; parts that only a scenario has
are counted by the scenario.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import torch
from torch import nn

from search_spaces import Space
from search_spaces.scenarios import Scenario, scenarios_of
from trainables.encoders.load import meta_tower
from trainables.points.building import complete_encoder, partial_encoder
from trainables.points.contract import Method, method_of
from trainables.points.counting import Counting, Part, codec_parts, codecs_of, meta

COMMON: Final = ("entropy", "encoder_run")
"""Ends of the names of the parts that every receiver of compressed images runs; the paper compares
the rest. Entropy networks are common at every size of the image."""


@dataclass(frozen=True)
class Total:
    """The cost of one scenario with one codec, in kMAC/pixel.

    Attributes:
        codec: label of the codec, or name of the scenario's own coder.
        scenario: its name.
        sender: encoding.
        receiver: from bytes to the layer that the MLLM reads.
        own: the receiver without `COMMON`, the number that the paper compares.
        own_parameters: the number of parameters of the same parts.
        saving: share of `own` that is saved against the space's reference scenario, whose cheapest
            variant counts; None where the space has no such scenario.
        variant: as in `Part`.
    """

    codec: str
    scenario: str
    sender: float
    receiver: float
    own: float
    own_parameters: int
    saving: float | None
    variant: str = ""


Row = TypeVar("Row", Part, Total)


def encoder_parts(counting: Counting) -> Iterator[Part]:
    """The encoder before block k, the encoder from block k on, and the teacher."""
    space, tower = counting.space, counting.tower
    block, surrogate = space.teacher.block, space.surrogate
    whole, partial = complete_encoder(space, tower), partial_encoder(space, tower)
    image = meta(3, counting.size, counting.size)
    hidden = torch.empty_like(whole.hidden(image, block))
    blocks = list(tower.blocks)
    yield counting.part(
        "",
        "encoder_skipped",
        "receiver",
        "patch embedding and blocks before k",
        [tower.embeddings, tower.pre_norm or nn.Identity(), *blocks[:block]],
        lambda: whole.hidden(image, block),
    )
    yield counting.part(
        "",
        "encoder_run",
        "receiver",
        "blocks k up to the layer that is read",
        blocks[block : partial.token_index],
        lambda: partial.hidden(hidden, surrogate.token_layer),
    )
    yield counting.part(
        "",
        "teacher",
        "training",
        "the complete encoder, as in training",
        [whole],
        lambda: whole(image, surrogate.pooled > 0, surrogate.tokens > 0),
    )


def scenario_parts(counting: Counting) -> list[Part]:
    """The parts that only some scenarios of the space have, without repetitions."""
    methods = dict.fromkeys(method_of(scenario.name) for scenario in scenarios_of(counting.space))
    parts = (part for method in methods for part in method.parts(counting))
    return list(dict.fromkeys(parts))


def complexity(space: Space) -> tuple[list[Part], list[Total]]:
    """Count all parts of a space's operating points, and the costs of its scenarios.

    Raises:
        OSError: the teacher's configuration cannot be read.
        ValueError: the space's sizes do not fit together.
    """
    parts, countings = {}, {}
    shared: list[Part] = []
    for variant in space.variants or ("",):
        variant_space = space.of(variant)
        counting = Counting(variant_space, meta_tower(variant_space.teacher.model))
        countings[variant] = counting
        shared = shared or [
            part for codec in counting.codecs.items() for part in codec_parts(counting, *codec)
        ]
        parts[variant] = [*shared, *scenario_parts(counting), *encoder_parts(counting)]
    reference = {
        label: min(costs)
        for label in codecs_of(space)
        if (costs := list(_reference_costs(label, countings, parts)))
    }
    sums = {
        variant: totals(counting, parts[variant], reference)
        for variant, counting in countings.items()
    }
    return _with_variants(parts), _with_variants(sums)


def _reference_costs(
    label: str, countings: Mapping[str, Counting], parts: Mapping[str, Sequence[Part]]
) -> Iterator[float]:
    """The compared cost of a codec in the reference scenario, variant by variant."""
    for variant, counting in countings.items():
        for scenario in scenarios_of(counting.space):
            if scenario.is_cost_reference:
                of_codec = parts_of_codec(label, parts[variant])
                yield _kmac(of_codec, _without_common(method_of(scenario.name)))


def _with_variants(rows_of: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The rows of all variants; a row that is the same in all variants once, without a variant."""
    merged = []
    for index, (variant, rows) in enumerate(rows_of.items()):
        for row in rows:
            if not all(row in variant_rows for variant_rows in rows_of.values()):
                merged.append(replace(row, variant=variant))
            elif index == 0:
                merged.append(row)
    return merged


def totals(
    counting: Counting, parts: Iterable[Part], reference: Mapping[str, float]
) -> list[Total]:
    """The cost of each scenario with each codec.

    Args:
        counting: of a space without variants, or of one variant.
        parts: of this space.
        reference: the compared cost of the reference scenario, kMAC/pixel by codec.
    """
    space, parts = counting.space, list(parts)
    rows = []
    for label, spec in counting.codecs.items():
        for scenario in scenarios_of(space):
            if scenario.applies_to(space, spec) or scenario.look.role == "bound":
                rows.append(_total(label, scenario, parts, reference.get(label)))
    for scenario in scenarios_of(space):
        coders = {point.coder for point in scenario.own_points(space) if point.lmbda is not None}
        rows += [_total(coder, scenario, parts, reference.get(label)) for coder in sorted(coders)]
    return rows


def parts_of_codec(label: str, parts: Iterable[Part]) -> dict[str, Part]:
    """The parts of a codec's points by name, with those that depend on no codec."""
    return {part.part: part for part in parts if part.codec in (label, "")}


def _total(label: str, scenario: Scenario, parts: Sequence[Part], reference: float | None) -> Total:
    method, of_codec = method_of(scenario.name), parts_of_codec(label, parts)
    names = _without_common(method)
    kmac = _kmac(of_codec, names)
    return Total(
        codec=label,
        scenario=scenario.name,
        sender=_kmac(of_codec, method.sender),
        receiver=_kmac(of_codec, method.receiver),
        own=kmac,
        own_parameters=sum(of_codec[name].parameters for name in names),
        saving=None if reference is None else 1 - kmac / reference,
    )


def _kmac(of_codec: Mapping[str, Part], names: Iterable[str]) -> float:
    return sum(of_codec[name].kmac_per_pixel for name in names)


def _without_common(method: Method) -> tuple[str, ...]:
    return tuple(name for name in method.receiver if not name.endswith(COMMON))
