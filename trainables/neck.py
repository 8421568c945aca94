"""The transform-neck: from a codec's latents to tokens at the input of encoder block k.

    y_hat (B, M, h, w) -> Linear(M -> D) on the L = h * w positions -> [class token | L tokens]
                       -> + positions -> LayerNorm -> residual attention blocks -> (B, 1 + L, D)

*Bridging Compressed Image Latents and Multimodal Large Language Models* (ICLR 2025, arXiv
2407.19651), section 3.2; the block is CLIP's. At M = 320, D = 1024, 16 heads: 13.2 M parameters.

Shapes: `B` images, `M` latent channels, `L` latent positions, `T` tokens, `D` width.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel
from transformers.activations import ACT2FN
from transformers.models.clip.modeling_clip import CLIPEncoderLayer


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

    @torch.no_grad()
    def start_from(self, layer: CLIPEncoderLayer) -> None:
        """Take the weights of a transformers CLIP layer of the same sizes."""
        attention, mlp = layer.self_attn, layer.mlp
        three = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.qkv.weight.copy_(torch.cat([linear.weight for linear in three]))
        self.qkv.bias.copy_(torch.cat([linear.bias for linear in three]))
        for own, theirs in (
            (self.norm1, layer.layer_norm1),
            (self.projection, attention.out_proj),
            (self.norm2, layer.layer_norm2),
            (self.expand, mlp.fc1),
            (self.contract, mlp.fc2),
        ):
            own.load_state_dict(theirs.state_dict())

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

    @torch.no_grad()
    def start_from(self, clip: CLIPModel, block: int) -> None:
        """Take the weights of what the neck stands in for; only `linear` stays as it is.

        With as many layers as blocks are skipped the neck is then the skipped part of the encoder
        with its patch embedding replaced by `linear`, for which `fit_linear` finds a start.

        Args:
            clip: the encoder, of the neck's width, heads and MLP.
            block: k, at which the neck's tokens enter; at least the number of layers.
        """
        vision = clip.vision_model
        assert self.class_token is not None
        self.class_token.copy_(vision.embeddings.class_embedding)
        self.position.copy_(vision.embeddings.position_embedding.weight)
        self.norm.load_state_dict(vision.pre_layrnorm.state_dict())
        skipped = list(vision.encoder.layers)[block - len(self.blocks) : block]
        for own, theirs in zip(self.blocks, skipped, strict=True):
            assert isinstance(own, ResidualAttentionBlock)
            own.start_from(theirs)

    @torch.no_grad()
    def fit_linear(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set `linear` to the least-squares map from latents to patch embeddings.

        A ridge of a thousandth of the latents' mean power keeps channels that are always zero at
        weight zero.

        Args:
            pairs: latents (B, M, h, w) and the encoder's patch embeddings (B, L, D) of the same
                images, batch by batch.
        """
        channels, width = self.linear.in_features, self.linear.out_features
        gram = torch.zeros(channels + 1, channels + 1, dtype=torch.float64)
        product = torch.zeros(channels + 1, width, dtype=torch.float64)
        for y_hat, patches in pairs:
            positions = y_hat.flatten(2).transpose(1, 2).flatten(0, 1).double()
            positions = torch.cat((positions, torch.ones(len(positions), 1)), 1)
            gram += positions.T @ positions
            product += positions.T @ patches.flatten(0, 1).double()
        ridge = 1e-3 * gram.diagonal()[:-1].mean() * torch.eye(channels + 1, dtype=torch.float64)
        ridge[-1, -1] = 0.0  # the bias is free
        solution = torch.linalg.solve(gram + ridge, product)
        self.linear.weight.copy_(solution[:-1].T)
        self.linear.bias.copy_(solution[-1])

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
