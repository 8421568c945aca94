"""feature_coding: the sender runs the encoder's first blocks and sends their tokens.

    image --> encoder blocks 0 .. k-1 --> tokens --token codec--> bytes    (sender)
    bytes --token codec--> y_hat --> neck --> encoder blocks k ..          (receiver)

The token codec is trained on R + lambda MSE of the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from search_spaces.scenarios.contract import Counts, Scenario, settings_as
from search_spaces.specs.base import Positive, Rate
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.space import Space
from search_spaces.specs.stage import Reads
from search_spaces.specs.stages import Stages
from search_spaces.specs.training import Optimiser

TOKENS: Final = "tokens"
"""The `codec` of its points: what is coded is no image."""


class FeatureCodingTraining(Optimiser):
    """feature_coding: the encoder's own tokens at block k, through a small learned codec.

    Trained on `R + lambda * MSE` of the tokens, R in bits per pixel of the image. Ours: the paper
    has nothing of the kind.
    """

    steps: Positive = 200_000
    lambdas: tuple[Rate, ...] = (0.3, 1.0, 3.0, 10.0)
    """One codec of tokens each. What they mean depends on the scale of the encoder's tokens."""
    channels: Positive = 64
    """Channels of its latents, of which there is a position per patch."""
    aux_lr: Rate = 1e-3
    """Learning rate of the entropy bottleneck's quantiles."""


class FeatureCoding(Scenario):
    """The encoder's own tokens at block k, through a codec of their own."""

    name = "feature_coding"
    key = "feature_coding"
    settings = FeatureCodingTraining
    uses_surrogate = False
    seconds_per_image = 0.016
    look = ScenarioLook(
        title="feature coding",
        order=70,
        family="transfer",
        colour="#a07800",
        marker="P",
        line=":",
        codec="own",
        image="none",
        sentence="The sender runs the encoder's first k blocks and sends their tokens.",
    )

    def problems(self, space: Space) -> Iterator[str]:
        """Reports lambdas that are missing or given twice."""
        lambdas = settings_as(space, self.key, FeatureCodingTraining).lambdas
        if len(set(lambdas)) != len(lambdas) or not lambdas:
            yield f"feature_coding.lambdas {[*lambdas]}: one or more different values are needed"

    def applies_to(self, space: Space, codec: CodecSpec) -> bool:
        """No image codec is used."""
        return False

    def own_points(self, space: Space) -> Iterator[OperatingPoint]:
        """A point per lambda and seed."""
        for lmbda in settings_as(space, self.key, FeatureCodingTraining).lambdas:
            for seed in space.seeds:
                yield OperatingPoint(None, lmbda, self.name, seed, coder=TOKENS)

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """Nothing but the images."""
        return {}

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """Encoder, lambda and training."""
        training = settings_as(stages.space, self.key, FeatureCodingTraining)
        return {
            "seed": point.seed,
            "lmbda": point.lmbda,
            **stages.encoder_identity(),
            "train": {k: v for k, v in training.identity.items() if k != "lambdas"},
        }

    def trained_parameters(self, space: Space, counts: Counts) -> float:
        """The receiver's neck and the sender's attention block."""
        return counts["neck"] + counts["encoder_block"]


SCENARIO = FeatureCoding()
