"""The sizes of visual encoders, read from transformers configurations without transformers.

Families: CLIP (a class token, a LayerNorm in front, pooled = the class token projected) and SigLIP
(no class token, pooled = the output of an attention pooling head). The fixed-resolution models of
SigLIP 2 are of the family SigLIP in transformers, too. For an MLLM, these are its visual
tower's sizes, without a pooled feature. The tower is a CLIP, a SigLIP, or of another family
(BLIP-2's and InstructBLIP's are one family, and SmolVLM's and Idefics 3's).

Shapes: `L` patches, `D` width, `P` width of the pooled feature.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.facts.mllm_families import FAMILIES, Family, find_family
from search_spaces.settings.paths import split_revision

_VISION_DEFAULTS: dict[str, dict[str, Any]] = {
    # What transformers assumes where a configuration does not say.
    "clip": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": 512,
    },
    "siglip": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 16,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "vision_use_head": True,
    },
    "kosmos-2": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    "blip-2": {
        "hidden_size": 1408,
        "intermediate_size": 6144,
        "num_hidden_layers": 39,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
    },
    "internvl": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 448,
        "patch_size": 14,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
    },
    "idefics3": {
        "hidden_size": 1152,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    },
}
_TOWERS = {
    "clip_vision_model": "clip",
    "siglip_vision_model": "siglip",
    "kosmos_2_vision_model": "kosmos-2",
    "blip_2_vision_model": "blip-2",
    "instructblip_vision_model": "blip-2",
    "internvl_vision": "internvl",
    "idefics3_vision": "idefics3",
    "smolvlm_vision": "idefics3",
}
"""Families of the visual towers that MLLMs have, by the `model_type` of their configuration."""
_CLASS_TOKEN = ("clip", "kosmos-2", "blip-2", "internvl")
CLIP_LIKE = ("clip", "siglip")
"""Families that a neck can take its start from."""
MODEL_TYPES = ("clip", "clip_vision_model", "siglip", "siglip_vision_model")


@dataclass(frozen=True)
class EncoderSizes:
    """What has to be known of a visual encoder to plan with it."""

    family: str
    """`clip`, `siglip`, or that of an MLLM's own tower."""
    image_size: int
    """Side of its input in pixels."""
    patch_size: int
    """Side of a patch in pixels."""
    width: int
    """D."""
    blocks: int
    heads: int
    mlp_width: int
    """Of the hidden layer in a block's MLP."""
    activation: str
    """Of the MLPs, as transformers names it."""
    norm_eps: float
    """Of the LayerNorms."""
    pooled: int
    """P; 0 where the model pools nothing."""
    text: bool
    """Whether there is a text tower."""
    class_token: bool
    """Whether a class token stands in front of the patches."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        side = self.image_size // self.patch_size
        return side, side

    @property
    def tokens(self) -> int:
        """L, and the class token where there is one."""
        return self.grid[0] * self.grid[1] + self.class_token

    def hidden_index(self, layer: int) -> int:
        """A hidden state's index counted from the front, 0 .. blocks.

        Raises:
            ValueError: there is no such hidden state.
        """
        index = layer if layer >= 0 else self.blocks + 1 + layer
        if not 0 <= index <= self.blocks:
            raise ValueError(
                f"layer {layer}: the encoder has hidden states {-self.blocks - 1} to {self.blocks}"
            )
        return index


def encoder_sizes(config: Mapping[str, Any]) -> EncoderSizes:
    """The sizes that a transformers configuration (`config.json`) stands for.

    Raises:
        ValueError: a model of another kind, or with sizes that are none or not square.
    """
    try:
        return _sizes_of_kind(config)
    except (AttributeError, TypeError) as error:  # of a mapping that is none
        raise ValueError(f"its configuration is damaged ({error})") from error


def _sizes_of_kind(config: Mapping[str, Any]) -> EncoderSizes:
    kind = config.get("model_type")
    if kind in ("siglip2", "siglip2_vision_model"):
        raise ValueError(
            "a SigLIP 2 of variable resolution (NaFlex) takes patches, a mask and their grid in "
            "place of an image, and a grid per image in the neck; take a fixed-resolution SigLIP 2 "
            "(model_type siglip, such as google/siglip2-base-patch16-256)"
        )
    if (mllm := find_family(str(kind))) is not None:
        return _tower_sizes(config, mllm)
    if kind not in MODEL_TYPES:
        raise ValueError(
            f"model_type {kind!r} is no visual encoder; {', '.join(MODEL_TYPES)} are, and MLLMs "
            f"have one: {', '.join(FAMILIES.names())}"
        )
    family = str(kind).removesuffix("_vision_model")
    both = kind == family
    vision = {**_VISION_DEFAULTS[family], **(config.get("vision_config", {}) if both else config)}
    if family == "siglip":
        pooled = vision["hidden_size"] if vision["vision_use_head"] else 0
    elif both:
        pooled = config.get("projection_dim", vision["projection_dim"])
    else:
        projects = "CLIPVisionModelWithProjection" in (config.get("architectures") or ())
        pooled = vision["projection_dim"] if projects else vision["hidden_size"]
    return _sizes(family, vision, pooled, both, family in _CLASS_TOKEN)


def _tower_sizes(config: Mapping[str, Any], mllm: Family) -> EncoderSizes:
    """The sizes of an MLLM's visual tower, which pools nothing and has no text tower."""
    vision = config.get("vision_config") or {}
    kind = vision.get("model_type", mllm.vision)
    if kind in _TOWERS:
        family = _TOWERS[kind]
        defaults: Mapping[str, Any] = _VISION_DEFAULTS[family]
        class_token = family in _CLASS_TOKEN
    elif kind == mllm.vision and mllm.tower_sizes:
        family, defaults, class_token = kind, mllm.tower_sizes, mllm.class_token
    else:
        raise ValueError(f"its tower, a {kind!r}, is none of {', '.join(_TOWERS)}")
    return _sizes(family, {**defaults, **vision}, 0, False, class_token)


