"""Tiny randomly initialised visual towers of the packages that MLLMs take theirs from.

What each says is its package's own forward pass; one that is not installed cannot be made.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextConfig,
    ConvNextModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

BLOCKS = 4
"""Of each of them; of a ConvNeXt its stages."""
_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


@dataclass(frozen=True)
class TinyTower:
    """How to make one, and the side of its input in pixels.

    make: raises ModuleNotFoundError where its package is not installed; norms_in_fp32: its
    LayerNorms keep single precision, as its own half precision has them.
    """

    make: Callable[[], nn.Module]
    side: int
    norms_in_fp32: bool = False


def _openai_clip() -> nn.Module:
    """By the package's `model.py` alone: its `__init__` wants a module that is no longer there."""
    package = importlib.util.find_spec("clip")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("OpenAI's clip is not installed")
    file = Path(package.origin).with_name("model.py")
    spec = importlib.util.spec_from_file_location("openai_clip_model", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tower: nn.Module = module.VisionTransformer(32, 8, 32, BLOCKS, 2, 16)
    return tower


def _open_clip_vit() -> nn.Module:
    from open_clip.transformer import VisionTransformer

    tower: nn.Module = VisionTransformer(32, 8, 32, BLOCKS, 2, 2.0, output_tokens=False)
    return tower


def _open_clip_convnext() -> nn.Module:
    from open_clip.timm_model import TimmModel

    tower: nn.Module = TimmModel("convnext_atto", 16, image_size=64, pretrained=False)
    return tower


def _transformers_convnext() -> nn.Module:
    config = ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], image_size=64)
    tower: nn.Module = ConvNextModel(config)
    return tower


TOWERS: dict[str, TinyTower] = {
    "transformers, CLIP": TinyTower(lambda: CLIPVisionModel(CLIPVisionConfig(**_VISION)), 32),
    "transformers, SigLIP": TinyTower(lambda: SiglipVisionModel(SiglipVisionConfig(**_VISION)), 32),
    "OpenAI clip, ViT": TinyTower(_openai_clip, 32, norms_in_fp32=True),
    "open_clip, ViT": TinyTower(_open_clip_vit, 32),
    "open_clip and timm, ConvNeXt": TinyTower(_open_clip_convnext, 64),
    "transformers, ConvNeXt": TinyTower(_transformers_convnext, 64),
}


def make_tower(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """One of `TOWERS`, lively, frozen, in evaluation mode.

    Raises:
        ModuleNotFoundError: its package is not installed.
    """
    torch.manual_seed(0)
    tower = TOWERS[name].make()
    tower.train(False)
    tower.requires_grad_(False)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3 / parameter.shape[-1] ** 0.5)
    tower.to(dtype)
    for module in tower.modules():
        if TOWERS[name].norms_in_fp32 and isinstance(module, nn.LayerNorm):
            module.float()
    return tower


def tower_output(tower: nn.Module, pixels: Tensor) -> Tensor:
    """What a tower's own forward pass makes of pixels."""
    found: Any = tower(pixels)
    result: Tensor = found if isinstance(found, Tensor) else found.last_hidden_state
    return result
