"""The transform-neck: from a codec's latents to tokens at the input of encoder block k.

    y_hat (B, M, h, w) -> Linear(M -> D) on the L = h * w positions -> [class token | L tokens]
                       -> + positions -> LayerNorm -> residual attention blocks -> (B, 1 + L, D)

*Bridging Compressed Image Latents and Multimodal Large Language Models* (ICLR 2025, arXiv
2407.19651), section 3.2; the block is CLIP's. At M = 320, D = 1024, 16 heads: 13.2 M parameters.

Shapes: `B` images, `M` latent channels, `L` latent positions, `T` tokens, `D` width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN


class ResidualAttentionBlock(nn.Module):
    """Pre-norm self-attention and MLP, each added to its input: (B, T, D) -> (B, T, D)."""

    def __init__(
        self, width: int, heads: int, mlp_ratio: float = 4.0, activation: str = "quick_gelu"
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"neck.heads {heads} does not divide the encoder's width {width}")
        hidden = round(width * mlp_ratio)
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.activation: nn.Module = ACT2FN[activation]
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self._attention(self.norm1(x))
        mlp: Tensor = self.contract(self.activation(self.expand(self.norm2(x))))
        return x + mlp

    def _attention(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, heads, D / heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.projection(attended.transpose(1, 2).flatten(2))
        return projected


class TransformNeck(nn.Module):
    """Latents to tokens.

    Args:
        latent_channels: M.
        width: D, the encoder's.
        positions: L, the encoder's patches.
        heads: attention heads; divides `width`.
        layers: residual attention blocks.
        mlp_ratio: the MLP's hidden width relative to D.
        activation: the MLP's, as transformers names it.
        class_token: whether the encoder has a class token, always in front.
    """

    def __init__(
        self,
        latent_channels: int,
        width: int,
        positions: int,
        heads: int,
        layers: int = 1,
        mlp_ratio: float = 4.0,
        activation: str = "quick_gelu",
        class_token: bool = True,
    ) -> None:
        super().__init__()
        scale = width**-0.5
        self.positions = positions
        self.linear = nn.Linear(latent_channels, width)
        self.class_token = nn.Parameter(scale * torch.randn(width)) if class_token else None
        self.position = nn.Parameter(scale * torch.randn(positions + class_token, width))
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.Sequential(
            *(ResidualAttentionBlock(width, heads, mlp_ratio, activation) for _ in range(layers))
        )
        # CLIP's initialisation: what enters the residual sum shrinks with the depth.
        shrink = (2 * layers) ** -0.5
        for block in self.blocks:
            assert isinstance(block, ResidualAttentionBlock)
            nn.init.normal_(block.qkv.weight, std=scale)
            nn.init.normal_(block.projection.weight, std=scale * shrink)
            nn.init.normal_(block.expand.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.contract.weight, std=scale * shrink)
            for linear in (block.qkv, block.projection, block.expand, block.contract):
                nn.init.zeros_(linear.bias)

    def forward(self, y_hat: Tensor) -> Tensor:
        """(B, M, h, w) -> (B, 1 + L, D), or (B, L, D) without a class token.

        Raises:
            ValueError: h * w is not the number of the encoder's patches.
        """
        height, width = y_hat.shape[-2:]
        if height * width != self.positions:
            raise ValueError(
                f"latents of {height} x {width} positions do not match the encoder's "
                f"{self.positions} patches: change data.size or the teacher"
            )
        tokens: Tensor = self.linear(y_hat.flatten(2).transpose(1, 2))
        if self.class_token is not None:
            front = self.class_token.expand(len(tokens), 1, -1)
            tokens = torch.cat((front, tokens), 1)
        out: Tensor = self.blocks(self.norm(tokens + self.position))
        return out
