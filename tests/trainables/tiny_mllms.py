"""Tiny randomly initialised MLLMs of transformers' real classes, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Blip2ForConditionalGeneration,
    Gemma3ForConditionalGeneration,
    Idefics3ForConditionalGeneration,
    InstructBlipForConditionalGeneration,
    InternVLForConditionalGeneration,
    Kosmos2ForConditionalGeneration,
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
    PaliGemmaForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    SmolVLMForConditionalGeneration,
    VipLlavaForConditionalGeneration,
)

SIDE, PATCH, BLOCKS, WIDTH = 32, 8, 4, 32
GRID = SIDE // PATCH
QWEN_GRID = 8
"""Several windows of 2 x 2 merged patches, so that their order is not that of the patches."""
VOCAB, IMAGE = 64, 60
PINPOINTS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
"""Resolutions that an image is cut into crops at."""

_VISION = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}
_TEXT = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.4,
    "tie_word_embeddings": False,
}
_CLIP = {"model_type": "clip_vision_model", **_VISION}
_SIGLIP = {"model_type": "siglip_vision_model", **_VISION}
_LLAMA = {"model_type": "llama", **_TEXT}
_T5 = {
    "model_type": "t5",
    "vocab_size": VOCAB,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 2,
    "decoder_start_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_factor": 2.0,
    "tie_word_embeddings": False,
}
_GEMMA = {"head_dim": 16, **_TEXT}


@dataclass(frozen=True)
class Tiny:
    """How to make one, where its tower is, and how many text positions an image takes.

    inputs: what `generate` and the forward pass need besides `input_ids` and `pixel_values`;
    deepest: the last block that can be entered, as the first hidden state that is read is its
    input.
    """

    make: Callable[[], PreTrainedModel]
    tower: str
    tokens: int
    pixels: tuple[int, ...]
    inputs: Callable[[int, Tensor], dict[str, Tensor]]
    deepest: int

    def tower_of(self, model: nn.Module) -> nn.Module:
        """The visual tower of one of them."""
        module: nn.Module = attrgetter(self.tower)(model)
        return module


def _tiny(
    model: Any,
    tower: str,
    tokens: int,
    pixels: tuple[int, ...] = (3, SIDE, SIDE),
    inputs: Callable[[int, Tensor], dict[str, Tensor]] = lambda n, ids: {},
    deepest: int = BLOCKS - 1,
    **config: Any,
) -> Tiny:
    """One of a class of transformers; its text model is a Llama unless the settings have one."""
    settings = {"text_config": _LLAMA, **config}
    return Tiny(
        lambda: model(model.config_class(**settings)), tower, tokens, pixels, inputs, deepest
    )


def _of_llava(model: Any, vision: dict[str, Any], **settings: Any) -> Tiny:
    """A LLaVA or what is like one."""
    settings = {"tokens": GRID**2, "image_token_index": IMAGE, **settings}
    return _tiny(model, "model.vision_tower", vision_config=vision, **settings)


def _with_crops(model: Any, vision: dict[str, Any], **settings: Any) -> Tiny:
    """One that reads a base view and crops."""
    return _of_llava(
        model,
        vision,
        tokens=2 * GRID**2 + GRID,
        pixels=(3, 3, SIDE, SIDE),
        inputs=lambda n, ids: {"image_sizes": torch.full((n, 2), SIDE)},
        image_grid_pinpoints=PINPOINTS,
        **settings,
    )


def _four_patches_a_token(model: Any, vision: str) -> Tiny:
    """One of Idefics 3's kind: four patches are one text position."""
    return _tiny(
        model,
        "model.vision_model",
        GRID**2 // 4,
        (1, 3, SIDE, SIDE),
        vision_config={"model_type": vision, **_VISION},
        image_token_id=IMAGE,
        scale_factor=2,
    )


def _with_qformer(model: Any, kind: str, **settings: Any) -> Tiny:
    """One of BLIP-2's kind."""
    return _tiny(
        model,
        "vision_model",
        4,
        vision_config={"model_type": f"{kind}_vision_model", **_VISION},
        qformer_config={
            "model_type": f"{kind}_qformer",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "encoder_hidden_size": WIDTH,
            "vocab_size": VOCAB,
        },
        num_query_tokens=4,
        image_token_index=IMAGE,
        **settings,
    )


