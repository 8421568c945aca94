"""codec_tuned: reconstruction with a base codec that was trained for as long as d2 or d3 train it.

    image --tuned codec--> bytes --tuned codec--> y_hat --g_s--> image --> complete encoder

The codec's training continues on its own loss, R + lambda 255^2 MSE, with the steps, batch size,
codec learning rate and schedule of the scenario in `like`. It is the control that says how much of
d2's and d3's gain is only further training of the codec.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from search_spaces.scenarios.contract import Counts, Scenario, base_codec, settings_as
from search_spaces.scenarios.d2 import SCENARIO as D2
from search_spaces.scenarios.d2 import JointTraining
from search_spaces.scenarios.d3 import SCENARIO as D3
from search_spaces.specs.base import Spec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.space import Space
from search_spaces.specs.stage import Reads
from search_spaces.specs.stages import Stages, rate_identity
from search_spaces.specs.training import Optimiser


class CodecTuning(Spec):
    """codec_tuned: which scenario's training schedule is copied. Ours."""

    like: Literal["d2", "d3"] = "d3"
    """The scenario whose steps, batch size, codec learning rate and schedule are taken."""


class CodecTuned(Scenario):
    """The decoded image of a codec that was trained for longer."""

    name = "codec_tuned"
    key = "codec_tuned"
    settings = CodecTuning
    updates_codec = True
    enters = "image"
    uses_surrogate = False
    uses_neck = False
    seconds_per_image = 0.023
    look = ScenarioLook(
        title="codec, tuned",
        order=12,
        family="image",
        colour="#332288",
        marker="H",
        line="--",
        image="own",
        sentence="The base codec is trained on with its own loss, as long as d2 or d3 train it.",
    )

    def uses(self) -> tuple[str, ...]:
        """The scenarios whose settings it may take."""
        return (D2.name, D3.name)

    def problems(self, space: Space) -> Iterator[str]:
        """Reports a codec whose lambda does not weigh the MSE."""
        for codec in space.codecs:
            if not codec.lambda_is_of_mse:
                yield (
                    f"{self.name}: its lambda weighs the MSE, that of {codec.label}'s ms-ssim "
                    "weights does not; use compressai:mse"
                )

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """The base codec."""
        return base_codec(stages, point)

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """The rate and the training."""
        assert point.codec is not None
        training = self.training(stages.space, point)
        return {
            "seed": point.seed,
            **rate_identity(point.codec),
            "lmbda": point.lmbda,
            "train": training.identity | {"aux_lr": point.codec.train.aux_lr},
        }

    def training(self, space: Space, point: OperatingPoint) -> Optimiser:
        """The training of the codec in the scenario that `like` names."""
        joint = settings_as(space, settings_as(space, self.key, CodecTuning).like, JointTraining)
        shared = {name: getattr(joint, name) for name in Optimiser.model_fields}
        return Optimiser.model_validate(shared | {"lr": joint.codec_lr})

    def trained_parameters(self, space: Space, counts: Counts) -> float:
        """The codec."""
        return counts["codec"]


SCENARIO = CodecTuned()
