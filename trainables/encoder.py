"""The visual encoder: complete (the teacher) and entered at block k (the partial encoder).

    image -> resize, normalise -> patches, class token, positions, LayerNorm -> hidden 0
    hidden i -> block i -> hidden i + 1;  hidden n -> class token, LayerNorm, projection -> pooled

Hidden states are numbered as transformers numbers them: hidden i is the input of block i, so
`token_layer` -2 is the input of the last block. A partial encoder runs only the blocks that what
it is asked for needs.

Shapes: `B` images, `L` patches, `D` width, `P` width of the joint image-text space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import CLIPModel
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from trainables.mllm import preprocess


@dataclass(frozen=True)
class Features:
    """What an encoder says about images; None where it was not asked for."""

    pooled: Tensor | None
    """(B, P): projected class embedding, not normalised."""
    tokens: Tensor | None
    """(B, 1 + L, D): hidden state at `token_layer`, class token in front."""


@dataclass(frozen=True)
class Geometry:
    """The sizes of a CLIP's visual encoder."""

    image_size: int
    """Side of its input in pixels."""
    patches: int
    """L."""
    width: int
    """D."""
    heads: int
    activation: str
    """Of the MLPs, as transformers names it."""


def geometry(clip: CLIPModel) -> Geometry:
    """The sizes of a CLIP's visual encoder."""
    config = clip.vision_model.config
    size, patch = config.image_size, config.patch_size
    assert isinstance(size, int)
    assert isinstance(patch, int)
    return Geometry(
        size,
        (size // patch) ** 2,
        config.hidden_size,
        config.num_attention_heads,
        config.hidden_act,
    )


class PartialEncoder(nn.Module):
    """Encoder blocks k .. end, frozen; shares the blocks of the CLIP it is made from.

    Args:
        clip: any transformers CLIP.
        block: k, 0 .. number of blocks.
        token_layer: index into the hidden states, at k or after it.
        double_norm: apply the final LayerNorm twice, as the authors' modified CLIP does.

    Raises:
        ValueError: there is no such block, or the token layer comes before it.
    """

    def __init__(
        self, clip: CLIPModel, block: int, token_layer: int = -2, double_norm: bool = False
    ) -> None:
        super().__init__()
        layers = clip.vision_model.encoder.layers
        self.n_blocks = len(layers)
        self.first = block
        self.token_index = self._index(token_layer)
        if not 0 <= block <= self.n_blocks:
            raise ValueError(f"teacher.block {block}: the encoder has {self.n_blocks} blocks")
        if self.token_index < block:
            raise ValueError(
                f"surrogate.token_layer {token_layer} comes before teacher.block {block}"
            )
        self.double_norm = double_norm
        self.blocks = nn.ModuleList(layers[block:])
        self.norm = clip.vision_model.post_layernorm
        self.projection = clip.visual_projection
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> PartialEncoder:
        """Stays in evaluation mode: it is frozen."""
        return super().train(False)

    def forward(self, hidden: Tensor, pooled: bool = True, tokens: bool = True) -> Features:
        """Hidden state k, (B, 1 + L, D), to features.

        Args:
            pooled, tokens: what is wanted; blocks that nothing wanted depends on are not run.
        """
        last = self.n_blocks if pooled else self.token_index
        wanted = self._run(hidden, self.first, self.token_index) if tokens or pooled else hidden
        if not pooled:
            return Features(None, wanted if tokens else None)
        output: Tensor = self.norm(self._run(wanted, self.token_index, last)[:, 0])
        if self.double_norm:
            output = self.norm(output)
        return Features(self.projection(output), wanted if tokens else None)

    def hidden(self, hidden: Tensor, layer: int) -> Tensor:
        """From hidden state k to hidden state `layer` (an index, may be negative)."""
        index = self._index(layer)
        if index < self.first:
            raise ValueError(f"hidden state {layer} comes before block {self.first}")
        return self._run(hidden, self.first, index)

    def _index(self, layer: int) -> int:
        index = layer if layer >= 0 else self.n_blocks + 1 + layer
        if not 0 <= index <= self.n_blocks:
            raise ValueError(
                f"layer {layer}: the encoder has hidden states {-self.n_blocks - 1} "
                f"to {self.n_blocks}"
            )
        return index

    def _run(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        for block in self.blocks[start - self.first : stop - self.first]:
            hidden = block(hidden, None)
        return hidden


class Teacher(nn.Module):
    """The complete encoder on images, frozen; gradients pass through it to the image.

    Args:
        clip: any transformers CLIP.
        token_layer, double_norm: as in `PartialEncoder`.
        mean, std: per channel, of the encoder's normalisation.
    """

    def __init__(
        self,
        clip: CLIPModel,
        token_layer: int = -2,
        double_norm: bool = False,
        mean: Sequence[float] = OPENAI_CLIP_MEAN,
        std: Sequence[float] = OPENAI_CLIP_STD,
    ) -> None:
        super().__init__()
        self.size = geometry(clip).image_size
        self.mean, self.std = tuple(mean), tuple(std)
        self.embeddings = clip.vision_model.embeddings
        self.pre_norm = clip.vision_model.pre_layrnorm
        self.encoder = PartialEncoder(clip, 0, token_layer, double_norm)
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
        """Hidden state `layer` of images (B, 3, H, W) in [0, 1]: (B, 1 + L, D)."""
        return self.encoder.hidden(self._stem(images), layer)

    def patches(self, images: Tensor) -> Tensor:
        """Patch embeddings of images (B, 3, H, W) in [0, 1], without positions: (B, L, D)."""
        pixels = preprocess(images, self.size, self.mean, self.std)
        embedded: Tensor = self.embeddings.patch_embedding(pixels)
        return embedded.flatten(2).transpose(1, 2)

    def _stem(self, images: Tensor) -> Tensor:
        pixels = preprocess(images, self.size, self.mean, self.std)
        hidden: Tensor = self.pre_norm(self.embeddings(pixels))
        return hidden
