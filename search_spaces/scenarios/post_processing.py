"""post_processing: a U-Net mends the decoded image before the complete encoder reads it.

    image --codec--> bytes --codec--> y_hat --g_s--> image --> U-Net --> complete encoder

The loss is the surrogate loss, through the complete encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

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


class UNetTraining(Optimiser):
    """post_processing: a U-Net on the decoded image, with the same surrogate loss.

    The paper gives the size of its U-Net, 31 M parameters, and neither its layers nor its training:
    these are ours, with as many images as d1 sees.
    """

    steps: Positive = 200_160
    channels: Positive | Literal["neck"] = 64
    """Channels at full resolution, doubled at each of the `levels`. `neck`: as many as give the
    U-Net no more parameters than the neck has."""
    levels: Positive = 4
    """Down-samplings by two."""


class PostProcessing(Scenario):
    """A U-Net on the decoded image."""

    name = "post_processing"
    key = "post_processing"
    settings = UNetTraining
    default_list = "baselines"
    enters = "image"
    uses_neck = False
    search_roots = ("post_processing",)
    is_cost_reference = True
    seconds_per_image = 0.046
    look = ScenarioLook(
        title="post-processing",
        order=30,
        family="image",
        colour="#cc79a7",
        marker="v",
        line="-.",
        sentence="A U-Net mends the decoded image; the complete encoder reads the result.",
    )

    def problems(self, space: Space) -> Iterator[str]:
        """Reports images that cannot be halved at every level."""
        levels = settings_as(space, self.key, UNetTraining).levels
        if space.data.size % 2**levels:
            yield (
                f"post_processing.levels = {levels}: data.size = {space.data.size} is no multiple "
                f"of {2**levels}"
            )

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """Codec, features and, for the cross-entropy, text embeddings."""
        return {
            **base_codec(stages, point),
            **stages.surrogate_targets(),
        }

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """Encoder, loss and training; the neck only where it gives the U-Net's size."""
        identity = bridge_identity(stages, point)
        if settings_as(stages.space, self.key, UNetTraining).channels == "neck":
            identity["neck"] = stages.neck_sizes()
        return identity

    def trained_parameters(self, space: Space, counts: Counts) -> float:
        """The U-Net."""
        settings = settings_as(space, self.key, UNetTraining)
        if settings.channels == "neck":
            return counts["neck"]
        return float(30 * settings.channels**2 * 4**settings.levels)


SCENARIO = PostProcessing()
