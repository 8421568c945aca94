"""A residual U-Net: decoded image -> image that suits the encoder.

    x_hat --+--> [conv conv] --down--> ... [conv conv] --up--> ... [conv conv] -> conv --+--> image
            +-------------------------------- residual ---------------------------------+

Channels double at each level down; skip connections are concatenated. A GroupNorm follows each 3x3
convolution (Wu and He, 2018): it does not depend on the batch, so that workers and slices do not
change the result. With 64 channels and 4 levels it has the classical U-Net's 31 M parameters
(Ronneberger et al., 2015), the size that the paper compares with.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MOST_GROUPS = 32
"""Groups of a GroupNorm. There are fewer where these do not divide the channels, or would leave one
to a group: what is normalised alone has lost its mean, and the bias before it its gradient."""


def _two_convolutions(inside: int, outside: int) -> nn.Sequential:
    groups = max(1, math.gcd(2 * MOST_GROUPS, outside) // 2)
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1),
        nn.GroupNorm(groups, outside),
        nn.ReLU(inplace=True),
        nn.Conv2d(outside, outside, 3, padding=1),
        nn.GroupNorm(groups, outside),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """A residual U-Net that starts as the identity.

    Args:
        channels: at full resolution.
        levels: down-samplings by two; height and width of the image are multiples of 2^levels.
    """

    def __init__(self, channels: int = 64, levels: int = 4) -> None:
        super().__init__()
        self.levels = levels
        widths = [channels * 2**level for level in range(levels + 1)]
        self.encoders = nn.ModuleList(
            _two_convolutions(inside, outside)
            for inside, outside in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[-2::-1]
        )
        self.decoders = nn.ModuleList(
            _two_convolutions(2 * width, width) for width in widths[-2::-1]
        )
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Conv2d(channels, 3, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        # The image passes unchanged at first: the encoder is never shown noise.
        nn.init.zeros_(self.last.weight)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, H, W), about [0, 1].

        Raises:
            ValueError: H or W is not a multiple of 2^levels.
        """
        multiple = 2**self.levels
        if image.shape[-2] % multiple or image.shape[-1] % multiple:
            raise ValueError(
                f"a U-Net of {self.levels} levels needs images whose sides are multiples of "
                f"{multiple}, not {image.shape[-2]} x {image.shape[-1]}"
            )
        skips: list[Tensor] = []
        x = image.contiguous(memory_format=torch.channels_last)
        for encoder in self.encoders[:-1]:
            x = encoder(x)
            skips.append(x)
            x = self.pool(x)
        x = self.encoders[-1](x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(torch.cat((skips.pop(), up(x)), 1))
        residual: Tensor = self.last(x)
        return image + residual


def channels_within(parameters: int, levels: int) -> int:
    """The most channels with which a U-Net has no more than so many parameters; at least 1."""
    channels = 1
    with torch.device("meta"):
        while sum(p.numel() for p in UNet(channels + 1, levels).parameters()) <= parameters:
            channels += 1
    return channels
