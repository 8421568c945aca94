"""The transform-neck: from a codec's latents to tokens at the input of encoder block k.

    y_hat (B, M, h, w) -> resampled to the encoder's grid of L patches, where it differs from h x w
                       -> Linear(M -> D) on each position -> [class token | L tokens]
                       -> + positions -> LayerNorm -> residual attention blocks -> (B, T, D)

*Bridging Compressed Image Latents and Multimodal Large Language Models* (ICLR 2025, arXiv
2407.19651), section 3.2; the block is CLIP's. At M = 320, D = 1024, 16 heads: 13.2 M parameters.

Shapes: `B` images, `M` latent channels, `L` patches, `T` tokens (L, and the class token where the
encoder has one), `D` width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN

from search_spaces.facts.encoders import CLIP_LIKE, EncoderSizes
from trainables.encoders.attention import multi_head_attention
from trainables.encoders.tower import Tower


class ResidualAttentionBlock(nn.Module):
    """Pre-norm self-attention and MLP, each added to its input: (B, T, D) -> (B, T, D)."""

    def __init__(
        self, width: int, heads: int, hidden: int, activation: str, norm_eps: float
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"neck.heads {heads} does not divide the encoder's width {width}")
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, norm_eps)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, norm_eps)
        self.expand = nn.Linear(width, hidden)
        self.activation: nn.Module = ACT2FN[activation]
        self.contract = nn.Linear(hidden, width)
        # As torch.nn.MultiheadAttention starts, the authors' attention.
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.projection.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self._attention(self.norm1(x))
        mlp: Tensor = self.contract(self.activation(self.expand(self.norm2(x))))
        return x + mlp

    @torch.no_grad()
    def start_from(self, layer: Any) -> None:
        """Take the weights of a transformers CLIP or SigLIP layer of the same sizes."""
        attention, mlp = layer.self_attn, layer.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.qkv.weight.copy_(torch.cat([linear.weight for linear in projections]))
        self.qkv.bias.copy_(torch.cat([linear.bias for linear in projections]))
        for module, source in (
            (self.norm1, layer.layer_norm1),
            (self.projection, attention.out_proj),
            (self.norm2, layer.layer_norm2),
            (self.expand, mlp.fc1),
            (self.contract, mlp.fc2),
        ):
            module.load_state_dict(source.state_dict())

    def _attention(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, -1)
        attended = multi_head_attention(query, key, value, self.heads)
        projected: Tensor = self.projection(attended)
        return projected


class TransformNeck(nn.Module):
    """Latents to tokens.

    Args:
        latent_channels: M.
        encoder: the sizes of the encoder that the tokens enter.
        heads: attention heads, dividing D; None for the encoder's number.
        layers: residual attention blocks.
        mlp_ratio: the MLP's hidden width relative to D; None for the encoder's.
        norm: whether a LayerNorm follows the positions. Only a neck that starts from an encoder
            without one has none.
    """

    def __init__(
        self,
        latent_channels: int,
        encoder: EncoderSizes,
        heads: int | None = None,
        layers: int = 1,
        mlp_ratio: float | None = None,
        norm: bool = True,
    ) -> None:
        super().__init__()
        width = encoder.width
        hidden = encoder.mlp_width if mlp_ratio is None else round(width * mlp_ratio)
        scale = width**-0.5
        self.grid = encoder.grid
        self.linear = nn.Linear(latent_channels, width)
        front = scale * torch.randn(width) if encoder.class_token else None
        self.class_token = None if front is None else nn.Parameter(front)
        self.position = nn.Parameter(scale * torch.randn(encoder.tokens, width))
        self.norm = nn.LayerNorm(width, encoder.norm_eps) if norm else nn.Identity()
        self.blocks = nn.Sequential(
            *(
                ResidualAttentionBlock(
                    width, heads or encoder.heads, hidden, encoder.activation, encoder.norm_eps
                )
                for _ in range(layers)
            )
        )

    @torch.no_grad()
    def start_from(self, tower: Tower, block: int) -> None:
        """Take the weights of the encoder's part that the neck replaces; `linear` stays as it is.

        With as many layers as blocks are skipped the neck is then the skipped part of the encoder
        with its patch embedding replaced by `linear`, for which `fit_linear` finds a start.

        Args:
            tower: the encoder, of the neck's heads and MLP; where it has no LayerNorm in front of
                its blocks, the neck must have been made without.
            block: k, at which the neck's tokens enter; at least the number of layers.

        Raises:
            ValueError: the encoder is neither a CLIP nor a SigLIP.
        """
        if tower.sizes.family not in CLIP_LIKE:
            raise ValueError(
                f"neck.init 'encoder': a neck starts from {' or '.join(CLIP_LIKE)}, not from "
                f"{tower.sizes.family}"
            )
        embeddings: Any = tower.embeddings
        if self.class_token is not None:
            self.class_token.copy_(embeddings.class_embedding)
        self.position.copy_(embeddings.position_embedding.weight)
        if tower.pre_norm is not None:
            self.norm.load_state_dict(tower.pre_norm.state_dict())
        else:
            assert isinstance(self.norm, nn.Identity)
        skipped = list(tower.blocks)[block - len(self.blocks) : block]
        for neck_block, encoder_layer in zip(self.blocks, skipped, strict=True):
            assert isinstance(neck_block, ResidualAttentionBlock)
            neck_block.start_from(encoder_layer)

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
            positions = self._positions(y_hat).flatten(0, 1).double()
            positions = torch.cat((positions, torch.ones(len(positions), 1)), 1)
            gram += positions.T @ positions
            product += positions.T @ patches.flatten(0, 1).double()
        ridge = 1e-3 * gram.diagonal()[:-1].mean() * torch.eye(channels + 1, dtype=torch.float64)
        ridge[-1, -1] = 0.0  # the bias is free
        solution = torch.linalg.solve(gram + ridge, product)
        self.linear.weight.copy_(solution[:-1].T)
        self.linear.bias.copy_(solution[-1])

    def forward(self, y_hat: Tensor) -> Tensor:
        """(B, M, h, w) -> (B, T, D), for any h, w."""
        tokens: Tensor = self.linear(self._positions(y_hat))
        if self.class_token is not None:
            front = self.class_token.expand(len(tokens), 1, -1)
            tokens = torch.cat((front, tokens), 1)
        out: Tensor = self.blocks(self.norm(tokens + self.position))
        return out

    def _positions(self, y_hat: Tensor) -> Tensor:
        """(B, M, h, w) -> (B, L, M), on the encoder's grid."""
        if y_hat.shape[-2:] != self.grid:
            # Both grids cover the same picture. The weights of a bilinear kernel add up to 1, so
            # this is what resampling the tokens behind `linear` would give, at less cost.
            y_hat = F.interpolate(
                y_hat, self.grid, mode="bilinear", align_corners=False, antialias=True
            )
        return y_hat.flatten(2).transpose(1, 2)
