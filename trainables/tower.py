"""A pretrained visual encoder taken apart: what teacher, partial encoder and neck share.

    image -> preprocess -> embeddings -> pre-norm -> hidden 0
    hidden i -> block i -> hidden i + 1;  hidden n -> pool -> pooled

CLIP has a class token in front and pools it: LayerNorm, projection. SigLIP has none and pools all
tokens: LayerNorm, then attention of a learned query and an MLP; it has no pre-norm.

Shapes: `B` images, `S` side of the input in pixels, `T` tokens, `D` width, `P` width of the pooled
feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    CLIPModel,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
    SiglipModel,
    SiglipVisionModel,
)
from transformers.utils.constants import (
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from search_spaces.encoders import EncoderSizes, encoder_sizes, released_config
from trainables.pretrained import Preprocessing, load_preprocessing, resolve_pretrained

_NORMALISATION = {
    "clip": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
    "siglip": (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD),
}


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


class AttentionPool(nn.Module):
    """SigLIP's: a learned query attends to all tokens, normalised; an MLP follows."""

    def __init__(self, norm: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.norm, self.head = norm, head

    def forward(self, hidden: Tensor) -> Tensor:
        """The last hidden state: (B, T, D) -> (B, D)."""
        pooled: Tensor = self.head(self.norm(hidden))
        return pooled


class Tower:
    """A pretrained model's visual encoder in parts; its text tower stays in `model`.

    Args:
        model: a transformers CLIP or SigLIP, whole or its visual part.
        preprocessing: how it wants images; None for the family's own way.

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
    ) -> None:
        config = {**model.config.to_dict(), "architectures": [type(model).__name__]}
        self.model: Any = model
        self.sizes: EncoderSizes = encoder_sizes(config)
        usual = _NORMALISATION[self.sizes.family]
        self.preprocess = preprocessing or Preprocessing(
            self.sizes.image_size, tuple(usual[0]), tuple(usual[1])
        )
        self._vision: Any = getattr(model, "vision_model", model)
        self.embeddings: nn.Module = self._vision.embeddings
        self.pre_norm: nn.Module | None = getattr(self._vision, "pre_layrnorm", None)
        self.blocks: Sequence[Any] = self._vision.encoder.layers

    def pool(self, double_norm: bool = False) -> nn.Module | None:
        """What makes the pooled feature of the last hidden state; None where the model has nothing.

        Args:
            double_norm: apply CLIP's final LayerNorm twice.
        """
        norm = self._vision.post_layernorm
        if self.sizes.class_token:
            projection = getattr(self.model, "visual_projection", None)
            return ClassPool(norm, projection or nn.Identity(), double_norm)
        return AttentionPool(norm, self._vision.head) if self.sizes.pooled else None


def load_tower(name: str) -> Tower:
    """A teacher in single precision: frozen, in evaluation mode.

    Args:
        name: `shipped:NAME`, a directory or a hub id of a transformers CLIP or SigLIP.

    Raises:
        ValueError: a model of another kind, weights are missing in its file, or its preprocessor
            does something else than resizing to the encoder's size and normalising.
    """
    path = resolve_pretrained(name)
    config = AutoConfig.from_pretrained(path)
    sizes = encoder_sizes(config.to_dict())
    model, found = _class_of(config).from_pretrained(
        path, dtype=torch.float32, output_loading_info=True
    )
    absent = sorted(map(str, (*found["missing_keys"], *found["mismatched_keys"])))
    if absent:
        raise ValueError(
            f"teacher.model {name!r}: {len(absent)} weights are missing in its file or of another "
            f"shape, such as {', '.join(absent[:3])}"
        )
    model.train(False)
    model.requires_grad_(False)
    files = [Path(path) / name for name in ("preprocessor_config.json", "processor_config.json")]
    if Path(path).is_dir() and not any(file.is_file() for file in files):
        # No preprocessor stands beside the weights: the family's own normalisation.
        return Tower(model)
    try:
        return Tower(model, load_preprocessing(path, sizes.image_size))
    except ValueError as error:
        raise ValueError(f"teacher.model {name!r}: {error}") from error


def meta_tower(name: str) -> Tower:
    """A teacher without weights, on the meta device: for counting. Released models need no hub.

    Args:
        name: as in `load_tower`.

    Raises:
        OSError: no configuration by that name can be read.
        ValueError: a model of another kind.
    """
    known = released_config(name)
    if known is None:
        config = AutoConfig.from_pretrained(resolve_pretrained(name))
    else:
        config = AutoConfig.for_model(**known)
    encoder_sizes(config.to_dict())
    with torch.device("meta"):
        model = _class_of(config)(config)
    model.train(False)
    model.requires_grad_(False)
    return Tower(model)


def _class_of(config: Any) -> Any:
    classes = {
        "clip": CLIPModel,
        "clip_vision_model": CLIPVisionModel,
        "siglip": SiglipModel,
        "siglip_vision_model": SiglipVisionModel,
    }
    if CLIPVisionModelWithProjection.__name__ in (config.architectures or ()):
        return CLIPVisionModelWithProjection
    return classes[config.model_type]