def _sizes(
    family: str, vision: Mapping[str, Any], pooled: int, text: bool, class_token: bool
) -> EncoderSizes:
    numbers = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    for name in numbers:
        _check_size(name, vision[name])
    if pooled:
        _check_size("projection_dim", pooled)
    return EncoderSizes(
        family=family,
        image_size=_side(vision, "image_size"),
        patch_size=_side(vision, "patch_size"),
        width=vision["hidden_size"],
        blocks=vision["num_hidden_layers"],
        heads=vision["num_attention_heads"],
        mlp_width=vision["intermediate_size"],
        activation=vision["hidden_act"],
        norm_eps=vision["layer_norm_eps"],
        pooled=pooled,
        text=text,
        class_token=class_token,
    )


def _side(vision: Mapping[str, Any], name: str) -> int:
    """Of a square, given as one number or as two equal ones."""
    value = vision[name]
    sides = set(value) if isinstance(value, list | tuple) else {value}
    if len(sides) != 1:
        raise ValueError(f"{name} {value}: only square images and patches are supported")
    return _check_size(name, sides.pop())


def _check_size(name: str, size: object) -> int:
    if type(size) is not int or size < 1:
        raise ValueError(f"{name} {size!r}: not a whole number above 0")
    return size


_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}
_SIGLIP_SIZES: dict[str, dict[str, Any]] = {
    "base": {},
    "large": _LARGE,
    "so400m": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
    },
    "giant-opt": {
        "hidden_size": 1536,
        "intermediate_size": 6144,
        "num_hidden_layers": 40,
        "num_attention_heads": 16,
    },
}
_CLIP_L14 = {
    "model_type": "clip",
    "projection_dim": 768,
    "vision_config": {**_LARGE, "patch_size": 14},
}
_CLIP_RELEASED: dict[str, dict[str, Any]] = {
    "openai/clip-vit-base-patch32": {"model_type": "clip"},
    "openai/clip-vit-base-patch16": {"model_type": "clip", "vision_config": {"patch_size": 16}},
    "openai/clip-vit-large-patch14": _CLIP_L14,
    "openai/clip-vit-large-patch14-336": {
        **_CLIP_L14,
        "vision_config": {**_LARGE, "patch_size": 14, "image_size": 336},
    },
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": {
        "model_type": "clip",
        "projection_dim": 1024,
        "vision_config": {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "patch_size": 14,
            "hidden_act": "gelu",
        },
    },
}
_SIGLIP_NAME = re.compile(r"google/siglip2?-(base|large|so400m|giant-opt)-patch(\d+)-(\d+|naflex)")


def released_config(name: str) -> dict[str, Any] | None:
    """The configuration, as far as `encoder_sizes` reads it, of a released model's hub id.

    Args:
        name: with or without a revision.
    """
    name, _ = split_revision(name)
    if name in _CLIP_RELEASED:
        return _CLIP_RELEASED[name]
    if (match := _SIGLIP_NAME.match(name)) is None:
        return None
    size, patch, side = match.groups()
    if side == "naflex":
        return {"model_type": "siglip2"}
    sides = {"patch_size": int(patch), "image_size": int(side)}
    return {"model_type": "siglip", "vision_config": {**_SIGLIP_SIZES[size], **sides}}
