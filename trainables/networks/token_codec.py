"""A codec of an encoder's tokens, which are sent instead of an image.

              image -> blocks 0 .. k-1 -> tokens -> analysis -> y -> entropy bottleneck -> bytes
    (sender)                                                             |
                                                                       y_hat -> neck -> tokens at k

The sender runs the encoder's own first blocks. Latents have a position per patch; the class token,
where there is one, is not sent: the neck makes it of the others. The receiver's part is a
`TransformNeck` without its LayerNorm, of which this is the mirror image.

Shapes: `B` images, `T` tokens (L patches, and the class token where there is one), `D` width, `C`
latent channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor, nn

from trainables.codecs.codec import LatentCodec
from trainables.codecs.entropy.coding import Likelihoods
from trainables.codecs.factorized import Factorized
from trainables.encoders.partial_encoder import Teacher
from trainables.networks.neck import ResidualAttentionBlock, TransformNeck

NARROWEST = 0.1
"""Scale of the narrowest distribution at the start: 0.02 bits for a latent that is always zero."""


class TokenNet(nn.Module):
    """From images to latents of their tokens at the input of block k.

    Args:
        teacher: the complete encoder, frozen.
        block: k.
        channels: C.
    """

    def __init__(self, teacher: Teacher, block: int, channels: int) -> None:
        super().__init__()
        sizes = teacher.encoder.sizes
        self.teacher = teacher
        self.block = block
        self.grid = sizes.grid
        self.front = int(sizes.class_token)
        self.attention = ResidualAttentionBlock(
            sizes.width, sizes.heads, sizes.mlp_width, sizes.activation, sizes.norm_eps
        )
        self.position = nn.Parameter(torch.zeros(sizes.tokens - self.front, sizes.width))
        self.linear = nn.Linear(sizes.width, channels)
        self.entropy_bottleneck = EntropyBottleneck(channels)

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to hidden state k, (B, T, D)."""
        return self.teacher.hidden(images, self.block)

    def analysis(self, tokens: Tensor) -> Tensor:
        """Hidden state k (B, T, D) to latents (B, C, h, w), on the encoder's grid."""
        patches = self.attention(tokens)[:, self.front :] - self.position
        latents: Tensor = self.linear(patches)
        return latents.transpose(1, 2).reshape(len(tokens), -1, *self.grid)


class TokenCodec(LatentCodec):
    """Writes and reads the tokens of images; no image is ever decoded."""

    net: TokenNet

    def __init__(self, net: TokenNet) -> None:
        channels = net.linear.out_features
        super().__init__("tokens", channels, net, Factorized(net), stride=1)

    def of_tokens(self, tokens: Tensor) -> tuple[Tensor, Likelihoods]:
        """Latents y_hat (B, C, h, w) and likelihoods of hidden states k (B, T, D)."""
        return self.quantise(self.net.analysis(tokens))

    def analyse(self, x: Tensor) -> Tensor:
        """Latents y, not quantised, of images (B, 3, H, W)."""
        return self.net.analysis(self.net.tokens(x))

    def _latent_size(self, height: int, width: int) -> tuple[int, int]:
        return self.net.grid


@torch.no_grad()
def start_as_projection(
    net: TokenNet, neck: TransformNeck, batches: Iterable[Tensor], lmbda: float, pixels: int
) -> None:
    """Start both ends at the best linear transform code of some tokens.

    Latents are principal components of the patches' tokens around their positions' means, the
    bottleneck's distributions are as wide as they, and the attention blocks pass their input on.
    The latents' scale is where, at high rate, a finer step costs `R + lambda * MSE` as much as it
    gains: s^2 = lambda * pixels * ln 2 / (6 D T), from dR = L / (pixels s ln 2) ds per component
    and an error of 1 / (12 s^2) on it.

    Args:
        net, neck: the sender's and the receiver's part; the neck without LayerNorm.
        batches: hidden states k of training images, (B, T, D) each.
        lmbda: weight of the MSE against bits per pixel.
        pixels: of an image.
    """
    front, channels = net.front, net.linear.out_features
    count = 0
    total: Tensor = torch.zeros(())
    square: Tensor = torch.zeros(())
    for tokens in batches:
        tokens = tokens.double().cpu()
        patches = tokens[:, front:]
        count += len(tokens)
        total = total + tokens.sum(0)
        square = square + torch.einsum("bld,ble->de", patches, patches)
    mean = total / count
    positions, width = len(mean) - front, mean.shape[1]
    covariance = square / (count * positions) - mean[front:].T @ mean[front:] / positions
    powers, vectors = torch.linalg.eigh(covariance)
    missing = (0, max(0, channels - width))
    components = F.pad(vectors.flip(1)[:, :channels], missing)  # (D, C)
    spreads = F.pad(powers.flip(0)[:channels].clamp(min=0).sqrt(), missing)
    scale = math.sqrt(lmbda * pixels * math.log(2) / (6 * width * len(mean)))
    net.position.copy_(mean[front:])
    net.linear.weight.copy_(scale * components.T)
    net.linear.bias.zero_()
    _spread(net.entropy_bottleneck, scale * spreads)
    neck.linear.weight.copy_(components / scale)
    neck.linear.bias.zero_()
    neck.position.copy_(mean)
    if neck.class_token is not None:
        neck.class_token.zero_()
    for block in (net.attention, *neck.blocks):
        assert isinstance(block, ResidualAttentionBlock)
        for linear in (block.projection, block.contract):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)


def _spread(bottleneck: EntropyBottleneck, deviations: Tensor) -> None:
    """Start each channel's distribution, about a logistic one, at a standard deviation."""
    # A logistic distribution of scale 1 has the standard deviation pi / sqrt(3).
    wanted = (deviations * math.sqrt(3) / math.pi).clamp(min=NARROWEST)
    first = bottleneck.matrices[0]
    slope = F.softplus(first) * (bottleneck.init_scale / wanted).to(first)[:, None, None]
    first.copy_(slope + torch.log(-torch.expm1(-slope)))  # the inverse of softplus
