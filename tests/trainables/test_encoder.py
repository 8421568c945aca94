"""The partial encoder against the CLIP that it is made from."""

import pytest
import torch
from torch import nn

from tests.trainables.small import BLOCKS, PATCHES, SIDE, WIDTH, make_clip
from trainables.encoder import PartialEncoder, Teacher, geometry
from trainables.mllm import preprocess


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("block", [0, 2, BLOCKS])
def test_entering_at_a_block_equals_the_pixel_path(block: int, images: torch.Tensor) -> None:
    clip = make_clip()
    teacher = Teacher(clip, token_layer=-1)
    partial = PartialEncoder(clip, block, token_layer=-1)
    with torch.no_grad():
        whole = teacher(images)
        entered = partial(teacher.hidden(images, block))
    assert torch.equal(entered.pooled, whole.pooled)
    assert torch.equal(entered.tokens, whole.tokens)


@pytest.mark.parametrize("layer", [-2, -1, 3])
def test_features_are_those_of_transformers(layer: int, images: torch.Tensor) -> None:
    clip = make_clip()
    teacher = Teacher(clip, token_layer=layer)
    pixels = preprocess(images, 56, teacher.mean, teacher.std)
    with torch.no_grad():
        features = teacher(images)
        tower = clip.vision_model(pixel_values=pixels, output_hidden_states=True)
        pooled = clip.visual_projection(tower.pooler_output)
    assert features.tokens.shape == (3, 1 + PATCHES, WIDTH)
    torch.testing.assert_close(features.tokens, tower.hidden_states[layer])
    torch.testing.assert_close(features.pooled, pooled)


def test_double_norm_applies_the_final_norm_twice(images: torch.Tensor) -> None:
    clip = make_clip()
    with torch.no_grad():
        last = Teacher(clip).hidden(images, -1)[:, 0]
        norm = clip.vision_model.post_layernorm
        expected = clip.visual_projection(norm(norm(last)))
        torch.testing.assert_close(Teacher(clip, double_norm=True)(images).pooled, expected)


def test_only_blocks_that_are_needed_run(images: torch.Tensor) -> None:
    clip = make_clip()
    ran: list[int] = []
    for number, layer in enumerate(clip.vision_model.encoder.layers):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    hidden = torch.randn(1, 1 + PATCHES, WIDTH)
    partial = PartialEncoder(clip, 1, token_layer=-2)
    features = partial(hidden, pooled=False)
    assert ran == [1, 2]
    assert features.pooled is None
    ran.clear()
    assert partial(hidden, tokens=False).tokens is None
    assert ran == [1, 2, 3]


def test_frozen_and_always_in_evaluation_mode() -> None:
    partial = PartialEncoder(make_clip(attention_dropout=0.5), 1)
    nn.Sequential(partial).train()
    assert not any(p.requires_grad for p in partial.parameters())
    assert not any(module.training for module in partial.modules())


def test_gradients_pass_through_to_the_input(images: torch.Tensor) -> None:
    images = images.clone().requires_grad_()
    Teacher(make_clip())(images).pooled.sum().backward()
    assert images.grad is not None
    assert bool(images.grad.any())


def test_impossible_layers_are_refused() -> None:
    clip = make_clip()
    with pytest.raises(ValueError, match=r"teacher\.block 5: the encoder has 4 blocks"):
        PartialEncoder(clip, 5, token_layer=-1)
    with pytest.raises(ValueError, match="token_layer 1 comes before"):
        PartialEncoder(clip, 2, token_layer=1)
    with pytest.raises(ValueError, match="layer -6"):
        PartialEncoder(clip, 0, token_layer=-6)


def test_geometry_is_the_configurations() -> None:
    tower = geometry(make_clip())
    assert (tower.image_size, tower.patches, tower.width, tower.heads) == (56, PATCHES, WIDTH, 2)
    assert tower.activation == "quick_gelu"
