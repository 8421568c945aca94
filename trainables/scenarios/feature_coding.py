"""feature_coding: the sender runs the encoder's first blocks and sends their tokens.

    image --> encoder blocks 0 .. k-1 --> tokens --token codec--> bytes    (sender)
    bytes --token codec--> y_hat --> neck --> encoder blocks k ..          (receiver)

    loss = R + lambda MSE of the tokens, R in bits per pixel of the image

Shapes: `B` images, `T` tokens of the encoder, `D` width.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.scenarios.contract import settings_as
from search_spaces.scenarios.feature_coding import TOKENS, FeatureCodingTraining
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from trainables.codecs import bits_estimated
from trainables.datasets.rows import Batch
from trainables.encoders.load import load_tower
from trainables.encoders.tower import Tower
from trainables.networks.neck import TransformNeck
from trainables.networks.token_codec import TokenCodec, TokenNet, start_as_projection
from trainables.points.building import complete_encoder, partial_encoder, sized_neck
from trainables.points.contract import Method, Trained
from trainables.points.counting import Counting, Part, count_macs, meta, number_of_parameters
from trainables.points.inputs import Inputs, images_to_fit
from trainables.points.learning import Group, Learner, codec_groups
from trainables.points.models import BridgedPoint
from trainables.points.weights import load_trained, named, overlay


class FeatureCodingLearner(Learner):
    """Both ends of a codec of tokens.

    Args:
        lmbda: weight of the tokens' MSE against bits per pixel of the image.
    """

    columns = ("image",)

    def __init__(
        self,
        training: FeatureCodingTraining,
        codec: TokenCodec,
        neck: TransformNeck,
        lmbda: float,
    ) -> None:
        super().__init__()
        self.codec = codec
        self.neck = neck
        self._training = training
        self._lmbda = lmbda

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss`, `bpp_estimated`, `mse` of the tokens, and `aux`."""
        return {**self._terms(batch), "aux": self.codec.aux_loss()}

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, `bpp_estimated`, `mse` of the tokens."""
        return self._terms(batch)

    def groups(self) -> list[Group]:
        """The receiver's neck, the sender's analysis with its bottleneck, and the quantiles."""
        codec = codec_groups(self.codec, self._training.lr, self._training.aux_lr)
        return [Group(list(self.neck.parameters()), self._training.lr), *codec]

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.image is not None
        tokens = self.codec.net.tokens(batch.image)
        y_hat, likelihoods = self.codec.of_tokens(tokens)
        pixels = batch.image.shape[-2] * batch.image.shape[-1]
        bpp = bits_estimated(likelihoods).mean() / pixels
        mse = F.mse_loss(self.neck(y_hat).float(), tokens)
        return {"loss": bpp + self._lmbda * mse, "bpp_estimated": bpp, "mse": mse}


class FeatureCodingMethod(Method):
    """The encoder's own tokens, sent."""

    sender = ("encoder_skipped", "token_analysis")
    receiver = ("token_neck", "encoder_run")

    def learner(self, space: Space, point: OperatingPoint, inputs: Inputs) -> FeatureCodingLearner:
        """A token codec that starts as the best linear transform code of training images."""
        assert point.lmbda is not None
        codec, neck = build_token_codec(space, load_tower(space.teacher.model))
        images = images_to_fit(space, inputs, None, point.seed)
        tokens = (codec.net.tokens(b.image) for b in images if b.image is not None)
        start_as_projection(codec.net, neck, tokens, point.lmbda, space.data.size**2)
        return FeatureCodingLearner(_settings(space), codec, neck, point.lmbda)

    def restore(self, trained: Trained) -> BridgedPoint:
        """The token codec and the encoder from block k on."""
        codec, neck = build_token_codec(trained.space, trained.tower)
        learned = {n: p for n, p in codec.named_parameters() if p.requires_grad}
        parameters = {f"codec.{name}": p.detach() for name, p in learned.items()}
        overlay(parameters | named(neck=neck), load_trained(trained.point_dir))
        codec.eval().requires_grad_(False)
        codec.update()
        encoder = partial_encoder(trained.space, trained.tower)
        return BridgedPoint(encoder, codec, neck, has_image=False, crop=False)

    def parts(self, counting: Counting) -> Iterator[Part]:
        """Both ends of the token codec."""
        # CompressAI's entropy bottleneck computes its first weights, so it is built with memory.
        codec, neck = build_token_codec(counting.space, counting.tower)
        codec, neck = codec.to("meta"), neck.to("meta")
        net, space = codec.net, counting.space
        whole = complete_encoder(space, counting.tower)
        image = meta(3, counting.size, counting.size)
        hidden = torch.empty_like(whole.hidden(image, space.teacher.block))
        analysis = number_of_parameters([net.attention, net.linear]) + net.position.numel()
        (macs,) = count_macs(lambda: net.analysis(hidden))
        meaning = "tokens of block k to latents"
        yield counting.sized(TOKENS, "token_analysis", "sender", meaning, analysis, macs)
        run = functools.partial(neck, meta(net.linear.out_features, *net.grid))
        meaning = "latents to tokens of block k"
        yield counting.part(TOKENS, "token_neck", "receiver", meaning, [neck], run)


def build_token_codec(space: Space, tower: Tower) -> tuple[TokenCodec, TransformNeck]:
    """A fresh codec of the teacher's tokens at block k, and the neck that reads its latents."""
    channels = _settings(space).channels
    codec = TokenCodec(TokenNet(complete_encoder(space, tower), space.teacher.block, channels))
    return codec, sized_neck(space, channels, tower, norm=False)


def _settings(space: Space) -> FeatureCodingTraining:
    return settings_as(space, "feature_coding", FeatureCodingTraining)


METHOD = FeatureCodingMethod()
