"""d2: codec and neck are trained together, for people and machine (paper, scenario d2).

    image --codec--> bytes --codec--> y_hat --+--> neck --> encoder blocks k ..
                                              +--> g_s --> image for people

The loss is R + lambda (gamma MSE + delta L_dist). Training starts from d1's neck and the base
codec.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from search_spaces.scenarios.contract import (
    Counts,
    Scenario,
    base_codec,
    bridge_identity,
    settings_as,
    started_from,
)
from search_spaces.scenarios.d1 import SCENARIO as D1
from search_spaces.specs.base import Positive, Rate, Weight
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.space import Space
from search_spaces.specs.stage import Reads
from search_spaces.specs.stages import Stages
from search_spaces.specs.training import Optimiser

IMAGE_WEIGHT: Final = 255.0**2
"""Of the MSE on the [0, 1] scale, in units of lambda, in the loss of base codecs."""
_PLAUSIBLE_MSE: Final = 1e-3
"""Of an image at 30 dB."""
_PLAUSIBLE_DISTILLATION: Final = 1e-2
"""Of a pooled CLIP embedding whose relative error is about a quarter. Ours."""
_LEAST_WORTH: Final = 0.01
"""Share of the rate below which distortion does not hold it back."""


class JointTraining(Optimiser):
    """d2, d3: codec and neck, on `R + lambda * (gamma * MSE + delta * L_dist)`.

    R in bits per pixel, MSE of the image on the [0, 1] scale (so gamma = 255^2, delta = 0 is the
    base codec's own loss); d3 is the same without the image term. The paper gives gamma : delta =
    60 : 1 and not the scale. With gamma = 60, the image would weigh 1/1084 of what it does in the
    base codec, and rate alone would decide. So gamma is the base codec's here. Nor does it give
    steps, learning rates or clipping of d2 and d3: these are ours.
    """

    steps: Positive = 200_000
    gamma: Weight = IMAGE_WEIGHT
    """Weight of the image's MSE; ignored by d3. The scale is ours."""
    delta: Weight = IMAGE_WEIGHT / 60.0
    """Weight of the distillation loss; the paper's ratio."""
    codec_lr: Rate = 1e-4
    """Learning rate of the codec; `lr` is the neck's. That of its quantiles is the base codec's
    `train.aux_lr`."""


class Joint(Scenario):
    """Codec and neck trained together, from d1's neck; d2, and d3 without the image."""

    updates_codec = True
    settings = JointTraining
    default_list = "scenarios"
    can_be_released = True

    def uses(self) -> tuple[str, ...]:
        """The neck that it starts from."""
        return (D1.name,)

    def problems(self, space: Space) -> Iterator[str]:
        """Reports a codec whose lambda does not weigh the MSE."""
        for codec in space.codecs:
            if not codec.lambda_is_of_mse and self.name not in codec.released:
                yield (
                    f"{self.name}: its lambda weighs the MSE, that of {codec.label}'s ms-ssim "
                    "weights does not; use compressai:mse"
                )

    def warnings(self, space: Space) -> Iterator[str]:
        """Reports weights beside which the rate alone decides.

        A base codec spends about as many bits as its distortion is worth, lambda 255^2 MSE; the
        terms of this loss are compared with that.
        """
        training = settings_as(space, self.key, JointTraining)
        image, distillation = self.worth(training)
        share = (image + distillation) / (IMAGE_WEIGHT * _PLAUSIBLE_MSE)
        if share < _LEAST_WORTH:
            weights = f"{self.key}.delta = {training.delta:g}"
            if image:
                weights = f"{self.key}.gamma = {training.gamma:g}, {weights}"
            yield (
                f"{weights}: {self.name}'s distortion is worth {share:.2%} of a base codec's rate, "
                "so that training makes streams of no bits; the defaults are "
                f"gamma = {IMAGE_WEIGHT:g}, delta = {IMAGE_WEIGHT / 60:g}"
            )

    def worth(self, training: JointTraining) -> tuple[float, float]:
        """Image and distillation in the loss at a plausible error, in units of lambda."""
        distillation = training.delta * _PLAUSIBLE_DISTILLATION
        return training.gamma * _PLAUSIBLE_MSE, distillation

    def start(self, space: Space, point: OperatingPoint) -> OperatingPoint:
        """d1 of the same codec, rate and seed."""
        return OperatingPoint(point.codec, point.lmbda, D1.name, point.seed, point.variant)

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """Codec, features and d1's neck."""
        return {
            **base_codec(stages, point),
            "features": stages.features(),
            **started_from(stages, point),
        }

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """Encoder, neck, distillation, training and lambda."""
        assert point.codec is not None
        identity = bridge_identity(stages, point, phases=())
        identity["train"] |= {"aux_lr": point.codec.train.aux_lr}
        return {**identity, "lmbda": point.lmbda}

    def trained_parameters(self, space: Space, counts: Counts) -> float:
        """Neck and codec."""
        return counts["neck"] + counts["codec"]


class D2(Joint):
    """Codec and neck, for people and machine."""

    name = "d2"
    key = "d2"
    search_roots = ("d2",)
    seconds_per_image = 0.03
    look = ScenarioLook(
        title="d2",
        order=50,
        family="bridge",
        colour="#0072b2",
        marker="D",
        image="own",
        sentence="Codec and neck are trained together; the image for people stays in the loss.",
    )


SCENARIO = D2()
