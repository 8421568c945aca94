"""adapted_encoder: the encoder's stem and last blocks before k, tuned on decoded images.

    y_hat --g_s--> image --> stem, blocks 0 .. k-1 --> encoder blocks k .. --> surrogate loss

Shapes: `B` images, `T` tokens, `D` width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from torch import Tensor, nn

from search_spaces.scenarios.adapted_encoder import SCENARIO, AdaptationTraining
from search_spaces.scenarios.contract import settings_as
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from trainables.encoders.load import load_tower
from trainables.encoders.tower import ListedBlocks, Tower
from trainables.points.building import partial_encoder
from trainables.points.contract import Method, Trained
from trainables.points.counting import Counting, Part, count_macs, meta
from trainables.points.image_learner import ImageLearner
from trainables.points.inputs import Inputs, base_codec, class_texts
from trainables.points.learning import SurrogateSetting
from trainables.points.models import DecodedPoint
from trainables.points.weights import load_trained, overlay


class EncoderFront(nn.Module):
    """A copy of the encoder up to hidden state k; its stem and last blocks can be trained.

    Args:
        tower: the encoder that is copied; it stays as it is.
        block: k.
        layers: how many of the blocks before k are trained, 0 to k.

    Raises:
        ValueError: the encoder's blocks are not called one after the other.
    """

    def __init__(self, tower: Tower, block: int, layers: int) -> None:
        super().__init__()
        body = tower.body(0)
        if not isinstance(body, ListedBlocks):
            raise ValueError("adapted_encoder: needs a CLIP or a SigLIP as teacher.model")
        self.preprocess = tower.preprocess
        self.stem = copy.deepcopy(tower.stem())
        self.blocks = nn.ModuleList(copy.deepcopy(list(body.blocks[:block])))
        self.requires_grad_(False)
        self.stem.requires_grad_(True)
        for trained_block in self.blocks[block - layers :]:
            trained_block.requires_grad_(True)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to hidden state k, (B, T, D)."""
        hidden: Tensor = self.stem(self.preprocess(images))
        for block in self.blocks:
            hidden = block(hidden, None)
        return hidden

    def trained(self) -> dict[str, Tensor]:
        """The parameters that are trained, `front.*`."""
        named = self.named_parameters()
        return {f"front.{name}": p.detach() for name, p in named if p.requires_grad}


class AdaptedEncoderMethod(Method):
    """The decoded image through tuned first blocks."""

    receiver = ("entropy", "synthesis", "adapted_front", "encoder_run")

    def learner(self, space: Space, point: OperatingPoint, inputs: Inputs) -> ImageLearner:
        """The encoder's own first blocks."""
        settings = settings_as(space, SCENARIO.key, AdaptationTraining)
        tower = load_tower(space.teacher.model)
        base, from_latents = base_codec(point, inputs), inputs.latents is not None
        front = new_front(space, tower)
        encoder, text = partial_encoder(space, tower), class_texts(inputs)
        setting = SurrogateSetting(space, encoder, text, settings.steps)
        return ImageLearner(setting, front, "front", base, settings.lr, from_latents)

    def restore(self, trained: Trained) -> DecodedPoint:
        """The base codec, the tuned blocks, and the encoder from block k on."""
        front = new_front(trained.space, trained.tower)
        overlay(front.trained(), load_trained(trained.point_dir))
        encoder = partial_encoder(trained.space, trained.tower)
        return DecodedPoint(encoder, trained.base_codec(), front, "front", encoder.first)

    def parts(self, counting: Counting) -> Iterator[Part]:
        """The tuned copy of the encoder's first blocks; its parameters are those that differ."""
        front = new_front(counting.space, counting.tower)
        image = meta(3, counting.size, counting.size)
        (macs,) = count_macs(lambda: front(image))
        parameters = sum(p.numel() for p in front.trained().values())
        meaning = "tuned patch embedding and blocks before k"
        yield counting.sized("", "adapted_front", "receiver", meaning, parameters, macs)


def new_front(space: Space, tower: Tower) -> EncoderFront:
    """The teacher's first blocks as they are before training."""
    return EncoderFront(tower, space.teacher.block, SCENARIO.layers(space))


METHOD = AdaptedEncoderMethod()
