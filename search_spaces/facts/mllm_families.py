"""The families of MLLMs that can be swept, and why others cannot.

A family is the `model_type` of transformers configurations. Third parties add one as an entry point
in the group `bridgesweep.mllms`, named by the `model_type`, whose object is a `Family`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from search_spaces.plugins import Registry


class UnknownMllmError(ValueError):
    """A model that is none of the known classes."""


@dataclass(frozen=True)
class Family:
    """What tells one class of MLLMs from another.

    Attributes:
        title: as people call it.
        tower: path of the visual tower from the model.
        vision: the `model_type` of the tower where the configuration does not say.
        layers: the hidden states that the text model reads where the configuration's
            `vision_feature_layer` says nothing else; None where it always is the tower's output.
        nested: pixels are (B, 1, 3, S, S).
        one_view: settings of the image processor that keep it from cutting an image into crops.
        in_front: the processor itself puts the image in front of the text.
        embeds: features go in by `image_embeds`.
        crops: an image is read as the views that the class's own processor cuts of it.
        pixels_only: features go in by no argument, so the tower is entered again, after its last
            block, while the class answers.
        one_image: it looks at exactly one image at a time.
        answer_type: `token_type_ids` of an answer, where the class has them: of PaliGemma, 0 would
            let the prompt and the answer's earlier tokens look at its later ones.
        model_class: name of the class in transformers, or `module:Class`, whose `config_class` then
            reads the configuration.
        tower_sizes: of a tower that is none of the known kinds (`facts/encoders.py`): what its
            configuration does not say, by the names that CLIP's configuration has (hidden_size,
            intermediate_size, num_hidden_layers, num_attention_heads, image_size, patch_size,
            hidden_act, layer_norm_eps); empty for a known kind.
        class_token: of such a tower: whether a class token stands in front of the patches.
    """

    title: str
    tower: str
    vision: str
    layers: tuple[int, ...] | None = None
    nested: bool = False
    one_view: Mapping[str, Any] = field(default_factory=dict)
    in_front: bool = False
    embeds: bool = False
    crops: bool = False
    pixels_only: bool = False
    one_image: bool = False
    answer_type: int = 0
    model_class: str = "AutoModelForImageTextToText"
    tower_sizes: Mapping[str, Any] = field(default_factory=dict)
    class_token: bool = False


_FAMILIES: dict[str, Family] = {
    "llava": Family("LLaVA", "model.vision_tower", "clip_vision_model", (-2,)),
    "llava_next": Family(
        "LLaVA-NeXT, Granite Vision", "model.vision_tower", "clip_vision_model", (-2,), crops=True
    ),
    "llava_onevision": Family(
        "LLaVA-OneVision",
        "model.vision_tower",
        "siglip_vision_model",
        (-1,),
        crops=True,
        # Of several images it would read one view each.
        one_image=True,
    ),
    "vipllava": Family("VipLLaVA", "model.vision_tower", "clip_vision_model", (-2, -5, -8, -11, 6)),
    "paligemma": Family("PaliGemma", "model.vision_tower", "siglip_vision_model", answer_type=1),
    "gemma3": Family(
        "Gemma 3", "model.vision_tower", "siglip_vision_model", one_view={"do_pan_and_scan": False}
    ),
    "smolvlm": Family(
        "SmolVLM",
        "model.vision_model",
        "smolvlm_vision",
        nested=True,
        one_view={"do_image_splitting": False},
    ),
    "idefics3": Family(
        "Idefics 3",
        "model.vision_model",
        "idefics3_vision",
        nested=True,
        one_view={"do_image_splitting": False},
    ),
    "internvl": Family(
        "InternVL",
        "model.vision_tower",
        "internvl_vision",
        (-1,),
        one_view={"crop_to_patches": False},
    ),
    "kosmos-2": Family(
        "Kosmos-2", "vision_model.model", "kosmos_2_vision_model", in_front=True, embeds=True
    ),
    "blip-2": Family(
        "BLIP-2",
        "vision_model",
        "blip_2_vision_model",
        in_front=True,
        pixels_only=True,
        one_image=True,
    ),
    "instructblip": Family(
        "InstructBLIP",
        "vision_model",
        "instructblip_vision_model",
        in_front=True,
        pixels_only=True,
        one_image=True,
    ),
}
FAMILIES: Final = Registry("bridgesweep.mllms", "", "", Family, _FAMILIES)
"""By the configuration's `model_type`."""

_NATIVE = (
    "has a tower without a fixed grid of tokens, which no neck can be trained on here (the bridge "
    "itself enters it: trainables/encoders/bridge.py)"
)
_DEEP = (
    "hands features of several blocks to several layers of its text model, which its interface "
    "does not take (the bridge itself enters its tower: trainables/encoders/bridge.py)"
)
REFUSED: dict[str, str] = {
    "granite4_vision": _DEEP,
    "qwen2_vl": _NATIVE,
    "qwen2_5_vl": _NATIVE,
    "qwen3_vl": _NATIVE,
}
"""Why a class that people ask for cannot be swept."""


def layers_read(config: Mapping[str, Any], family: Family) -> tuple[int, ...]:
    """The hidden states of the tower that a configuration's text model reads; may be negative."""
    if family.layers is None:
        return (-1,)
    for name in ("vision_feature_layer", "vision_feature_layers"):
        if (value := config.get(name)) is not None:
            return (value,) if isinstance(value, int) else tuple(value)
    return family.layers


def find_family(model_type: str) -> Family | None:
    """The family of a configuration's `model_type`; None for a model that is no known MLLM.

    Raises:
        BrokenPluginError: its plug-in cannot be imported.
    """
    return FAMILIES.get(model_type) if model_type in FAMILIES.names() else None


def family_of(model_type: str) -> Family:
    """The family of a configuration's `model_type`.

    Raises:
        UnknownMllmError: there is none, or it cannot be swept; the message says why, or which are
            installed.
        BrokenPluginError: its plug-in cannot be imported.
    """
    if (family := find_family(model_type)) is not None:
        return family
    if model_type in REFUSED:
        raise UnknownMllmError(f"{model_type} {REFUSED[model_type]}")
    raise UnknownMllmError(
        f"{model_type!r} is no MLLM that can be swept; installed: {FAMILIES.listing()}"
    )
