"""Sizes read from configurations without transformers, against transformers' own reading."""

import json
from pathlib import Path
from typing import Any

import pytest

from search_spaces.facts.encoders import encoder_sizes, released_config


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("CLIPConfig", {}),
        ("CLIPConfig", {"projection_dim": 768, "vision_config": {"hidden_size": 1536}}),
        ("CLIPVisionConfig", {"num_hidden_layers": 3, "image_size": 336, "patch_size": 14}),
        ("SiglipConfig", {}),
        ("SiglipConfig", {"vision_config": {"hidden_size": 1152, "intermediate_size": 4304}}),
        ("SiglipVisionConfig", {"vision_use_head": False, "num_attention_heads": 16}),
    ],
)
def test_what_a_file_leaves_out_is_what_transformers_assumes(
    tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, name)(**settings)
    short = {"model_type": config.model_type, **settings}
    assert encoder_sizes(short) == encoder_sizes(config.to_dict())
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert encoder_sizes(written) == encoder_sizes(config.to_dict())


def test_sizes_of_the_papers_encoder() -> None:
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    }
    sizes = encoder_sizes({"model_type": "clip", "projection_dim": 768, "vision_config": vision})
    assert (sizes.grid, sizes.tokens, sizes.width, sizes.pooled) == ((16, 16), 257, 1024, 768)
    assert sizes.text
    larger = encoder_sizes({"model_type": "clip", "vision_config": {**vision, "image_size": 336}})
    assert (larger.grid, larger.tokens) == ((24, 24), 577)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "siglip2"}, "NaFlex.*siglip2-base-patch16-256"),
        ({"model_type": "siglip2_vision_model"}, "NaFlex"),
        ({"model_type": "llama"}, "'llama'.*clip, clip_vision_model"),
        ({}, "model_type None"),
        (
            {"model_type": "siglip", "vision_config": {"image_size": [224, 320]}},
            r"image_size \[224, 320\]",
        ),
    ],
)
def test_other_models_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder_sizes(config)


def test_hidden_states_are_numbered_as_by_transformers() -> None:
    sizes = encoder_sizes({"model_type": "siglip"})
    assert [sizes.hidden_index(i) for i in (-13, -2, -1, 0, 12)] == [0, 11, 12, 0, 12]
    for layer in (-14, 13):
        with pytest.raises(ValueError, match="-13 to 12"):
            sizes.hidden_index(layer)


@pytest.mark.parametrize(
    ("name", "grid", "width", "blocks", "pooled"),
    [
        ("openai/clip-vit-base-patch32", 7, 768, 12, 512),
        ("openai/clip-vit-base-patch16", 14, 768, 12, 512),
        ("openai/clip-vit-large-patch14", 16, 1024, 24, 768),
        ("openai/clip-vit-large-patch14-336", 24, 1024, 24, 768),
        ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 16, 1280, 32, 1024),
        ("google/siglip-base-patch16-224", 14, 768, 12, 768),
        ("google/siglip-so400m-patch14-384", 27, 1152, 27, 1152),
        ("google/siglip2-large-patch16-256", 16, 1024, 24, 1024),
        ("google/siglip2-giant-opt-patch16-384", 24, 1536, 40, 1536),
    ],
)
def test_released_models_are_known_by_name(
    name: str, grid: int, width: int, blocks: int, pooled: int
) -> None:
    config = released_config(name)
    assert config is not None
    sizes = encoder_sizes(config)
    assert (sizes.grid, sizes.width, sizes.blocks) == ((grid, grid), width, blocks)
    assert sizes.pooled == pooled
    assert sizes.text
    assert sizes.tokens == grid**2 + ("clip" in name.lower() and "siglip" not in name)


def test_other_names_are_not_guessed() -> None:
    assert released_config("somebody/clip-vit-large-patch14") is None
    config = released_config("google/siglip2-base-patch16-naflex")
    assert config is not None
    with pytest.raises(ValueError, match="NaFlex"):
        encoder_sizes(config)
