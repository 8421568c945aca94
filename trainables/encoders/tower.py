"""A pretrained visual encoder taken apart: what teacher, partial encoder and neck share.

    image -> preprocess -> embeddings -> pre-norm -> hidden 0
    hidden i -> block i -> hidden i + 1;  hidden n -> pool -> pooled

CLIP has a class token in front and pools it: LayerNorm, projection. SigLIP has none and pools all
tokens: LayerNorm, then attention of a learned query and an MLP; it has no pre-norm.

Shapes: `B` images, `S` side of the input in pixels, `T` tokens, `D` width, `P` width of the pooled
feature.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from search_spaces.facts.encoders import EncoderSizes, encoder_sizes
from trainables.encoders.pretrained import Preprocessing

_NORMALISATION = {
    "clip": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
    "kosmos-2": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
    "blip-2": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
    "internvl": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    "siglip": (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD),
    "idefics3": (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD),
}


def usual_preprocessing(sizes: EncoderSizes) -> Preprocessing:
    """How images are prepared for an encoder of a family, where nothing says otherwise."""
    mean, std = _NORMALISATION[sizes.family]
    return Preprocessing(sizes.image_size, tuple(mean), tuple(std))


class Blocks(nn.Module):
    """Blocks k .. end of an encoder."""

    def forward(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        """Hidden state `start`, k or after it, (B, T, D), to hidden state `stop`."""
        raise NotImplementedError


class ListedBlocks(Blocks):
    """Of a CLIP or a SigLIP, which are called one after the other.

    Args:
        blocks: blocks k .. end.
        first: k.
    """

    def __init__(self, blocks: Sequence[nn.Module], first: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self._first = first

    def forward(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        """As of `Blocks`."""
        for block in self.blocks[start - self._first : stop - self._first]:
            hidden = block(hidden, None)
        return hidden


class ClassPool(nn.Module):
    """CLIP's: the class token, normalised (twice in the authors' code) and projected."""

    def __init__(self, norm: nn.Module, projection: nn.Module, double_norm: bool) -> None:
        super().__init__()
        self.norm, self.projection = norm, projection
        self.double_norm = double_norm

    def forward(self, hidden: Tensor) -> Tensor:
        """The last hidden state, or its class token alone: (B, T, D) -> (B, P)."""
        token = self.norm(hidden[:, 0])
        if self.double_norm:
            token = self.norm(token)
        pooled: Tensor = self.projection(token)
        return pooled


class Tower:
    """A pretrained model's visual encoder in parts; its text tower stays in `model`.

    Args:
        model: a transformers CLIP or SigLIP, whole or its visual part.
        preprocessing: how it wants images; None for the family's own way.
        sizes: None for those of its configuration.

    Attributes:
        sizes: of the visual encoder.
        preprocess: images to pixels.
        embeddings: pixels to tokens with their positions, the class token in front.
        pre_norm: what stands between the embeddings and block 0; None where nothing does.
        blocks: transformers' own layers.

    Raises:
        ValueError: a model of another kind.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        preprocessing: Preprocessing | None = None,
        sizes: EncoderSizes | None = None,
    ) -> None:
        config = {**model.config.to_dict(), "architectures": [type(model).__name__]}
        self.model: Any = model
        self.sizes: EncoderSizes = sizes or encoder_sizes(config)
        self.preprocess = preprocessing or usual_preprocessing(self.sizes)
        self._vision: Any = getattr(model, "vision_model", model)
        self.embeddings: nn.Module = self._vision.embeddings
        self.pre_norm: nn.Module | None = getattr(self._vision, "pre_layrnorm", None)
        self.blocks: Sequence[Any] = self._vision.encoder.layers

    def stem(self) -> nn.Module:
        """Pixels to hidden state 0: (B, 3, S, S) -> (B, T, D)."""
        parts = {"embeddings": self.embeddings, "pre_norm": self.pre_norm}
        return nn.Sequential(
            OrderedDict((n, part) for n, part in parts.items() if part is not None)
        )

    def body(self, first: int) -> Blocks:
        """Blocks `first` .. end, shared with the tower."""
        return ListedBlocks(list(self.blocks)[first:], first)

    def pool(self, double_norm: bool = False) -> nn.Module | None:
        """What makes the pooled feature of the last hidden state; None where the model has nothing.

        Args:
            double_norm: apply CLIP's final LayerNorm twice.
        """
        if not self.sizes.pooled:
            return None
        norm = self._vision.post_layernorm
        if self.sizes.class_token:
            projection = getattr(self.model, "visual_projection", None)
            return ClassPool(norm, projection or nn.Identity(), double_norm)
        # A learned query attends to all tokens; an MLP follows.
        return nn.Sequential(norm, self._vision.head)
