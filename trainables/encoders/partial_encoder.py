"""The visual encoder: complete (the teacher) and entered at block k (the partial encoder).

    image -> resize, normalise -> patches, class token, positions, LayerNorm -> hidden 0
    hidden i -> block i -> hidden i + 1;  hidden n -> pool -> pooled

Hidden states are numbered as transformers numbers them: hidden i is the input of block i, so
`token_layer` -2 is the input of the last block. Only what is asked for is computed: blocks that
nothing wanted depends on are not run, and where CLIP's pooled feature alone is wanted of the last
block, its patch tokens are keys and values there, but not queries.

Shapes: `B` images, `T` tokens (L patches, in front of them the class token where there is one), `D`
width, `P` width of the pooled feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainables.encoders.attention import multi_head_attention
from trainables.encoders.tower import ListedBlocks, Tower


@dataclass(frozen=True)
class Features:
    """What an encoder says about images; None where it was not asked for."""

    pooled: Tensor | None
    """(B, P), not normalised."""
    tokens: Tensor | None
    """(B, T, D): hidden state at `token_layer`."""


class PartialEncoder(nn.Module):
    """Encoder blocks k .. end, frozen; shares the blocks of the tower it is made from.

    Args:
        tower: the visual encoder.
        block: k, 0 .. number of blocks.
        token_layer: index into the hidden states, at k or after it.
        double_norm: apply the final LayerNorm twice, as the authors' modified CLIP does.
        checkpoint_blocks: keep only the blocks' inputs for the backward pass and run each block
            again there: less memory, the same gradients.

    Raises:
        ValueError: there is no such block, or the token layer comes before it.
    """

    def __init__(
        self,
        tower: Tower,
        block: int,
        token_layer: int = -2,
        double_norm: bool = False,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        self.sizes = tower.sizes
        self.first = block
        self.token_index = self.sizes.hidden_index(token_layer)
        if not 0 <= block <= self.sizes.blocks:
            raise ValueError(f"teacher.block {block}: the encoder has {self.sizes.blocks} blocks")
        if self.token_index < block:
            raise ValueError(
                f"surrogate.token_layer {token_layer} comes before teacher.block {block}"
            )
        self.checkpoint_blocks = checkpoint_blocks
        self.body = tower.body(block)
        self.pool = tower.pool(double_norm)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> PartialEncoder:
        """Stays in evaluation mode: it is frozen."""
        return super().train(False)

    def forward(self, hidden: Tensor, pooled: bool = True, tokens: bool = True) -> Features:
        """Hidden state k, (B, T, D), to features.

        Args:
            pooled, tokens: what is wanted.
        """
        wanted: Tensor | None = None
        if tokens:
            hidden = wanted = self._run(hidden, self.first, self.token_index)
        if not pooled:
            return Features(None, wanted)
        assert self.pool is not None, "the model has no pooled feature"
        start = self.token_index if tokens else self.first
        last = self.sizes.blocks
        if self.sizes.class_token and start < last:
            hidden = self._run(hidden, start, last - 1)
            assert isinstance(self.body, ListedBlocks)
            hidden = self._called(_class_token_block, self.body.blocks[-1], hidden)
        else:
            hidden = self._run(hidden, start, last)
        return Features(self.pool(hidden), wanted)

    def hidden(self, hidden: Tensor, layer: int) -> Tensor:
        """From hidden state k to hidden state `layer` (an index, may be negative)."""
        index = self.sizes.hidden_index(layer)
        if index < self.first:
            raise ValueError(f"hidden state {layer} comes before block {self.first}")
        return self._run(hidden, self.first, index)

    def _run(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        if not (self.checkpoint_blocks and hidden.requires_grad):
            tokens: Tensor = self.body(hidden, start, stop)
            return tokens
        for block in range(start, stop):
            hidden = self._called(self.body, hidden, block, block + 1)
        return hidden

    def _called(self, run: Any, *inputs: Any) -> Tensor:
        """What `run` gives; kept for the backward pass, or run again there."""
        if self.checkpoint_blocks and any(
            isinstance(x, Tensor) and x.requires_grad for x in inputs
        ):
            # Nothing in a frozen block is random: there is no state of a generator to keep.
            result: Tensor = checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False)
            return result
        result = run(*inputs)
        return result


def _class_token_block(block: Any, hidden: Tensor) -> Tensor:
    """The class token behind a CLIP block: (B, T, D) -> (B, 1, D)."""
    attention = block.self_attn
    normed = block.layer_norm1(hidden)
    attended = multi_head_attention(
        attention.q_proj(normed[:, :1]),
        attention.k_proj(normed),
        attention.v_proj(normed),
        attention.num_heads,
        attention.scale,
    )
    token = hidden[:, :1] + attention.out_proj(attended)
    result: Tensor = token + block.mlp(block.layer_norm2(token))
    return result


class Teacher(nn.Module):
    """The complete encoder on images, frozen; gradients pass through it to the image.

    Args:
        tower: the visual encoder.
        token_layer, double_norm, checkpoint_blocks: as in `PartialEncoder`.
    """

    def __init__(
        self,
        tower: Tower,
        token_layer: int = -2,
        double_norm: bool = False,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        self.preprocess = tower.preprocess
        self.stem = tower.stem()
        self.encoder = PartialEncoder(tower, 0, token_layer, double_norm, checkpoint_blocks)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Teacher:
        """Stays in evaluation mode: it is frozen."""
        return super().train(False)

    def forward(self, images: Tensor, pooled: bool = True, tokens: bool = True) -> Features:
        """Images (B, 3, H, W) in [0, 1], of any size, to features."""
        features: Features = self.encoder(self._stem(images), pooled, tokens)
        return features

    def hidden(self, images: Tensor, layer: int) -> Tensor:
        """Hidden state `layer` of images (B, 3, H, W) in [0, 1]: (B, T, D)."""
        return self.encoder.hidden(self._stem(images), layer)

    def patches(self, images: Tensor) -> Tensor:
        """Patch embeddings of images (B, 3, H, W) in [0, 1], without positions: (B, L, D).

        Of a CLIP or a SigLIP.
        """
        embeddings: Any = self.stem.get_submodule("embeddings")
        embedded: Tensor = embeddings.patch_embedding(self.preprocess(images))
        return embedded.flatten(2).transpose(1, 2)

    def _stem(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.stem(self.preprocess(images))
        return hidden