TINY: dict[str, Tiny] = {
    "LLaVA, CLIP": _of_llava(LlavaForConditionalGeneration, _CLIP),
    "LLaVA, SigLIP": _of_llava(
        LlavaForConditionalGeneration, _SIGLIP, vision_feature_select_strategy="full"
    ),
    "VipLLaVA": _of_llava(VipLlavaForConditionalGeneration, _CLIP, vision_feature_layer=[-2, -1]),
    "LLaVA-NeXT": _with_crops(LlavaNextForConditionalGeneration, _CLIP),
    "Granite Vision": _with_crops(
        LlavaNextForConditionalGeneration,
        _SIGLIP,
        vision_feature_layer=[-3, -2, -1],
        vision_feature_select_strategy="full",
        deepest=BLOCKS - 2,
    ),
    "LLaVA-OneVision": _with_crops(
        LlavaOnevisionForConditionalGeneration,
        _SIGLIP,
        text_config={"model_type": "qwen2", **_TEXT},
    ),
    "PaliGemma": _of_llava(
        PaliGemmaForConditionalGeneration,
        {**_SIGLIP, "vision_use_head": False},
        text_config={"model_type": "gemma", **_GEMMA},
        projection_dim=32,
        inputs=lambda n, ids: {"token_type_ids": torch.zeros_like(ids)},
    ),
    "Gemma 3": _of_llava(
        Gemma3ForConditionalGeneration,
        {**_SIGLIP, "vision_use_head": False},
        text_config={"model_type": "gemma3_text", **_GEMMA, "sliding_window": 64},
        tokens=4,
        mm_tokens_per_image=4,
        tie_word_embeddings=False,
        inputs=lambda n, ids: {"token_type_ids": (ids == IMAGE).long()},
    ),
    "SmolVLM": _four_patches_a_token(SmolVLMForConditionalGeneration, "smolvlm_vision"),
    "Idefics 3": _four_patches_a_token(Idefics3ForConditionalGeneration, "idefics3_vision"),
    "Kosmos-2": _tiny(
        Kosmos2ForConditionalGeneration,
        "vision_model.model",
        4,
        inputs=lambda n, ids: {"image_embeds_position_mask": ids == IMAGE},
        vision_config={"model_type": "kosmos_2_vision_model", **_VISION},
        text_config={
            "vocab_size": VOCAB,
            "embed_dim": 32,
            "layers": 2,
            "ffn_dim": 64,
            "attention_heads": 2,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "init_std": 0.4,
            "tie_word_embeddings": False,
        },
        latent_query_num=4,
        tie_word_embeddings=False,
    ),
    "BLIP-2": _with_qformer(Blip2ForConditionalGeneration, "blip_2"),
    "BLIP-2, T5": _with_qformer(
        Blip2ForConditionalGeneration,
        "blip_2",
        text_config=_T5,
        inputs=lambda n, ids: {"decoder_input_ids": torch.zeros_like(ids[:, :1])},
    ),
    "InstructBLIP": _with_qformer(
        InstructBlipForConditionalGeneration,
        "instructblip",
        inputs=lambda n, ids: {
            "qformer_input_ids": torch.full((n, 3), 5),
            "qformer_attention_mask": torch.ones(n, 3, dtype=torch.long),
        },
    ),
    "InternVL": _tiny(
        InternVLForConditionalGeneration,
        "model.vision_tower",
        GRID**2 // 4,
        vision_config={
            "model_type": "internvl_vision",
            **_VISION,
            "image_size": [SIDE, SIDE],
            "patch_size": [PATCH, PATCH],
        },
        text_config={"model_type": "qwen2", **_TEXT},
        image_token_id=IMAGE,
    ),
    "Qwen2.5-VL": _tiny(
        Qwen2_5_VLForConditionalGeneration,
        "model.visual",
        QWEN_GRID**2 // 4,
        inputs=lambda n, ids: {"image_grid_thw": torch.tensor([[1, QWEN_GRID, QWEN_GRID]] * n)},
        vision_config={
            "depth": BLOCKS,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_heads": 2,
            "patch_size": PATCH,
            "window_size": 2 * 2 * PATCH,
            "fullatt_block_indexes": [BLOCKS - 1],
            "out_hidden_size": 32,
        },
        text_config={
            "model_type": "qwen2_5_vl_text",
            **_TEXT,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [2, 3, 3],
                "rope_theta": 1e4,
            },
        },
        image_token_id=IMAGE,
        vision_start_token_id=61,
    ),
}


def make(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """One of `TINY`, lively: what it says depends on what it sees."""
    torch.manual_seed(0)
    model: Any = TINY[name].make()
    model.train(False)
    model.requires_grad_(False)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "vision" in path or "visual" in path or "project" in path or "qformer" in path:
                noise = torch.randn_like(parameter)
                parameter.add_(noise, alpha=0.3 / max(1, parameter.shape[-1]) ** 0.5)
    lively: PreTrainedModel = model.to(dtype)
    return lively


def inputs(
    name: str, count: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, Any]:
    """Different images and one prompt for each: `count` rows."""
    tiny = TINY[name]
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, *tiny.pixels, generator=generator).to(dtype)
    row = [1, *([61] if name == "Qwen2.5-VL" else []), *[IMAGE] * tiny.tokens, 5, 7, 9]
    ids = torch.tensor([row] * count)
    if name == "Qwen2.5-VL":
        pixels = torch.randn(count * QWEN_GRID**2, 3 * 2 * PATCH**2, generator=generator).to(dtype)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": pixels,
        **tiny.inputs(count, ids),
    }
