"""The contract of entropy models: how a family of codecs predicts and codes its latents.

A model walks its network in one way for everything outside training (`walk`); what happens to each
value on the way, estimating, writing or reading, is a `Coding`. The pass in training (`train_pass`)
is apart. For the quantisation in both see `trainables.codecs`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from compressai.ops import quantize_ste
from torch import Tensor

from trainables.codecs.entropy.coding import Coding, Likelihoods, medians_of, step_likelihoods
from trainables.codecs.entropy.tables import Bottleneck


class EntropyModel(ABC):
    """How the latents of one network are predicted and coded; has no parameters but the network's.

    Args of its methods, where they have them:
        y: latents, (B, M, h, w).
        rate: index of a variable-rate model's rate; of no meaning to other models.

    Args:
        bottleneck: the network's entropy bottleneck.

    Attributes:
        rates: rates that one set of weights serves.
        hyper_stride: latent positions per hyper-latent position in both directions; 1 where there
            are no hyper-latents. Images are padded to a multiple of it times the codec's stride.
    """

    rates = 1
    hyper_stride = 4

    def __init__(self, bottleneck: Bottleneck) -> None:
        self.bottleneck = bottleneck

    @abstractmethod
    def train_pass(self, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """y_hat with straight-through gradients, and the likelihoods of y plus noise."""

    @abstractmethod
    def walk(self, y: Tensor | None, shape: torch.Size, coding: Coding, rate: int) -> Tensor:
        """Code the latents y, or read latents of a shape where y is None.

        Returns:
            y_hat, of that shape.
        """

    def step(self, rate: int) -> Tensor | None:
        """The distance of two values of a hyper-latent, (); None for 1."""
        return None

    def symbols(self, M: int, h: int, w: int) -> int:
        """Number of symbols of an image with latents (M, h, w)."""
        hyper = self.hyper_shape(torch.Size((1, M, h, w)))
        return M * h * w + hyper.numel()

    def hyper_shape(self, shape: torch.Size) -> torch.Size:
        """The shape of the hyper-latents of latents of a shape."""
        h, w = (side // self.hyper_stride for side in shape[2:])
        return torch.Size((shape[0], self.bottleneck.channels, h, w))


def bottleneck_pass(
    bottleneck: Bottleneck, z: Tensor, step: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A bottleneck in training: z_hat with straight-through gradients, and likelihoods.

    Args:
        z: (B, C, h, w).
        step: see `EntropyModel.step`.
    """
    medians = medians_of(bottleneck)
    if step is None:
        return quantize_ste(z - medians) + medians, bottleneck(z)[1]
    noisy = z + (torch.rand_like(z) - 0.5) * step
    z_hat = quantize_ste((z - medians) / step) * step + medians
    return z_hat, step_likelihoods(bottleneck, noisy, step)
