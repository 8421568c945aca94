"""shared_neck: one neck for all rates of a variable-rate codec, trained as d1's is."""

from __future__ import annotations

from search_spaces.scenarios.contract import settings_as
from search_spaces.scenarios.d1 import NeckTraining
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from trainables.points.inputs import Inputs
from trainables.points.neck_method import NeckLearner, NeckMethod, fresh_neck_learner


class SharedNeckMethod(NeckMethod):
    """The neck that the scenario's point without a lambda trains."""

    def learner(self, space: Space, point: OperatingPoint, inputs: Inputs) -> NeckLearner:
        """A fresh neck; a step reads the latents of one rate, in turn."""
        training = settings_as(space, "d1", NeckTraining)
        return fresh_neck_learner(space, point, inputs, training)


METHOD = SharedNeckMethod()
