"""The classes of transformers MLLMs, known without transformers.

Where each has its visual tower, and how one square image becomes one view of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class UnknownMllmError(ValueError):
    """A model that is none of the known classes."""


@dataclass(frozen=True)
class Family:
    """What tells one class of transformers MLLMs from another.

    title: as people call it; tower: path of the visual tower from the model; layers: the setting of
    the configuration that names the hidden states which the text model reads, None where it is the
    tower's output; nested: pixels are (B, 1, 3, S, S); one_view: settings of the image processor
    that keep it from cutting an image into crops; in_front: the processor itself puts the image in
    front of the text; embeds: features go in by `image_embeds`.
    """

    title: str
    tower: str
    layers: str | None = None
    nested: bool = False
    one_view: Mapping[str, Any] = field(default_factory=dict)
    in_front: bool = False
    embeds: bool = False


FAMILIES: dict[str, Family] = {
    "llava": Family("LLaVA", "model.vision_tower", "vision_feature_layer"),
    "vipllava": Family("VipLLaVA", "model.vision_tower", "vision_feature_layers"),
    "paligemma": Family("PaliGemma", "model.vision_tower"),
    "gemma3": Family("Gemma 3", "model.vision_tower", one_view={"do_pan_and_scan": False}),
    "smolvlm": Family(
        "SmolVLM", "model.vision_model", nested=True, one_view={"do_image_splitting": False}
    ),
    "idefics3": Family(
        "Idefics 3", "model.vision_model", nested=True, one_view={"do_image_splitting": False}
    ),
    "internvl": Family(
        "InternVL",
        "model.vision_tower",
        "vision_feature_layer",
        one_view={"crop_to_patches": False},
    ),
    "kosmos-2": Family("Kosmos-2", "vision_model.model", in_front=True, embeds=True),
}
"""By the configuration's `model_type`."""

_CROPS = (
    "reads crops of an image at several scales, each of which would have to be coded as an image "
    "of its own; a sweep codes whole images (the bridge itself enters its tower: "
    "trainables/bridge.py)"
)
_NATIVE = (
    "has a tower without a fixed grid of tokens, which no neck can be trained on here (the bridge "
    "itself enters it: trainables/bridge.py)"
)
_NO_FEATURES = (
    "takes pixels alone: its `generate` has no way in for what an image looked like before (the "
    "bridge itself enters its tower: trainables/bridge.py)"
)
REFUSED: dict[str, str] = {
    "blip-2": _NO_FEATURES,
    "llava_next": _CROPS,
    "granite_vision": _CROPS,
    "llava_onevision": _CROPS,
    "instructblip": _NO_FEATURES,
    "qwen2_vl": _NATIVE,
    "qwen2_5_vl": _NATIVE,
    "qwen3_vl": _NATIVE,
}
"""Why a class that people ask for cannot be swept."""


def family_of(model_type: str) -> Family:
    """The family of a configuration's `model_type`.

    Raises:
        UnknownMllmError: there is none; the message says why, or which there are.
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    if model_type in REFUSED:
        raise UnknownMllmError(f"{model_type} {REFUSED[model_type]}")
    raise UnknownMllmError(f"{model_type!r} is no MLLM that is known; {', '.join(FAMILIES)}")
