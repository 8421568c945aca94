"""shared_neck: one neck for all rates of a variable-rate codec.

    image --codec at any rate--> bytes --> y_hat --> the one neck --> encoder blocks k ..

The neck is trained once, as d1's is, on the latents of all rates in turn. The training is a
separate, unevaluated point with no lambda; the points at each rate take its neck.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from search_spaces.scenarios.contract import (
    Counts,
    Scenario,
    base_codec,
    settings_as,
    started_from,
)
from search_spaces.scenarios.d1 import SCENARIO as D1
from search_spaces.scenarios.d1 import NeckTraining
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.space import Space
from search_spaces.specs.stage import Reads
from search_spaces.specs.stages import Stages, rate_identity


class SharedNeck(Scenario):
    """One neck for all rates of a variable-rate codec."""

    name = "shared_neck"
    trains = False
    seconds_per_image = D1.seconds_per_image
    look = ScenarioLook(
        title="shared neck",
        order=100,
        family="transfer",
        colour="#994f00",
        marker="p",
        line="--",
        sentence="One neck serves all rates of a variable-rate codec.",
    )

    def uses(self) -> tuple[str, ...]:
        """Its neck is trained with d1's settings."""
        return (D1.name,)

    def problems(self, space: Space) -> Iterator[str]:
        """Reports that no codec has a variable rate."""
        if not any(self.applies_to(space, codec) for codec in space.codecs):
            yield (
                "baselines: shared_neck is one neck for all rates of a -vbr codec, and there is "
                "none in codecs"
            )

    def applies_to(self, space: Space, codec: CodecSpec) -> bool:
        """Variable-rate codecs have it."""
        return codec.is_variable_rate

    def start(self, space: Space, point: OperatingPoint) -> OperatingPoint | None:
        """The training of the neck; that itself starts from nothing."""
        if point.lmbda is None:
            return None
        assert point.codec is not None
        whole = space.codec(point.codec.label)
        return OperatingPoint(whole, None, self.name, point.seed, point.variant)

    def kind(self, point: OperatingPoint) -> str:
        """`neck` for the training of the neck."""
        return "neck" if point.lmbda is None else "point"

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """Codec and neck; the training of the neck reads the latents of all rates."""
        if point.lmbda is not None:
            return {**base_codec(stages, point), **started_from(stages, point)}
        whole = point.codec
        assert whole is not None
        return {
            "codec": stages.codec(whole, whole.lambdas[0]),
            "rates": tuple(stages.latents(whole, lmbda) for lmbda in whole.lambdas),
            **stages.surrogate_targets(),
        }

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """Of a point the rate; of the training of the neck: encoder, neck, loss and training."""
        assert point.codec is not None
        training = self.training(stages.space, point)
        if training is None:
            return rate_identity(point.codec)
        return {
            "seed": point.seed,
            **stages.encoder_identity(),
            "neck_start": stages.space.neck.init,
            "surrogate": stages.surrogate_identity(stages.space.surrogate.phases),
            "train": training.identity,
        }

    def training(self, space: Space, point: OperatingPoint) -> NeckTraining | None:
        """`d1` of the space for the neck; None for a point that takes it."""
        return settings_as(space, D1.key, NeckTraining) if point.lmbda is None else None

    def trained_parameters(self, space: Space, counts: Counts) -> float:
        """The neck."""
        return counts["neck"]


SCENARIO = SharedNeck()
