"""Variable-rate models: one set of weights, eight rates (arXiv 2402.18930).

    y - means --x gain--> round --> symbols --> |symbols| + offset, signed --/ gain--> + means

A rate is an index into the learned gains, inverse step sizes of the latents; a small network gives
the reconstruction offset from a latent's scale and the gain, another the step of the hyper-latents.
CompressAI's classes and parameters; y_hat is on y's own scale at all rates.

In training a rate is given per pass, and the gain of that rate learns with the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from compressai.ops import quantize_ste
from torch import Tensor

from trainables.codecs.entropy.coding import Coding, Likelihoods
from trainables.codecs.entropy.model import Autoregressive, Hyperprior, bottleneck_pass, hyper_shape

RATES = 8
"""Rates of one model; each belongs to the CompressAI quality one above its index."""


def gain_of(net: Any, rate: int) -> Tensor:
    """The inverse step size of a rate, ()."""
    return cast(Tensor, net.Gain[rate].abs())


def reconstruct(net: Any, symbols: Tensor, scales: Tensor, gain: Tensor) -> Tensor:
    """Deviations from the means that symbols (B, M, h, w) stand for; zero stays zero.

    Symbols may carry straight-through gradients; scales are those of the latents, not of symbols.
    """
    widths = net.gaussian_conditional.lower_bound_scale(scales * gain)
    offsets = -net.QuantABCD(torch.stack((widths, gain.expand_as(widths)), -1)).squeeze(-1)
    moved = symbols.abs() + torch.where(symbols.detach().abs() < 0.5, 0.0, offsets)
    return symbols.detach().sign() * moved / gain


class HyperpriorVbr(Hyperprior):
    """bmshj2018-hyperprior-vbr and mbt2018-mean-vbr."""

    rates = RATES

    def step(self, net: Any, rate: int) -> Tensor:
        """The hyper-latents' step at a rate, ()."""
        inverse = 1 / gain_of(net, rate)
        return cast(Tensor, net.lower_bound_zqstep(net.gayn2zqstep(inverse.reshape(1))))[0]

    def train_pass(self, net: Any, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """See `Entropy`."""
        gain, step = gain_of(net, rate), self.step(net, rate)
        z_hat, z_likelihoods = bottleneck_pass(
            net.entropy_bottleneck, self.hyper_analysis(net, y), step
        )
        scales, means = self.parameters(net, z_hat)
        y_hat, y_likelihoods = _train(net, y, scales, means, gain)
        return y_hat, {"y": y_likelihoods, "z": z_likelihoods}

    def walk(
        self, net: Any, y: Tensor | None, shape: torch.Size, coding: Coding, rate: int
    ) -> Tensor:
        """See `Entropy`."""
        gain, step = gain_of(net, rate), self.step(net, rate)
        z = None if y is None else self.hyper_analysis(net, y)
        z_hat = coding.bottleneck(net.entropy_bottleneck, z, hyper_shape(net, shape), "z", step)
        scales, means = self.parameters(net, z_hat)
        return _code(net, y, scales, means, gain, coding)


class AutoregressiveVbr(Autoregressive):
    """mbt2018-vbr: the gain also moves the context, by a linear layer."""

    rates = RATES

    def train_pass(self, net: Any, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """See `Entropy`."""
        gain = gain_of(net, rate)
        z_hat, z_likelihoods = bottleneck_pass(net.entropy_bottleneck, net.h_a(y))
        noisy = y + (torch.rand_like(y) - 0.5) / gain.detach()
        context = net.context_prediction(noisy) + _moved(net, gain)
        parameters = net.entropy_parameters(torch.cat((net.h_s(z_hat), context), 1))
        scales, means = parameters.chunk(2, 1)
        y_hat, y_likelihoods = _train(net, y, scales, means, gain)
        return y_hat, {"y": y_likelihoods, "z": z_likelihoods}

    def context(self, net: Any, rate: int) -> Callable[[Tensor], Tensor]:
        """From a window (B, M, span, span) of decoded latents to its centre's context."""
        layer, moved = net.context_prediction, _moved(net, gain_of(net, rate))
        weight = layer.weight * layer.mask
        return lambda window: F.conv2d(window, weight, layer.bias) + moved

    def code(
        self,
        net: Any,
        y: Tensor | None,
        scales: Tensor,
        means: Tensor,
        coding: Coding,
        rate: int,
    ) -> Tensor:
        """Code one position; returns its y_hat."""
        return _code(net, y, scales, means, gain_of(net, rate), coding)


def _moved(net: Any, gain: Tensor) -> Tensor:
    return cast(Tensor, net.scale_to_context(gain.reshape(1, 1)).reshape(1, -1, 1, 1))


def _train(
    net: Any, y: Tensor, scales: Tensor, means: Tensor | None, gain: Tensor
) -> tuple[Tensor, Tensor]:
    deviations = (y if means is None else y - means) * gain
    _, likelihoods = net.gaussian_conditional(deviations, scales * gain)
    y_hat = reconstruct(net, quantize_ste(deviations), scales, gain)
    return y_hat if means is None else y_hat + means, likelihoods


def _code(
    net: Any,
    y: Tensor | None,
    scales: Tensor,
    means: Tensor | None,
    gain: Tensor,
    coding: Coding,
) -> Tensor:
    deviations = None
    if y is not None:
        deviations = (y if means is None else y - means) * gain
    symbols = coding.gaussian(net.gaussian_conditional, deviations, scales * gain, None)
    y_hat = reconstruct(net, symbols, scales, gain)
    return (y_hat if means is None else y_hat + means).contiguous()
