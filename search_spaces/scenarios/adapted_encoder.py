"""adapted_encoder: the encoder's stem and last blocks before k are tuned on decoded images.

    image --codec--> bytes --codec--> y_hat --g_s--> image --> tuned stem and blocks 0 .. k-1
                                                                --> encoder blocks k ..

Trained with the surrogate loss, as d1's neck is, and with about as many parameters: the stem and as
many of the blocks before k as the neck has layers. It is the adaptation that needs no latents;
CompressVLMBench (arXiv 2512.20901) adapts encoders to decoded images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from search_spaces.scenarios.contract import (
    Counts,
    Scenario,
    base_codec,
    bridge_identity,
    settings_as,
)
from search_spaces.specs.base import Positive
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.space import Space
from search_spaces.specs.stage import Reads
from search_spaces.specs.stages import Stages
from search_spaces.specs.training import Optimiser


class AdaptationTraining(Optimiser):
    """adapted_encoder: the encoder's stem and last blocks before k, on decoded images. Ours."""

    steps: Positive = 200_160
    layers: Positive | None = None
    """Blocks before k that are tuned with the stem; null for as many as the neck has."""


class AdaptedEncoder(Scenario):
    """The decoded image through tuned first blocks."""

    name = "adapted_encoder"
    key = "adapted_encoder"
    settings = AdaptationTraining
    search_roots = ("adapted_encoder",)
    uses_neck = False
    seconds_per_image = 0.05
    look = ScenarioLook(
        title="adapted encoder",
        order=35,
        family="image",
        colour="#44aa99",
        marker="8",
        line="-.",
        sentence="The encoder's last blocks before k are tuned on images of the base codec.",
    )

    def layers(self, space: Space) -> int:
        """Blocks before k that are tuned."""
        layers = settings_as(space, self.key, AdaptationTraining).layers
        return space.neck.layers if layers is None else layers

    def problems(self, space: Space) -> Iterator[str]:
        """Reports more tuned blocks than there are before k."""
        if self.layers(space) > space.teacher.block:
            yield (
                f"adapted_encoder.layers: {self.layers(space)} blocks are to be tuned, and there "
                f"are {space.teacher.block} before teacher.block"
            )

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """Codec, features and, for the cross-entropy, text embeddings."""
        return {
            **base_codec(stages, point),
            **stages.surrogate_targets(),
        }

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """Encoder, loss, training and the number of tuned blocks."""
        identity = bridge_identity(stages, point)
        identity["train"] |= {"layers": self.layers(stages.space)}
        return identity

    def trained_parameters(self, space: Space, counts: Counts) -> float:
        """The tuned blocks; the stem is small."""
        return self.layers(space) * counts["encoder_block"]


SCENARIO = AdaptedEncoder()
