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
import torch.nn.functional as F
from compressai.entropy_models import GaussianConditional
from compressai.models import (
    JointAutoregressiveHierarchicalPriorsVbr,
    MeanScaleHyperpriorVbr,
    ScaleHyperpriorVbr,
)
from compressai.ops import quantize_ste
from torch import Tensor, nn

from search_spaces.codecs.variable_rate import RATES, VariableRateCodec
from trainables.codecs.autoregressive import Autoregressive, MaskedConvNetwork
from trainables.codecs.codec import Codec
from trainables.codecs.entropy.coding import Coding, Likelihoods
from trainables.codecs.entropy.model import bottleneck_pass
from trainables.codecs.hyperprior import Hyperprior, HyperpriorNetwork


class Gained(Protocol):
    """What all variable-rate networks have: gains, and the network of reconstruction offsets."""

    Gain: nn.Parameter
    QuantABCD: nn.Module
    gaussian_conditional: GaussianConditional


class HyperpriorVbrNetwork(HyperpriorNetwork, Gained, Protocol):
    """One whose hyper-latents have a step for each gain."""

    gayn2zqstep: nn.Module
    lower_bound_zqstep: nn.Module


class AutoregressiveVbrNetwork(MaskedConvNetwork, Gained, Protocol):
    """One whose context has a summand for each gain."""

    scale_to_context: nn.Module


def gain_of(network: Gained, rate: int) -> Tensor:
    """The inverse step size of a rate, ()."""
    return network.Gain[rate].abs()


def reconstruct(network: Gained, symbols: Tensor, scales: Tensor, gain: Tensor) -> Tensor:
    """Deviations from the means that symbols (B, M, h, w) decode to; zero stays zero.

    Symbols may carry straight-through gradients; scales are those of the latents, not of symbols.
    """
    widths = network.gaussian_conditional.lower_bound_scale(scales * gain)
    offsets = -network.QuantABCD(torch.stack((widths, gain.expand_as(widths)), -1)).squeeze(-1)
    magnitudes = symbols.abs() + torch.where(symbols.detach().abs() < 0.5, 0.0, offsets)
    return symbols.detach().sign() * magnitudes / gain


class HyperpriorVbr(Hyperprior):
    """bmshj2018-hyperprior-vbr and mbt2018-mean-vbr."""

    rates = RATES

    def __init__(self, network: HyperpriorVbrNetwork, means: bool) -> None:
        super().__init__(network, means)
        self._gained = network

    def step(self, rate: int) -> Tensor:
        """The distance of two values of a hyper-latent at a rate, ()."""
        inverse = 1 / gain_of(self._gained, rate)
        network = self._gained
        return cast(Tensor, network.lower_bound_zqstep(network.gayn2zqstep(inverse.reshape(1))))[0]

    def train_pass(self, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """See `EntropyModel`."""
        gain, step = gain_of(self._gained, rate), self.step(rate)
        z_hat, z_likelihoods = bottleneck_pass(self.bottleneck, self.hyper_analysis(y), step)
        scales, means = self.parameters(z_hat)
        y_hat, y_likelihoods = _train(self._gained, y, scales, means, gain)
        return y_hat, {"y": y_likelihoods, "z": z_likelihoods}

    def walk(self, y: Tensor | None, shape: torch.Size, coding: Coding, rate: int) -> Tensor:
        """See `EntropyModel`."""
        gain, step = gain_of(self._gained, rate), self.step(rate)
        z = None if y is None else self.hyper_analysis(y)
        z_hat = coding.bottleneck(self.bottleneck, z, self.hyper_shape(shape), "z", step)
        scales, means = self.parameters(z_hat)
        return _code(self._gained, y, scales, means, gain, coding)


class AutoregressiveVbr(Autoregressive):
    """mbt2018-vbr: the gain also moves the context, by a linear layer."""

    rates = RATES

    def __init__(self, network: AutoregressiveVbrNetwork) -> None:
        super().__init__(network)
        self._gained = network

    def train_pass(self, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """See `EntropyModel`."""
        network, gain = self._gained, gain_of(self._gained, rate)
        z_hat, z_likelihoods = bottleneck_pass(self.bottleneck, network.h_a(y))
        noisy = y + (torch.rand_like(y) - 0.5) / gain.detach()
        context = network.context_prediction(noisy) + self._context_of_gain(gain)
        parameters = network.entropy_parameters(torch.cat((network.h_s(z_hat), context), 1))
        scales, means = parameters.chunk(2, 1)
        y_hat, y_likelihoods = _train(network, y, scales, means, gain)
        return y_hat, {"y": y_likelihoods, "z": z_likelihoods}

    def context(self, rate: int) -> Callable[[Tensor], Tensor]:
        """From a window (B, M, span, span) of decoded latents to its centre's context."""
        layer = self._gained.context_prediction
        of_gain = self._context_of_gain(gain_of(self._gained, rate))
        weight = layer.weight * layer.mask
        return lambda window: F.conv2d(window, weight, layer.bias) + of_gain

    def code(
        self, y: Tensor | None, scales: Tensor, means: Tensor, coding: Coding, rate: int
    ) -> Tensor:
        """Code one position, (B, M, 1, 1); returns its y_hat."""
        return _code(self._gained, y, scales, means, gain_of(self._gained, rate), coding)

    def _context_of_gain(self, gain: Tensor) -> Tensor:
        """(1, C, 1, 1)."""
        of_gain: Tensor = self._gained.scale_to_context(gain.reshape(1, 1))
        return of_gain.reshape(1, -1, 1, 1)


def _train(
    network: Gained, y: Tensor, scales: Tensor, means: Tensor | None, gain: Tensor
) -> tuple[Tensor, Tensor]:
    deviations = (y if means is None else y - means) * gain
    _, likelihoods = network.gaussian_conditional(deviations, scales * gain)
    y_hat = reconstruct(network, quantize_ste(deviations), scales, gain)
    return y_hat if means is None else y_hat + means, likelihoods


def _code(
    network: Gained,
    y: Tensor | None,
    scales: Tensor,
    means: Tensor | None,
    gain: Tensor,
    coding: Coding,
) -> Tensor:
    deviations = None
    if y is not None:
        deviations = (y if means is None else y - means) * gain
    symbols = coding.gaussian(network.gaussian_conditional, deviations, scales * gain, None)
    y_hat = reconstruct(network, symbols, scales, gain)
    return (y_hat if means is None else y_hat + means).contiguous()


def build(settings: VariableRateCodec) -> Codec:
    """A codec with fresh weights."""
    N, M = settings.N, settings.M
    if settings.arch == "mbt2018-vbr":
        network = JointAutoregressiveHierarchicalPriorsVbr(N, M)
        return Codec(settings, network, AutoregressiveVbr(network))
    means = settings.arch == "mbt2018-mean-vbr"
    network = (MeanScaleHyperpriorVbr if means else ScaleHyperpriorVbr)(N, M, vr_entbttlnck=True)
    return Codec(settings, network, HyperpriorVbr(network, means))
