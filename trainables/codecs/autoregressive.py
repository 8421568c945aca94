"""Autoregressive models: means and scales depend also on the latents above and to the left.

    hyper-latents -> h_s --------+
                                 +-> entropy_parameters -> scales, means of one position
    decoded latents -> context --+

Minnen et al. (NeurIPS 2018, arXiv 1809.02736), Cheng et al. (CVPR 2020, arXiv 2001.01568); the
networks are CompressAI's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from compressai.layers import MaskedConv2d
from compressai.models import (
    Cheng2020Anchor,
    Cheng2020Attention,
    JointAutoregressiveHierarchicalPriors,
)
from torch import Tensor, nn

from search_spaces.codecs.autoregressive import AutoregressiveCodec
from trainables.codecs.codec import Codec
from trainables.codecs.entropy.coding import Coding, Likelihoods
from trainables.codecs.entropy.model import bottleneck_pass
from trainables.codecs.hyperprior import GaussianLatents, HyperpriorNetwork


class ContextNetwork(HyperpriorNetwork, Protocol):
    """One with a layer for the context of a position."""

    context_prediction: MaskedConv2d
    entropy_parameters: nn.Module


class Autoregressive(GaussianLatents):
    """Latents that are coded position by position, each a Gaussian given those before it."""

    reach = 2
    """Latent positions that the context looks up and left."""
    _network: ContextNetwork

    def __init__(self, network: ContextNetwork) -> None:
        super().__init__(network)

    def train_pass(self, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """See `EntropyModel`."""
        network = self._network
        z_hat, z_likelihoods = bottleneck_pass(self.bottleneck, network.h_a(y))
        context = self.train_context(y, rate)
        parameters = network.entropy_parameters(torch.cat((network.h_s(z_hat), context), 1))
        scales, means = parameters.chunk(2, 1)
        y_hat, y_likelihoods = self.train_latents(y, scales, means, rate)
        return y_hat, {"y": y_likelihoods, "z": z_likelihoods}

    def walk(self, y: Tensor | None, shape: torch.Size, coding: Coding, rate: int) -> Tensor:
        """See `EntropyModel`."""
        network = self._network
        z = None if y is None else network.h_a(y)
        z_hat = coding.bottleneck(self.bottleneck, z, self.hyper_shape(shape), "z")
        side, context_of = network.h_s(z_hat), self.context(rate)
        # Positions that are not coded yet are under the mask, so their zeros do not matter.
        canvas = F.pad(torch.zeros(shape, device=side.device), (self.reach,) * 4)
        span = 2 * self.reach + 1
        for row in range(shape[2]):
            for column in range(shape[3]):
                context = context_of(canvas[..., row : row + span, column : column + span])
                here = side[..., row : row + 1, column : column + 1]
                parameters = network.entropy_parameters(torch.cat((here, context), 1))
                scales, means = parameters.chunk(2, 1)
                value = None if y is None else y[..., row : row + 1, column : column + 1]
                y_hat = self.code(value, scales, means, coding, rate)
                canvas = canvas.clone() if torch.is_grad_enabled() else canvas
                canvas[..., row + self.reach, column + self.reach] = y_hat[..., 0, 0]
        inside = slice(self.reach, -self.reach)
        return canvas[..., inside, inside].contiguous()

    def train_context(self, y: Tensor, rate: int) -> Tensor:
        """The context of all positions, (B, C, h, w), from latents plus noise."""
        noisy = self._network.gaussian_conditional.quantize(y, "noise")
        return cast(Tensor, self._network.context_prediction(noisy))

    def context(self, rate: int) -> Callable[[Tensor], Tensor]:
        """From a window (B, M, span, span) of decoded latents to its centre's context."""
        layer = self._network.context_prediction
        weight = layer.weight * layer.mask
        return lambda window: F.conv2d(window, weight, layer.bias)


def build(settings: AutoregressiveCodec) -> Codec:
    """A codec with fresh weights."""
    if settings.arch == "mbt2018":
        network = JointAutoregressiveHierarchicalPriors(settings.N, settings.M)
    else:
        anchor = settings.arch == "cheng2020-anchor"
        network = (Cheng2020Anchor if anchor else Cheng2020Attention)(settings.N)
    return Codec(settings, network, Autoregressive(network))
