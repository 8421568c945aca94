"""The computing half of `gain.py`."""

import torch
from torch import nn

from bridgesweep_example.gain import SCENARIO
from trainables.codecs import load_codec
from trainables.encoders.load import load_tower
from trainables.points.building import complete_encoder
from trainables.points.contract import Method
from trainables.points.image_learner import ImageLearner
from trainables.points.inputs import class_texts
from trainables.points.learning import SurrogateSetting
from trainables.points.models import DecodedPoint
from trainables.points.weights import load_trained, named, overlay


class ColourGain(nn.Module):
    """y = gain * x + offset, per colour."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3, 1, 1))
        self.offset = nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, images):
        """(B, 3, H, W) to the same."""
        return self.gain * images + self.offset


class GainMethod(Method):
    """The decoded image, each colour scaled and shifted."""

    receiver = ("entropy", "synthesis", "encoder_skipped", "encoder_run")

    def learner(self, space, point, inputs):
        """Gains of one."""
        training = SCENARIO.training(space, point)
        encoder = complete_encoder(space, load_tower(space.teacher.model))
        setting = SurrogateSetting(space, encoder, class_texts(inputs), training.steps)
        base = load_codec(point.codec, inputs.codec)
        return ImageLearner(setting, ColourGain(), "gain", base, training.lr, from_latents=False)

    def restore(self, trained):
        """The trained gains."""
        network = ColourGain()
        overlay(named(gain=network), load_trained(trained.point_dir))
        encoder = complete_encoder(trained.space, trained.tower)
        return DecodedPoint(encoder, trained.base_codec(), network, "gain")


METHOD = GainMethod()
