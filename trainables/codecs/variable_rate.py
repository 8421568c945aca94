"""Variable-rate models: one set of weights, eight rates (arXiv 2402.18930).

    y - means --x gain--> round --> symbols --> |symbols| + offset, signed --/ gain--> + means

A rate is an index into the learned gains, inverse step sizes of the latents; a small network gives
the reconstruction offset from a latent's scale and the gain, another the step of the hyper-latents.
The networks are CompressAI's; y_hat is on y's own scale at all rates.

In training a rate is given per pass, and the gain of that rate learns with the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from compressai.models import (
    JointAutoregressiveHierarchicalPriorsVbr,
    MeanScaleHyperpriorVbr,
    ScaleHyperpriorVbr,
)
from compressai.ops import quantize_ste
from torch import Tensor, nn

from search_spaces.codecs.variable_rate import RATES, VariableRateCodec
from trainables.codecs.autoregressive import Autoregressive, ContextNetwork
from trainables.codecs.codec import Codec
from trainables.codecs.entropy.coding import Coding
from trainables.codecs.hyperprior import GaussianLatents, Hyperprior, HyperpriorNetwork


class Gained(HyperpriorNetwork, Protocol):
    """What all variable-rate networks have: gains, and the network of reconstruction offsets."""

    Gain: nn.Parameter
    QuantABCD: nn.Module


class HyperpriorVbrNetwork(Gained, Protocol):
    """One whose hyper-latents have a step for each gain."""

    gayn2zqstep: nn.Module
    lower_bound_zqstep: nn.Module


class AutoregressiveVbrNetwork(ContextNetwork, Gained, Protocol):
    """One whose context has a summand for each gain."""

    scale_to_context: nn.Module


class GainedLatents(GaussianLatents):
    """Latents that are multiplied by the gain of a rate before they are rounded."""

    rates = RATES
    _network: Gained

    def gain(self, rate: int) -> Tensor:
        """The inverse step size of a rate, ()."""
        return self._network.Gain[rate].abs()

    def reconstruct(self, symbols: Tensor, scales: Tensor, gain: Tensor) -> Tensor:
        """Deviations from the means that symbols (B, M, h, w) decode to; zero stays zero.

        Symbols may carry straight-through gradients; scales are those of the latents, not of
        symbols.
        """
        widths = self._network.gaussian_conditional.lower_bound_scale(scales * gain)
        given = torch.stack((widths, gain.expand_as(widths)), -1)
        offsets = -self._network.QuantABCD(given).squeeze(-1)
        magnitudes = symbols.abs() + torch.where(symbols.detach().abs() < 0.5, 0.0, offsets)
        return symbols.detach().sign() * magnitudes / gain

    def train_latents(
        self, y: Tensor, scales: Tensor, means: Tensor | None, rate: int
    ) -> tuple[Tensor, Tensor]:
        """See `GaussianLatents`."""
        gain = self.gain(rate)
        deviations = (y if means is None else y - means) * gain
        _, likelihoods = self._network.gaussian_conditional(deviations, scales * gain)
        y_hat = self.reconstruct(quantize_ste(deviations), scales, gain)
        return y_hat if means is None else y_hat + means, likelihoods

    def code(
        self, y: Tensor | None, scales: Tensor, means: Tensor | None, coding: Coding, rate: int
    ) -> Tensor:
        """See `GaussianLatents`."""
        prior, gain = self._network.gaussian_conditional, self.gain(rate)
        deviations = y if y is None or means is None else y - means
        deviations = None if deviations is None else deviations * gain
        symbols = coding.gaussian(prior, deviations, scales * gain, None)
        y_hat = self.reconstruct(symbols, scales, gain)
        return (y_hat if means is None else y_hat + means).contiguous()


class HyperpriorVbr(GainedLatents, Hyperprior):
    """bmshj2018-hyperprior-vbr and mbt2018-mean-vbr."""

    _network: HyperpriorVbrNetwork

    def step(self, rate: int) -> Tensor:
        """The distance of two values of a hyper-latent at a rate, ()."""
        network, inverse = self._network, 1 / self.gain(rate)
        return cast(Tensor, network.lower_bound_zqstep(network.gayn2zqstep(inverse.reshape(1))))[0]


class AutoregressiveVbr(GainedLatents, Autoregressive):
    """mbt2018-vbr: the gain also moves the context, by a linear layer."""

    _network: AutoregressiveVbrNetwork

    def train_context(self, y: Tensor, rate: int) -> Tensor:
        """See `Autoregressive`."""
        noisy = y + (torch.rand_like(y) - 0.5) / self.gain(rate).detach()
        return cast(Tensor, self._network.context_prediction(noisy)) + self._of_gain(rate)

    def context(self, rate: int) -> Callable[[Tensor], Tensor]:
        """From a window (B, M, span, span) of decoded latents to its centre's context."""
        of_window, of_gain = super().context(rate), self._of_gain(rate)
        return lambda window: of_window(window) + of_gain

    def _of_gain(self, rate: int) -> Tensor:
        """The gain's summand of the context, (1, C, 1, 1)."""
        of_gain: Tensor = self._network.scale_to_context(self.gain(rate).reshape(1, 1))
        return of_gain.reshape(1, -1, 1, 1)


def build(settings: VariableRateCodec) -> Codec:
    """A codec with fresh weights."""
    N, M = settings.N, settings.M
    if settings.arch == "mbt2018-vbr":
        network = JointAutoregressiveHierarchicalPriorsVbr(N, M)
        return Codec(settings, network, AutoregressiveVbr(network))
    means = settings.arch == "mbt2018-mean-vbr"
    network = (MeanScaleHyperpriorVbr if means else ScaleHyperpriorVbr)(N, M, vr_entbttlnck=True)
    return Codec(settings, network, HyperpriorVbr(network, means))
