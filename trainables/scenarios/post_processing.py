"""post_processing: a U-Net between the decoded image and the complete encoder.

y_hat --g_s--> image --> U-Net --> complete encoder --> surrogate loss
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from search_spaces.scenarios.contract import settings_as
from search_spaces.scenarios.post_processing import UNetTraining
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from trainables.encoders.load import load_tower
from trainables.encoders.tower import Tower
from trainables.networks.unet import UNet, channels_within
from trainables.points.building import complete_encoder, sized_neck
from trainables.points.contract import Method, Trained
from trainables.points.counting import Counting, Part, meta, number_of_parameters
from trainables.points.image_learner import ImageLearner
from trainables.points.inputs import Inputs, base_codec, class_texts
from trainables.points.learning import SurrogateSetting
from trainables.points.models import DecodedPoint
from trainables.points.weights import load_trained, named, overlay
from trainables.scenarios.uncompressed import ENCODER_PARTS


class PostProcessingMethod(Method):
    """A U-Net on the decoded image."""

    receiver = ("entropy", "synthesis", "unet", *ENCODER_PARTS)

    def learner(self, space: Space, point: OperatingPoint, inputs: Inputs) -> ImageLearner:
        """A fresh U-Net."""
        assert point.codec is not None
        settings = _settings(space)
        tower = load_tower(space.teacher.model)
        base, from_latents = base_codec(point, inputs), inputs.latents is not None
        unet = build_unet(space, point.codec, tower)
        encoder, text = complete_encoder(space, tower), class_texts(inputs)
        setting = SurrogateSetting(space, encoder, text, settings.steps)
        return ImageLearner(setting, unet, "unet", base, settings.lr, from_latents)

    def restore(self, trained: Trained) -> DecodedPoint:
        """The base codec, the U-Net and the complete encoder."""
        assert trained.point.codec is not None
        unet = build_unet(trained.space, trained.point.codec, trained.tower)
        overlay(named(unet=unet), load_trained(trained.point_dir))
        encoder = complete_encoder(trained.space, trained.tower)
        return DecodedPoint(encoder, trained.base_codec(), unet, "unet")

    def parts(self, counting: Counting) -> Iterator[Part]:
        """The U-Net."""
        codec = counting.space.codecs[0]
        with torch.device("meta"):
            unet = build_unet(counting.space, codec.at(codec.lambdas[0]), counting.tower)
        image = meta(3, counting.size, counting.size)
        meaning = "U-Net on the decoded image"
        yield counting.part("", "unet", "receiver", meaning, [unet], lambda: unet(image))


def build_unet(space: Space, codec: CodecSpec, tower: Tower) -> UNet:
    """A fresh U-Net of the space's size, or of that of the codec's neck."""
    settings = _settings(space)
    channels = settings.channels
    if channels == "neck":
        with torch.device("meta"):
            neck = sized_neck(space, codec.M, tower, norm=True)
        channels = channels_within(number_of_parameters([neck]), settings.levels)
    return UNet(channels, settings.levels)


def _settings(space: Space) -> UNetTraining:
    return settings_as(space, "post_processing", UNetTraining)


METHOD = PostProcessingMethod()
