"""ELIC: groups of channels, each coded in two checkerboard passes.

    hyper-latents -> h_s ------------------------+
    groups before -> channel context ------------+-> parameters of a group
    one colour of its board -> spatial context --+

He et al. (CVPR 2022, arXiv 2203.10886); the network is CompressAI's `Elic2022Chandelier`.
"""

from __future__ import annotations

import torch
from compressai.entropy_models import GaussianConditional
from compressai.latent_codecs import CheckerboardLatentCodec
from compressai.layers import conv1x1
from compressai.models import Elic2022Chandelier
from compressai.models.utils import conv
from torch import Tensor, nn

from search_spaces.codecs.elic import ElicCodec
from trainables.codecs.codec import Codec
from trainables.codecs.entropy.coding import Coding, Likelihoods
from trainables.codecs.entropy.model import EntropyModel


class ChannelGroups(EntropyModel):
    """Groups of channels, each a checkerboard: anchors first, then the positions between them."""

    def __init__(self, network: Elic2022Chandelier) -> None:
        super().__init__(network.latent_codec.hyper.entropy_bottleneck)
        self._network = network

    def train_pass(self, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """See `EntropyModel`."""
        # CompressAI's own pass quantises as the package's docstring says.
        out = self._network.latent_codec(y)
        return out["y_hat"], out["likelihoods"]

    def walk(self, y: Tensor | None, shape: torch.Size, coding: Coding, rate: int) -> Tensor:
        """See `EntropyModel`."""
        hyper, groups = self._network.latent_codec.hyper, self._network.latent_codec.y
        z = None if y is None else hyper.h_a(y)
        z_hat = coding.bottleneck(self.bottleneck, z, self.hyper_shape(shape), "z")
        side = hyper.h_s(z_hat)
        decoded: list[Tensor] = []
        parts = [None] * len(groups.groups) if y is None else torch.split(y, groups.groups, 1)
        for k, part in enumerate(parts):
            context = side
            if k > 0:
                before = groups.channel_context[f"y{k}"](groups.merge_y(*decoded))
                context = groups.merge_params(before, side)
            decoded.append(_group(groups.latent_codec[f"y{k}"], context, part, coding))
        return torch.cat(decoded, 1)


def _group(
    board: CheckerboardLatentCodec, context: Tensor, y: Tensor | None, coding: Coding
) -> Tensor:
    """Code a group of channels, (B, channels, h, w), in two passes; returns its y_hat."""
    contexts = board.unembed(context)
    values = (None, None) if y is None else board.unembed(y)
    spatial, half = board.context_prediction, contexts[0].shape
    # Nothing is known at the anchors: not even the context layer's bias is used.
    nothing = torch.zeros(half[0], spatial.out_channels, *half[2:], device=context.device)
    anchors = _half_group(board, nothing, contexts[0], values[0], coding)
    known = board.embed(torch.stack((anchors, torch.zeros_like(anchors))))
    neighbours = board.unembed(spatial(known))[1]
    between = _half_group(board, neighbours, contexts[1], values[1], coding)
    embedded: Tensor = board.embed(torch.stack((anchors, between)))
    return embedded


def _half_group(
    board: CheckerboardLatentCodec,
    neighbours: Tensor,
    context: Tensor,
    y: Tensor | None,
    coding: Coding,
) -> Tensor:
    """Code one colour of a checkerboard, (B, channels, h, w / 2); returns its y_hat."""
    parameters = board.entropy_parameters(board.merge(neighbours, context))
    means, scales = parameters.chunk(2, 1)
    prior: GaussianConditional = board.latent_codec["y"].gaussian_conditional
    return coding.gaussian(prior, y, scales, means)


def build(settings: ElicCodec) -> Codec:
    """A codec with fresh weights."""
    groups = settings.groups and list(settings.groups)
    network = Elic2022Chandelier(settings.N, settings.M, groups=groups)
    if settings.context_width != 1.0:
        _narrow(network, settings)
    return Codec(settings, network, ChannelGroups(network))


def _narrow(network: Elic2022Chandelier, settings: ElicCodec) -> None:
    """Replace the context and parameter networks by narrower ones."""
    first, second, third, fourth = (
        max(8, round(width * settings.context_width)) for width in (224, 128, 2 * settings.M, 512)
    )
    groups = network.latent_codec.y
    for k, size in enumerate(network.groups):
        if k > 0:
            before = network.groups[0] + (network.groups[k - 1] if k > 1 else 0)
            groups.channel_context[f"y{k}"] = nn.Sequential(
                conv(before, first, kernel_size=5, stride=1),
                nn.ReLU(inplace=True),
                conv(first, second, kernel_size=5, stride=1),
                nn.ReLU(inplace=True),
                conv(second, 2 * size, kernel_size=5, stride=1),
            )
        inputs = 2 * size + (2 * size if k > 0 else 0) + 2 * settings.M
        groups.latent_codec[f"y{k}"].entropy_parameters = nn.Sequential(
            conv1x1(inputs, third),
            nn.ReLU(inplace=True),
            conv1x1(third, fourth),
            nn.ReLU(inplace=True),
            conv1x1(fourth, 2 * size),
        )
