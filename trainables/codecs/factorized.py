"""The factorized prior: every channel of the latents has its own distribution.

    x -> g_a -> y -> entropy bottleneck -> y_hat -> g_s -> x_hat

Ballé et al. (ICLR 2018, arXiv 1802.01436); the networks are CompressAI's.
"""

from __future__ import annotations

from typing import Protocol

import torch
from compressai.models import FactorizedPrior, FactorizedPriorReLU
from torch import Tensor

from search_spaces.codecs.factorized import FactorizedCodec
from trainables.codecs.codec import Codec
from trainables.codecs.entropy.coding import Coding, Likelihoods
from trainables.codecs.entropy.model import EntropyModel, bottleneck_pass
from trainables.codecs.entropy.tables import Bottleneck

_NETWORKS = {
    "bmshj2018-factorized": FactorizedPrior,
    "bmshj2018-factorized-relu": FactorizedPriorReLU,
}


class FactorizedNetwork(Protocol):
    """A network whose latents go through an entropy bottleneck."""

    entropy_bottleneck: Bottleneck


class Factorized(EntropyModel):
    """Latents that an entropy bottleneck codes."""

    hyper_stride = 1

    def __init__(self, network: FactorizedNetwork) -> None:
        super().__init__(network.entropy_bottleneck)

    def train_pass(self, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """See `EntropyModel`."""
        y_hat, likelihoods = bottleneck_pass(self.bottleneck, y)
        return y_hat, {"y": likelihoods}

    def walk(self, y: Tensor | None, shape: torch.Size, coding: Coding, rate: int) -> Tensor:
        """See `EntropyModel`."""
        return coding.bottleneck(self.bottleneck, y, shape, "y")

    def symbols(self, M: int, h: int, w: int) -> int:
        """See `EntropyModel`."""
        return M * h * w


def build(settings: FactorizedCodec) -> Codec:
    """A codec with fresh weights."""
    network = _NETWORKS[settings.arch](settings.N, settings.M)
    return Codec(settings, network, Factorized(network))
