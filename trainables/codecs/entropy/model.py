"""The families of entropy models: how the latents of each are predicted and coded.

A family walks its model in one way for everything outside training (`walk`); what happens to each
value on the way, estimating, writing or reading, is the `Coding`'s business. The pass in training
(`train_pass`) is apart. See the package for the quantisation in both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from compressai.ops import quantize_ste
from torch import Tensor

from trainables.codecs.entropy.coding import Coding, Likelihoods, bottleneck_likelihoods, medians_of

HYPER_STRIDE = 4
"""Latent positions per hyper-latent one, in both directions."""


class Entropy:
    """How one family of models codes its latents; has no parameters of its own.

    `rate` is the index of a variable-rate model's rate; other families do not look at it.
    """

    rates = 1
    """Rates that one set of weights serves."""

    def train_pass(self, net: Any, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """y_hat with straight-through gradients, and the likelihoods of y plus noise."""
        raise NotImplementedError

    def walk(
        self, net: Any, y: Tensor | None, shape: torch.Size, coding: Coding, rate: int
    ) -> Tensor:
        """Code the latents y, or read them where y is None; returns y_hat of that shape."""
        raise NotImplementedError

    def step(self, net: Any, rate: int) -> Tensor | None:
        """The step by which hyper-latents are quantised; None for 1."""
        return None

    def count(self, net: Any, M: int, h: int, w: int) -> int:
        """Symbols per image."""
        z: int = self.bottleneck(net).channels
        return M * h * w + z * -(-h // HYPER_STRIDE) * -(-w // HYPER_STRIDE)

    def bottleneck(self, net: Any) -> Any:
        """The model's entropy bottleneck."""
        return net.entropy_bottleneck


