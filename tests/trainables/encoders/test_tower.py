"""Loading visual encoders of every kind from a directory, against transformers itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tests.trainables.small import JOINT, VISION, WIDTH, make_clip, make_siglip
from trainables.encoders.load import load_tower
from trainables.encoders.partial_encoder import Teacher
from trainables.encoders.pretrained import Preprocessing
from trainables.encoders.tower import Tower

SIDE = 56


def build(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "clip":
        return make_clip()
    if kind == "siglip":
        return make_siglip()
    if kind == "clip vision":
        return CLIPVisionModel(CLIPVisionConfig(**VISION)).eval()
    if kind == "clip vision, projected":
        config = CLIPVisionConfig(**VISION, projection_dim=JOINT)
        return CLIPVisionModelWithProjection(config).eval()
    head = kind == "siglip vision"
    return SiglipVisionModel(SiglipVisionConfig(**VISION, vision_use_head=head)).eval()


def pooled_by_transformers(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    if hasattr(model, "get_image_features"):
        features: torch.Tensor = model.get_image_features(pixel_values=pixels).pooler_output
        return features
    output = model(pixel_values=pixels)
    return output.image_embeds if hasattr(output, "image_embeds") else output.pooler_output


@pytest.mark.parametrize(
    ("kind", "pooled", "text"),
    [
        ("clip", JOINT, True),
        ("clip vision", WIDTH, False),
        ("clip vision, projected", JOINT, False),
        ("siglip", WIDTH, True),
        ("siglip vision", WIDTH, False),
        ("siglip vision, no head", 0, False),
    ],
)
def test_every_kind_loads_and_pools_as_transformers_does(
    tmp_path: Path, kind: str, pooled: int, text: bool
) -> None:
    model = build(kind)
    model.save_pretrained(tmp_path)
    tower = load_tower(str(tmp_path))
    assert (tower.sizes.pooled, tower.sizes.text) == (pooled, text)
    teacher = Teacher(tower)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        features = teacher(images, pooled=bool(pooled))
        pixels = tower.preprocess(images)
        vision = getattr(model, "vision_model", model)
        states = vision(pixel_values=pixels, output_hidden_states=True).hidden_states
        torch.testing.assert_close(features.tokens, states[-2])
        if pooled:
            torch.testing.assert_close(features.pooled, pooled_by_transformers(model, pixels))
            assert features.pooled.shape == (2, pooled)


OTHER = {2: "bicubic", 3: "bilinear"}


def test_lanczos_is_pillows() -> None:
    """Pillow resizes one channel of floats at a time."""
    images = torch.rand(2, 3, 60, 44, generator=torch.Generator().manual_seed(0))
    ours = Preprocessing(24, (0, 0, 0), (1, 1, 1), "lanczos")(images)
    for image, found in zip(images, ours, strict=True):
        for channel, resized in zip(image, found, strict=True):
            whole = Image.fromarray(channel.numpy())
            expected = np.array(whole.resize((24, 24), Image.Resampling.LANCZOS)).clip(0, 1)
            np.testing.assert_allclose(resized, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("resample", [2, 3])
def test_images_are_prepared_as_the_preprocessor_says(
    tmp_path: Path, kind: str, resample: int
) -> None:
    build(kind).save_pretrained(tmp_path)
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    if kind == "clip":
        processor = CLIPImageProcessor(
            size={"shortest_edge": SIDE},
            crop_size={"height": SIDE, "width": SIDE},
            resample=resample,
            image_mean=mean,
            image_std=std,
        )
    else:
        size = {"height": SIDE, "width": SIDE}
        processor = SiglipImageProcessor(
            size=size, resample=resample, image_mean=mean, image_std=std
        )
    processor.save_pretrained(tmp_path)
    coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((128, 128))
    expected = processor(image, return_tensors="pt")["pixel_values"]
    given = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    tower = load_tower(str(tmp_path))
    # The preprocessor resizes in 8 bits.
    torch.testing.assert_close(tower.preprocess(given), expected, atol=0.02, rtol=0)
    way = Preprocessing(SIDE, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), OTHER[resample])
    other = Tower(tower.model, way)
    assert (other.preprocess(given) - expected).abs().max() > 0.1


def test_a_family_without_a_preprocessor_file_is_normalised_as_usual(tmp_path: Path) -> None:
    build("siglip").save_pretrained(tmp_path)
    gray = torch.full((1, 3, 64, 64), 0.75)
    prepared = load_tower(str(tmp_path)).preprocess(gray)
    torch.testing.assert_close(prepared, torch.full((1, 3, SIDE, SIDE), 0.5))


def test_a_preprocessor_for_another_size_is_refused(tmp_path: Path) -> None:
    build("siglip").save_pretrained(tmp_path)
    SiglipImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r" 64 .* 56"):
        load_tower(str(tmp_path))


def test_missing_weights_are_named_and_never_random(tmp_path: Path) -> None:
    build("clip").save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["vision_model.post_layernorm.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 .*post_layernorm\.weight"):
        load_tower(str(tmp_path))
