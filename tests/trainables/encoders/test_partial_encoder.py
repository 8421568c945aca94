"""The partial encoder against the transformers model that it is made from."""

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tests.trainables.small import BLOCKS, PATCHES, SIDE, WIDTH, make_clip, make_siglip
from trainables.encoders.partial_encoder import PartialEncoder, Teacher
from trainables.encoders.tower import Tower

FAMILIES = {"clip": make_clip, "siglip": make_siglip}


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return FAMILIES[request.param]()


@pytest.fixture
def hidden(model: PreTrainedModel) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, Tower(model).sizes.tokens, WIDTH, generator=generator)


@pytest.mark.parametrize("block", [0, 2, BLOCKS - 1, BLOCKS])
def test_entering_at_a_block_equals_the_pixel_path(
    model: PreTrainedModel, block: int, images: Tensor
) -> None:
    tower = Tower(model)
    with torch.no_grad():
        pixels = tower.preprocess(images)
        states = model.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
        for layer in {-1, max(block, BLOCKS - 1)}:
            whole = Teacher(tower, token_layer=layer)(images)
            entered = PartialEncoder(tower, block, token_layer=layer)(states[block])
            assert torch.equal(entered.pooled, whole.pooled)
            assert torch.equal(entered.tokens, whole.tokens)


@pytest.mark.parametrize("layer", [-2, -1, 3])
def test_features_are_those_of_transformers(
    model: PreTrainedModel, layer: int, images: Tensor
) -> None:
    tower = Tower(model)
    with torch.no_grad():
        features = Teacher(tower, token_layer=layer)(images)
        pixels = tower.preprocess(images)
        states = model.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
        pooled = model.get_image_features(pixel_values=pixels).pooler_output
    assert features.tokens.shape == (3, PATCHES + tower.sizes.class_token, WIDTH)
    torch.testing.assert_close(features.tokens, states[layer])
    torch.testing.assert_close(features.pooled, pooled)


def test_double_norm_applies_the_final_norm_twice(images: Tensor) -> None:
    clip = make_clip()
    with torch.no_grad():
        last = Teacher(Tower(clip)).hidden(images, -1)[:, 0]
        norm = clip.vision_model.post_layernorm
        expected = clip.visual_projection(norm(norm(last)))
        pooled = Teacher(Tower(clip), double_norm=True)(images).pooled
    torch.testing.assert_close(pooled, expected)


def test_only_blocks_that_are_needed_run(model: PreTrainedModel, hidden: Tensor) -> None:
    ran: list[tuple[int, int]] = []
    for number, layer in enumerate(model.vision_model.encoder.layers):
        layer.mlp.register_forward_hook(
            lambda _, arguments, __, number=number: ran.append((number, arguments[0].shape[1]))
        )
    tower = Tower(model)
    every = tower.sizes.tokens
    partial = PartialEncoder(tower, 1, token_layer=-2)
    features = partial(hidden, pooled=False)
    assert ran == [(1, every), (2, every)]
    assert features.pooled is None
    # CLIP pools the class token alone, so the last block gives no other.
    last = (3, 1 if tower.sizes.class_token else every)
    for tokens in (False, True):
        ran.clear()
        assert (partial(hidden, tokens=tokens).tokens is None) == (not tokens)
        assert ran == [(1, every), (2, every), last]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("block", [0, BLOCKS - 1])
def test_the_pooled_feature_alone_has_the_whole_ones_values_and_gradients(
    hidden: Tensor, attention: str, block: int
) -> None:
    clip = make_clip()
    clip.set_attn_implementation(attention)
    hidden = torch.randn(2, 1 + PATCHES, WIDTH, requires_grad=True)
    alone = PartialEncoder(Tower(clip), block)(hidden, tokens=False).pooled
    through = hidden
    for layer in clip.vision_model.encoder.layers[block:]:
        through = layer(through, None)
    whole = clip.visual_projection(clip.vision_model.post_layernorm(through[:, 0]))
    torch.testing.assert_close(alone, whole)
    weights = torch.randn_like(whole)
    expected, given = (torch.autograd.grad((x * weights).sum(), hidden)[0] for x in (whole, alone))
    torch.testing.assert_close(given, expected)


@pytest.mark.parametrize("asked", [(True, False), (False, True), (True, True)])
def test_checkpointed_blocks_run_twice_and_give_the_same_gradients(
    model: PreTrainedModel, hidden: Tensor, asked: tuple[bool, bool]
) -> None:
    tower = Tower(model)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    for layer in tower.blocks:
        layer.mlp.register_forward_pre_hook(count)
    found = []
    for again in (False, True):
        calls = 0
        leaf = hidden.clone().requires_grad_()
        features = PartialEncoder(tower, 1, checkpoint_blocks=again)(leaf, *asked)
        values = [x for x in (features.pooled, features.tokens) if x is not None]
        sum(x.square().sum() for x in values).backward()
        found.append((calls, leaf.grad, *values))
    (once, *plain), (twice, *checkpointed) = found
    assert twice == 2 * once
    assert all(map(torch.equal, plain, checkpointed))


def test_frozen_and_always_in_evaluation_mode(model: PreTrainedModel, hidden: Tensor) -> None:
    model.train()
    for part in (PartialEncoder(Tower(model), 1), Teacher(Tower(model))):
        nn.Sequential(part).train()
        assert not any(p.requires_grad for p in part.parameters())
        assert not any(module.training for module in part.modules())


def test_gradients_pass_through_to_the_input(model: PreTrainedModel, images: Tensor) -> None:
    images = images.clone().requires_grad_()
    Teacher(Tower(model))(images).pooled.sum().backward()
    assert images.grad is not None
    assert bool(images.grad.any())
    assert not [n for n, p in model.vision_model.named_parameters() if p.grad is not None]


def test_impossible_layers_are_refused() -> None:
    tower = Tower(make_clip())
    with pytest.raises(ValueError, match=r"teacher\.block 5.* 4 blocks"):
        PartialEncoder(tower, 5, token_layer=-1)
    with pytest.raises(ValueError, match="token_layer 1"):
        PartialEncoder(tower, 2, token_layer=1)
    with pytest.raises(ValueError, match="layer -6"):
        PartialEncoder(tower, 0, token_layer=-6)
