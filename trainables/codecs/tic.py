"""TIC, a transformer codec (Lu et al., DCC 2022, arXiv 2111.06707).

    x -> [conv /2, RSTB] x 3 -> conv /2 -> y -> conv, RSTB, [conv /2, RSTB], conv /2 -> z
    z -> [deconv x2, RSTB] x 2 -> conv -> side;  side + causal attention over 5x5 -> means, scales
    y_hat -> [deconv x2, RSTB] x 3 -> deconv x2 -> x_hat

An RSTB is a residual stack of Swin blocks, every other one with shifted windows. As in the released
implementation there is no activation between convolutions, and the causal attention masks its
input. Equal to it where all sides are multiples of 128 pixels and at least 256; of others, windows
at the hyper-latents' end are padded, and a single window is not shifted.

Shapes: B images, C channels, n windows of 25 positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import CompressionModel
from compressai.models.utils import conv, deconv
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformerBlock

from search_spaces.codecs.tic import TicCodec
from trainables.codecs.autoregressive import Autoregressive
from trainables.codecs.codec import Codec

HEADS = (4, 8, 16, 16, 16)
WINDOW = 8
CONTEXT = 5
CONTEXT_HEADS = 16
STOCHASTIC_DEPTH = 0.2
"""Chance in training that the last block is left out of an image; earlier ones have less."""


class RSTB(nn.Module):
    """Residual Swin transformer blocks: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, dim: int, heads: int, window: int, drops: Sequence[float]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                SwinTransformerBlock(
                    dim,
                    heads,
                    [window] * 2,
                    [window // 2 * (number % 2)] * 2,
                    stochastic_depth_prob=drop,
                )
                for number, drop in enumerate(drops)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        tokens = x.permute(0, 2, 3, 1).contiguous()
        return cast(Tensor, self.blocks(tokens)).permute(0, 3, 1, 2) + x


class CausalAttention(nn.Module):
    """The context of a position from its decoded neighbours: attention within a window.

    Args:
        dim: channels of the latents; a multiple of 16.
        out: channels of the context.
    """

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        known = torch.arange(CONTEXT**2) < CONTEXT**2 // 2
        self.known: Tensor
        self.register_buffer("known", known.float()[:, None], persistent=False)
        # The row of the bias table for each pair of positions in the window, by their offset.
        place = torch.arange(CONTEXT)
        offsets = place[:, None] - place + CONTEXT - 1
        pairs = offsets[:, None, :, None] * (2 * CONTEXT - 1) + offsets[None, :, None, :]
        self.pairs: Tensor
        self.register_buffer("pairs", pairs.reshape(CONTEXT**2, CONTEXT**2), persistent=False)
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        table = torch.empty((2 * CONTEXT - 1) ** 2, CONTEXT_HEADS)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.proj = nn.Linear(dim, out)

    def forward(self, y: Tensor) -> Tensor:
        """The context of every position: (B, C, h, w) -> (B, out, h, w)."""
        batch, _, h, w = y.shape
        windows = F.unfold(y, CONTEXT, padding=CONTEXT // 2).transpose(1, 2)
        windows = windows.reshape(batch * h * w, -1, CONTEXT**2).transpose(1, 2)
        context = self.of_windows(windows)
        return context.reshape(batch, h, w, -1).permute(0, 3, 1, 2)

    def of_windows(self, windows: Tensor) -> Tensor:
        """The context of the windows' centres: (n, 25, C) -> (n, out).

        Only the twelve positions before a window's centre count.
        """
        windows = windows * self.known
        qkv: Tensor = self.qkv(self.norm1(windows))
        heads = qkv.reshape(*qkv.shape[:2], 3, CONTEXT_HEADS, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.pairs].permute(2, 0, 1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        summed = (attended.transpose(1, 2).flatten(2) + windows).sum(1)
        return cast(Tensor, self.proj(summed + self.mlp(self.norm2(summed))))


class TIC(CompressionModel):  # type: ignore[misc]  # CompressAI has no types
    """The network; its latents are coded as mbt2018's are, with another context.

    Args:
        N: channels of the transforms; a multiple of 16.
        M: channels of the latents; a multiple of 16.
        depths: Swin blocks per stage, three of the transforms and two of the hyper-transforms.
    """

    def __init__(self, N: int = 128, M: int = 192, depths: Sequence[int] = (2, 4, 6, 2, 2)) -> None:
        super().__init__()
        windows = (WINDOW,) * 3 + (WINDOW // 2,) * 2

        def stages(order: Sequence[int]) -> list[RSTB]:
            last = max(1, sum(depths) - 1)
            rates = iter(STOCHASTIC_DEPTH * number / last for number in range(sum(depths)))
            return [
                RSTB(N, HEADS[k], windows[k], [next(rates) for _ in range(depths[k])])
                for k in order
            ]

        a, s = stages(range(5)), stages(range(4, -1, -1))
        self.g_a = nn.Sequential(
            conv(3, N), a[0], _down(N, N), a[1], _down(N, N), a[2], _down(N, M)
        )
        self.h_a = nn.Sequential(
            conv(M, N, kernel_size=3, stride=1), a[3], _down(N, N), a[4], _down(N, N)
        )
        self.h_s = nn.Sequential(
            _up(N, N), s[0], _up(N, N), s[1], conv(N, 2 * M, kernel_size=3, stride=1)
        )
        self.g_s = nn.Sequential(_up(M, N), s[2], _up(N, N), s[3], _up(N, N), s[4], deconv(N, 3))
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.gaussian_conditional = GaussianConditional(None)
        self.context_prediction = CausalAttention(M, 2 * M)
        self.entropy_parameters = nn.Sequential(
            nn.Conv2d(4 * M, M * 10 // 3, 1),
            nn.GELU(),
            nn.Conv2d(M * 10 // 3, M * 8 // 3, 1),
            nn.GELU(),
            nn.Conv2d(M * 8 // 3, 2 * M, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)


class WindowedAttention(Autoregressive):
    """TIC's entropy model: mbt2018's, with attention instead of a masked convolution."""

    _network: TIC

    def context(self, rate: int) -> Callable[[Tensor], Tensor]:
        """From a window (B, M, span, span) of decoded latents to its centre's context."""
        of_windows = self._network.context_prediction.of_windows
        return lambda window: of_windows(window.flatten(2).transpose(1, 2))[..., None, None]


def build(settings: TicCodec) -> Codec:
    """A codec with fresh weights."""
    network = TIC(settings.N, settings.M, settings.depths)
    return Codec(settings, network, WindowedAttention(network))


def _down(inner: int, outer: int) -> nn.Conv2d:
    return cast(nn.Conv2d, conv(inner, outer, kernel_size=3, stride=2))


def _up(inner: int, outer: int) -> nn.ConvTranspose2d:
    return cast(nn.ConvTranspose2d, deconv(inner, outer, kernel_size=3, stride=2))
