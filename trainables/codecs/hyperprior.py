"""Hyperpriors: the latents' scales (and means) are predicted from hyper-latents z.

    x -> g_a -> y ------------------------> y_hat -> g_s -> x_hat
                +-> h_a -> z_hat -> h_s -> scales, means

Ballé et al. (ICLR 2018, arXiv 1802.01436), Minnen et al. (NeurIPS 2018, arXiv 1809.02736); the
networks are CompressAI's.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from compressai.entropy_models import GaussianConditional
from compressai.models import MeanScaleHyperprior, ScaleHyperprior
from compressai.ops import quantize_ste
from torch import Tensor, nn

from search_spaces.codecs.hyperprior import HyperpriorCodec
from trainables.codecs.codec import Codec
from trainables.codecs.entropy.coding import Coding, Likelihoods
from trainables.codecs.entropy.model import EntropyModel, bottleneck_pass
from trainables.codecs.entropy.tables import Bottleneck


class HyperpriorNetwork(Protocol):
    """A network with hyper-latents."""

    h_a: nn.Module
    h_s: nn.Module
    entropy_bottleneck: Bottleneck
    gaussian_conditional: GaussianConditional


class GaussianLatents(EntropyModel):
    """Latents that are Gaussian given what is decoded before them."""

    def __init__(self, network: HyperpriorNetwork) -> None:
        super().__init__(network.entropy_bottleneck)
        self._network = network

    def train_latents(
        self, y: Tensor, scales: Tensor, means: Tensor | None, rate: int
    ) -> tuple[Tensor, Tensor]:
        """y_hat with straight-through gradients, and the likelihoods of y plus noise."""
        _, likelihoods = self._network.gaussian_conditional(y, scales, means=means)
        y_hat = quantize_ste(y) if means is None else quantize_ste(y - means) + means
        return y_hat, likelihoods

    def code(
        self, y: Tensor | None, scales: Tensor, means: Tensor | None, coding: Coding, rate: int
    ) -> Tensor:
        """Code latents, or read them where y is None; returns y_hat."""
        return coding.gaussian(self._network.gaussian_conditional, y, scales, means)


class Hyperprior(GaussianLatents):
    """Latents that are Gaussian given the hyper-latents.

    Args:
        network: see there.
        means: whether the hyper-synthesis gives means as well; without, they are zeros, and the
            hyper-analysis gets magnitudes.
    """

    def __init__(self, network: HyperpriorNetwork, means: bool) -> None:
        super().__init__(network)
        self._means = means

    def hyper_analysis(self, y: Tensor) -> Tensor:
        """z, (B, N, h / 4, w / 4)."""
        return cast(Tensor, self._network.h_a(y if self._means else y.abs()))

    def parameters(self, z_hat: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scales and, in a model that has them, means, each (B, M, h, w)."""
        parameters = self._network.h_s(z_hat)
        if not self._means:
            return parameters, None
        scales, means = parameters.chunk(2, 1)
        return scales, means

    def train_pass(self, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """See `EntropyModel`."""
        z = self.hyper_analysis(y)
        z_hat, z_likelihoods = bottleneck_pass(self.bottleneck, z, self.step(rate))
        y_hat, y_likelihoods = self.train_latents(y, *self.parameters(z_hat), rate)
        return y_hat, {"y": y_likelihoods, "z": z_likelihoods}

    def walk(self, y: Tensor | None, shape: torch.Size, coding: Coding, rate: int) -> Tensor:
        """See `EntropyModel`."""
        z, hyper_shape = None if y is None else self.hyper_analysis(y), self.hyper_shape(shape)
        z_hat = coding.bottleneck(self.bottleneck, z, hyper_shape, "z", self.step(rate))
        return self.code(y, *self.parameters(z_hat), coding, rate)


def build(settings: HyperpriorCodec) -> Codec:
    """A codec with fresh weights."""
    means = settings.arch == "mbt2018-mean"
    network = (MeanScaleHyperprior if means else ScaleHyperprior)(settings.N, settings.M)
    return Codec(settings, network, Hyperprior(network, means))
