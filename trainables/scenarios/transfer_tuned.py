"""transfer_tuned: d1's neck of another codec, trained on with the surrogate loss's last phase."""

from __future__ import annotations

from search_spaces.scenarios.contract import settings_as
from search_spaces.scenarios.transfer import TransferTraining
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from trainables.encoders.load import load_tower
from trainables.points.building import partial_encoder
from trainables.points.inputs import Inputs, class_texts
from trainables.points.learning import SurrogateSetting
from trainables.points.neck_method import NeckLearner, NeckMethod, trained_neck


class TransferTunedMethod(NeckMethod):
    """d1's neck of another codec, after a few steps."""

    def learner(self, space: Space, point: OperatingPoint, inputs: Inputs) -> NeckLearner:
        """The other codec's neck."""
        training = settings_as(space, "transfer", TransferTraining)
        tower = load_tower(space.teacher.model)
        neck = trained_neck(space, point, tower, inputs.start)
        encoder, text = partial_encoder(space, tower), class_texts(inputs)
        setting = SurrogateSetting(space, encoder, text, training.steps, last_phase_only=True)
        return NeckLearner(setting, neck, training.lr, training.linear_lr)


METHOD = TransferTunedMethod()