class Factorized(Entropy):
    """bmshj2018-factorized: every channel has its own distribution."""

    def train_pass(self, net: Any, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """See `Entropy`."""
        y_hat, likelihoods = bottleneck_pass(net.entropy_bottleneck, y)
        return y_hat, {"y": likelihoods}

    def walk(
        self, net: Any, y: Tensor | None, shape: torch.Size, coding: Coding, rate: int
    ) -> Tensor:
        """See `Entropy`."""
        return coding.bottleneck(net.entropy_bottleneck, y, shape, "y")

    def count(self, net: Any, M: int, h: int, w: int) -> int:
        """See `Entropy`."""
        return M * h * w


class Hyperprior(Entropy):
    """bmshj2018-hyperprior and mbt2018-mean: scales, and means, from hyper-latents z."""

    def __init__(self, means: bool) -> None:
        self._means = means

    def hyper_analysis(self, net: Any, y: Tensor) -> Tensor:
        """z, (B, N, h / 4, w / 4)."""
        return cast(Tensor, net.h_a(y if self._means else y.abs()))

    def parameters(self, net: Any, z_hat: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scales and, in a model that has them, means, each (B, M, h, w)."""
        parameters = net.h_s(z_hat)
        if not self._means:
            return parameters, None
        scales, means = parameters.chunk(2, 1)
        return scales, means

    def train_pass(self, net: Any, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """See `Entropy`."""
        z_hat, z_likelihoods = bottleneck_pass(net.entropy_bottleneck, self.hyper_analysis(net, y))
        scales, means = self.parameters(net, z_hat)
        _, y_likelihoods = net.gaussian_conditional(y, scales, means=means)
        y_hat = quantize_ste(y) if means is None else quantize_ste(y - means) + means
        return y_hat, {"y": y_likelihoods, "z": z_likelihoods}

    def walk(
        self, net: Any, y: Tensor | None, shape: torch.Size, coding: Coding, rate: int
    ) -> Tensor:
        """See `Entropy`."""
        z = None if y is None else self.hyper_analysis(net, y)
        z_hat = coding.bottleneck(net.entropy_bottleneck, z, hyper_shape(net, shape), "z")
        return coding.gaussian(net.gaussian_conditional, y, *self.parameters(net, z_hat))


class Autoregressive(Entropy):
    """mbt2018, cheng2020: means and scales also from the latents above and to the left."""

    reach = 2
    """Latent positions that the context looks up and left."""

    def train_pass(self, net: Any, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """See `Entropy`."""
        z_hat, z_likelihoods = bottleneck_pass(net.entropy_bottleneck, net.h_a(y))
        context = net.context_prediction(net.gaussian_conditional.quantize(y, "noise"))
        parameters = net.entropy_parameters(torch.cat((net.h_s(z_hat), context), 1))
        scales, means = parameters.chunk(2, 1)
        _, y_likelihoods = net.gaussian_conditional(y, scales, means=means)
        return quantize_ste(y - means) + means, {"y": y_likelihoods, "z": z_likelihoods}

    def walk(
        self, net: Any, y: Tensor | None, shape: torch.Size, coding: Coding, rate: int
    ) -> Tensor:
        """See `Entropy`."""
        z = None if y is None else net.h_a(y)
        z_hat = coding.bottleneck(net.entropy_bottleneck, z, hyper_shape(net, shape), "z")
        side, context_of = net.h_s(z_hat), self.context(net, rate)
        # Positions that are not coded yet are under the mask, so their zeros do not matter.
        canvas = F.pad(torch.zeros(shape, device=side.device), (self.reach,) * 4)
        span = 2 * self.reach + 1
        for row in range(shape[2]):
            for column in range(shape[3]):
                context = context_of(canvas[..., row : row + span, column : column + span])
                here = side[..., row : row + 1, column : column + 1]
                scales, means = net.entropy_parameters(torch.cat((here, context), 1)).chunk(2, 1)
                value = None if y is None else y[..., row : row + 1, column : column + 1]
                y_hat = self.code(net, value, scales, means, coding, rate)
                canvas = canvas.clone() if torch.is_grad_enabled() else canvas
                canvas[..., row + self.reach, column + self.reach] = y_hat[..., 0, 0]
        inside = slice(self.reach, -self.reach)
        return canvas[..., inside, inside].contiguous()

    def context(self, net: Any, rate: int) -> Callable[[Tensor], Tensor]:
        """From a window (B, M, span, span) of decoded latents to its centre's context."""
        layer = net.context_prediction
        weight = layer.weight * layer.mask
        return lambda window: F.conv2d(window, weight, layer.bias)

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
        return coding.gaussian(net.gaussian_conditional, y, scales, means)


class CausalAttention(Autoregressive):
    """TIC: the same with attention instead of a masked convolution (arXiv 2111.06707)."""

    def context(self, net: Any, rate: int) -> Callable[[Tensor], Tensor]:
        """From a window (B, M, span, span) of decoded latents to its centre's context."""
        return lambda window: net.context_prediction.of_windows(window.flatten(2).transpose(1, 2))[
            ..., None, None
        ]


class ChannelGroups(Entropy):
    """ELIC: groups of channels, each in two checkerboard passes (arXiv 2203.10886)."""

    def bottleneck(self, net: Any) -> Any:
        """See `Entropy`."""
        return net.latent_codec.hyper.entropy_bottleneck

    def train_pass(self, net: Any, y: Tensor, rate: int) -> tuple[Tensor, Likelihoods]:
        """See `Entropy`."""
        # CompressAI's own pass quantises as the module's docstring says.
        out = net.latent_codec(y)
        return out["y_hat"], out["likelihoods"]

    def walk(
        self, net: Any, y: Tensor | None, shape: torch.Size, coding: Coding, rate: int
    ) -> Tensor:
        """See `Entropy`."""
        hyper, groups = net.latent_codec.hyper, net.latent_codec.y
        z = None if y is None else hyper.h_a(y)
        z_hat = coding.bottleneck(hyper.entropy_bottleneck, z, hyper_shape(hyper, shape), "z")
        side = hyper.h_s(z_hat)
        done: list[Tensor] = []
        parts = [None] * len(groups.groups) if y is None else torch.split(y, groups.groups, 1)
        for k, part in enumerate(parts):
            board = groups.latent_codec[f"y{k}"]
            cells = board.unembed(groups._get_ctx_params(k, side, done))
            values = (None, None) if part is None else board.unembed(part)
            look, half = board.context_prediction, (shape[2], shape[3] // 2)
            # Nothing is known at the anchors: not even the context layer's bias is used.
            nothing = torch.zeros(shape[0], look.out_channels, *half, device=side.device)
            anchors = _half_board(board, nothing, cells[0], values[0], coding)
            known = board.embed(torch.stack((anchors, torch.zeros_like(anchors))))
            others = _half_board(board, board.unembed(look(known))[1], cells[1], values[1], coding)
            done.append(board.embed(torch.stack((anchors, others))))
        return torch.cat(done, 1)


def _half_board(
    board: Any, context: Tensor, cells: Tensor, values: Tensor | None, coding: Coding
) -> Tensor:
    """Code one half of a checkerboard, (B, channels, h, w / 2); returns its y_hat."""
    prior = board.latent_codec["y"]
    scales, means = prior._chunk(board.entropy_parameters(board.merge(context, cells)))
    return coding.gaussian(prior.gaussian_conditional, values, scales, means)


def hyper_shape(net: Any, shape: torch.Size) -> torch.Size:
    """Of the hyper-latents to latents of a shape."""
    h, w = (side // HYPER_STRIDE for side in shape[2:])
    return torch.Size((shape[0], net.entropy_bottleneck.channels, h, w))


def bottleneck_pass(
    bottleneck: Any, z: Tensor, step: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A bottleneck in training: z_hat with straight-through gradients, likelihoods."""
    medians = medians_of(bottleneck)
    if step is None:
        return quantize_ste(z - medians) + medians, bottleneck(z)[1]
    noisy = z + (torch.rand_like(z) - 0.5) * step
    z_hat = quantize_ste((z - medians) / step) * step + medians
    return z_hat, bottleneck_likelihoods(bottleneck, noisy, step)
