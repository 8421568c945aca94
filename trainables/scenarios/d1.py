"""d1: a neck on a frozen codec's latents, trained with the surrogate loss.

stored latents --> neck --> encoder blocks k .. --> surrogate loss against stored features
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from search_spaces.scenarios.contract import settings_as
from search_spaces.scenarios.d1 import NeckTraining
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from trainables.points.inputs import Inputs
from trainables.points.neck_method import (
    NeckLearner,
    NeckMethod,
    fresh_neck_learner,
    read_released,
)


class D1Method(NeckMethod):
    """The neck on a frozen codec's latents."""

    def learner(self, space: Space, point: OperatingPoint, inputs: Inputs) -> NeckLearner:
        """A fresh neck."""
        return fresh_neck_learner(space, point, inputs, settings_as(space, "d1", NeckTraining))

    def released(
        self, space: Space, point: OperatingPoint, file: Path
    ) -> tuple[dict[str, Tensor], str]:
        """The neck of a released file, whose codec must be the base codec."""
        neck_state, _, origin = read_released(space, point, file)
        return neck_state, origin


METHOD = D1Method()
