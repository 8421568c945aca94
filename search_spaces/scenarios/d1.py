"""d1: the codec is frozen, a transform-neck is trained (paper, scenario d1).

    image --codec--> bytes --codec--> y_hat --> neck --> encoder blocks k ..

The loss is the surrogate loss, on stored latents and the teacher's stored features.
"""

from __future__ import annotations

from typing import Any

from search_spaces.scenarios.contract import (
    Counts,
    Scenario,
    base_codec,
    bridge_identity,
    frozen_latents,
)
from search_spaces.specs.base import Fraction, Positive, Rate
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.space import Space
from search_spaces.specs.stage import Reads
from search_spaces.specs.stages import Stages
from search_spaces.specs.training import Optimiser


class NeckTraining(Optimiser):
    """d1: the neck alone, on frozen latents and the teacher's stored features."""

    steps: Positive = 200_160
    """The authors' 60 epochs: a twelfth of ImageNet each, 106,763 images, which are 3,336 batches,
    as the last one, of 11 images, is dropped. Here all images of the data set are read before one
    is read again and no batch is dropped or smaller; the steps are as many."""
    lr_drop_at: Fraction = 1 / 3
    """The authors': after epoch 20."""
    grad_clip: Rate | None = None
    """Largest L2 norm of the gradient; null for none, the authors'."""
    linear_lr: Rate | None = None
    """Learning rate of the neck's linear layer, the only one that is new where `neck.init` is
    `encoder`; null for `lr`. Ours."""

    @property
    def identity(self) -> dict[str, Any]:
        """See `Optimiser`."""
        return super().identity | {"linear_lr": self.linear_lr or self.lr}


class D1(Scenario):
    """The neck on a frozen codec's latents."""

    name = "d1"
    key = "d1"
    settings = NeckTraining
    default_list = "scenarios"
    search_roots = ("d1", "neck", "surrogate.phases", "teacher.block")
    can_be_released = True
    seconds_per_image = 0.008
    look = ScenarioLook(
        title="d1",
        order=40,
        family="bridge",
        colour="#e69f00",
        marker="o",
        sentence="The codec is frozen; a neck turns its latents into tokens of encoder block k.",
    )

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """Codec, latents, features and, for the cross-entropy, text embeddings."""
        return {
            **base_codec(stages, point),
            **frozen_latents(stages, point),
            **stages.surrogate_targets(),
        }

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """Encoder, neck, loss and training."""
        return bridge_identity(stages, point)

    def trained_parameters(self, space: Space, counts: Counts) -> float:
        """The neck."""
        return counts["neck"]


SCENARIO = D1()
