"""Tiny randomly initialised MLLMs of transformers' real classes, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    Kosmos2Config,
    Kosmos2ForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    VipLlavaConfig,
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
    pixels: tuple[int, ...] = (3, SIDE, SIDE)
    inputs: Callable[[int, Tensor], dict[str, Tensor]] = lambda n, ids: {}
    deepest: int = BLOCKS - 1

    def tower_of(self, model: nn.Module) -> nn.Module:
        """The visual tower of one of them."""
        module: nn.Module = attrgetter(self.tower)(model)
        return module


def _four_patches_a_token(
    model: type[PreTrainedModel], config: type[PreTrainedConfig], vision: str
) -> Tiny:
    """One of Idefics 3's kind: four patches are one text position."""
    return Tiny(
        lambda: model(
            config(
                vision_config={"model_type": vision, **_VISION},
                text_config=_LLAMA,
                image_token_id=IMAGE,
                scale_factor=2,
            )
        ),
        "model.vision_model",
        GRID**2 // 4,
        (1, 3, SIDE, SIDE),
    )


def _llava(vision: dict[str, Any], **settings: Any) -> Callable[[], PreTrainedModel]:
    return lambda: LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=_LLAMA, image_token_index=IMAGE, **settings)
    )


def _position_mask(n: int, ids: Tensor) -> dict[str, Tensor]:
    return {"image_embeds_position_mask": (ids == IMAGE)}


TINY: dict[str, Tiny] = {
    "LLaVA, CLIP": Tiny(_llava(_CLIP), "model.vision_tower", GRID**2),
    "LLaVA, SigLIP": Tiny(
        _llava(_SIGLIP, vision_feature_select_strategy="full"), "model.vision_tower", GRID**2
    ),
    "VipLLaVA": Tiny(
        lambda: VipLlavaForConditionalGeneration(
            VipLlavaConfig(
                vision_config=_CLIP,
                text_config=_LLAMA,
                image_token_index=IMAGE,
                vision_feature_layer=[-2, -1],
            )
        ),
        "model.vision_tower",
        GRID**2,
    ),
    "LLaVA-NeXT": Tiny(
        lambda: LlavaNextForConditionalGeneration(
            LlavaNextConfig(
                vision_config=_CLIP,
                text_config=_LLAMA,
                image_token_index=IMAGE,
                image_grid_pinpoints=PINPOINTS,
            )
        ),
        "model.vision_tower",
        2 * GRID**2 + GRID,
        (3, 3, SIDE, SIDE),
        lambda n, ids: {"image_sizes": torch.full((n, 2), SIDE)},
    ),
    "Granite Vision": Tiny(
        lambda: LlavaNextForConditionalGeneration(
            LlavaNextConfig(
                vision_config=_SIGLIP,
                text_config=_LLAMA,
                image_token_index=IMAGE,
                image_grid_pinpoints=PINPOINTS,
                vision_feature_layer=[-3, -2, -1],
                vision_feature_select_strategy="full",
            )
        ),
        "model.vision_tower",
        2 * GRID**2 + GRID,
        (3, 3, SIDE, SIDE),
        lambda n, ids: {"image_sizes": torch.full((n, 2), SIDE)},
        deepest=BLOCKS - 2,
    ),
    "LLaVA-OneVision": Tiny(
        lambda: LlavaOnevisionForConditionalGeneration(
            LlavaOnevisionConfig(
                vision_config=_SIGLIP,
                text_config={"model_type": "qwen2", **_TEXT},
                image_token_index=IMAGE,
                image_grid_pinpoints=PINPOINTS,
            )
        ),
        "model.vision_tower",
        2 * GRID**2 + GRID,
        (3, 3, SIDE, SIDE),
        lambda n, ids: {"image_sizes": torch.full((n, 2), SIDE)},
    ),
    "PaliGemma": Tiny(
        lambda: PaliGemmaForConditionalGeneration(
            PaliGemmaConfig(
                vision_config={**_SIGLIP, "vision_use_head": False},
                text_config={"model_type": "gemma", **_GEMMA},
                image_token_index=IMAGE,
                projection_dim=32,
            )
        ),
        "model.vision_tower",
        GRID**2,
        inputs=lambda n, ids: {"token_type_ids": torch.zeros_like(ids)},
    ),
    "Gemma 3": Tiny(
        lambda: Gemma3ForConditionalGeneration(
            Gemma3Config(
                vision_config={**_SIGLIP, "vision_use_head": False},
                text_config={"model_type": "gemma3_text", **_GEMMA, "sliding_window": 64},
                image_token_index=IMAGE,
                mm_tokens_per_image=4,
                tie_word_embeddings=False,
            )
        ),
        "model.vision_tower",
        4,
        inputs=lambda n, ids: {"token_type_ids": (ids == IMAGE).long()},
    ),
    "SmolVLM": _four_patches_a_token(
        SmolVLMForConditionalGeneration, SmolVLMConfig, "smolvlm_vision"
    ),
    "Idefics 3": _four_patches_a_token(
        Idefics3ForConditionalGeneration, Idefics3Config, "idefics3_vision"
    ),
    "Kosmos-2": Tiny(
        lambda: Kosmos2ForConditionalGeneration(
            Kosmos2Config(
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
            )
        ),
        "vision_model.model",
        4,
        inputs=_position_mask,
    ),
    "BLIP-2": Tiny(
        lambda: Blip2ForConditionalGeneration(
            Blip2Config(
                vision_config={"model_type": "blip_2_vision_model", **_VISION},
                qformer_config=_qformer("blip_2_qformer"),
                text_config=_LLAMA,
                num_query_tokens=4,
                image_token_index=IMAGE,
            )
        ),
        "vision_model",
        4,
    ),
    "BLIP-2, T5": Tiny(
        lambda: Blip2ForConditionalGeneration(
            Blip2Config(
                vision_config={"model_type": "blip_2_vision_model", **_VISION},
                qformer_config=_qformer("blip_2_qformer"),
                text_config=_T5,
                num_query_tokens=4,
                image_token_index=IMAGE,
            )
        ),
        "vision_model",
        4,
        inputs=lambda n, ids: {"decoder_input_ids": torch.zeros_like(ids[:, :1])},
    ),
    "InstructBLIP": Tiny(
        lambda: InstructBlipForConditionalGeneration(
            InstructBlipConfig(
                vision_config={"model_type": "instructblip_vision_model", **_VISION},
                qformer_config=_qformer("instructblip_qformer"),
                text_config=_LLAMA,
                num_query_tokens=4,
                image_token_index=IMAGE,
            )
        ),
        "vision_model",
        4,
        inputs=lambda n, ids: {
            "qformer_input_ids": torch.full((n, 3), 5),
            "qformer_attention_mask": torch.ones(n, 3, dtype=torch.long),
        },
    ),
    "InternVL": Tiny(
        lambda: InternVLForConditionalGeneration(
            InternVLConfig(
                vision_config={
                    "model_type": "internvl_vision",
                    **_VISION,
                    "image_size": [SIDE, SIDE],
                    "patch_size": [PATCH, PATCH],
                },
                text_config={"model_type": "qwen2", **_TEXT},
                image_token_id=IMAGE,
            )
        ),
        "model.vision_tower",
        GRID**2 // 4,
    ),
    "Qwen2.5-VL": Tiny(
        lambda: Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(
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
            )
        ),
        "model.visual",
        QWEN_GRID**2 // 4,
        inputs=lambda n, ids: {"image_grid_thw": torch.tensor([[1, QWEN_GRID, QWEN_GRID]] * n)},
    ),
}


def _qformer(kind: str) -> dict[str, Any]:
    return {
        "model_type": kind,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "encoder_hidden_size": WIDTH,
        "vocab_size": VOCAB,
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
