"""The neck against a transformers CLIP layer with the same weights, and the paper's figures."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from trainables.neck import ResidualAttentionBlock, TransformNeck


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_block_is_a_clip_encoder_layer(activation: str) -> None:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=24, intermediate_size=96, num_attention_heads=3, hidden_act=activation
    )
    config._attn_implementation = "eager"
    layer = CLIPEncoderLayer(config)
    block = ResidualAttentionBlock(24, 3, activation=activation)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    block.start_from(layer)
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(block(x), layer(x, None), atol=1e-5, rtol=1e-5)


def test_neck_from_the_encoder_is_its_skipped_part_behind_the_patch_embedding() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 96, "num_attention_heads": 3}
    vision = {**sizes, "image_size": 28, "patch_size": 14, "num_hidden_layers": 3}
    clip = CLIPModel(
        CLIPConfig(vision_config=vision, text_config={**sizes, "num_hidden_layers": 1})
    )
    clip.eval()
    for parameter in clip.vision_model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    neck = TransformNeck(24, 24, 4, heads=3, layers=2)
    neck.start_from(clip, 2)
    torch.nn.init.eye_(neck.linear.weight)
    torch.nn.init.zeros_(neck.linear.bias)
    pixels = torch.randn(2, 3, 28, 28)
    patches = clip.vision_model.embeddings.patch_embedding(pixels)
    hidden = clip.vision_model(pixels, output_hidden_states=True).hidden_states
    torch.testing.assert_close(neck(patches), hidden[2], atol=1e-4, rtol=1e-4)


def test_linear_layer_starts_from_the_ridge_regression_of_patch_embeddings() -> None:
    rng = np.random.default_rng(0)
    y_hat = rng.normal(size=(12, 5, 3, 3)).astype(np.float32)
    y_hat[:, 4] = 0  # a channel that says nothing
    patches = rng.normal(3, 1, size=(12, 9, 8)).astype(np.float32)
    neck = TransformNeck(5, 8, 9, heads=2)
    pairs = zip(torch.from_numpy(y_hat).split(4), torch.from_numpy(patches).split(4), strict=True)
    neck.fit_linear(pairs)
    x, y = y_hat.transpose(0, 2, 3, 1).reshape(-1, 5), patches.reshape(-1, 8)
    expected = Ridge(alpha=1e-3 * np.square(x).sum(0).mean()).fit(x, y)
    np.testing.assert_allclose(neck.linear.weight.detach(), expected.coef_, atol=1e-5)
    np.testing.assert_allclose(neck.linear.bias.detach(), expected.intercept_, atol=1e-5)
    assert not neck.linear.weight[:, 4].any()


def test_neck_puts_each_latent_position_behind_the_class_token() -> None:
    torch.manual_seed(0)
    neck = TransformNeck(3, 8, 6, heads=2)
    neck.blocks = torch.nn.Sequential()
    y_hat = torch.randn(2, 3, 2, 3)
    out = neck(y_hat)
    for row in range(2):
        for column in range(3):
            place = 3 * row + column
            token = neck.linear(y_hat[:, :, row, column]) + neck.position[1 + place]
            torch.testing.assert_close(out[:, 1 + place], neck.norm(token))
    assert neck.class_token is not None
    front = neck.norm(neck.class_token + neck.position[0])
    torch.testing.assert_close(out[:, 0], front.expand(2, -1))


def test_neck_without_a_class_token_has_as_many_tokens_as_latents() -> None:
    neck = TransformNeck(3, 8, 6, heads=2, layers=2, class_token=False)
    assert neck(torch.randn(2, 3, 2, 3)).shape == (2, 6, 8)


def test_neck_says_which_sizes_do_not_match() -> None:
    neck = TransformNeck(3, 8, 6, heads=2)
    with pytest.raises(ValueError, match=r"4 x 4 positions .* 6 patches"):
        neck(torch.randn(1, 3, 4, 4))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"neck\.heads 3"):
        TransformNeck(3, 8, 6, heads=3)


def test_size_and_cost_are_the_papers() -> None:
    with torch.device("meta"):
        neck = TransformNeck(latent_channels=320, width=1024, positions=256, heads=16)
        y_hat = torch.empty(1, 320, 16, 16)
    assert sum(p.numel() for p in neck.parameters()) / 1e6 == pytest.approx(13, abs=0.5)
    with FlopCounterMode(display=False) as counter:
        neck(y_hat)
    # The paper's 52.795 counts a few element-wise operations, too: 0.2 % more than the products.
    assert counter.get_total_flops() / 2 / 256**2 / 1e3 == pytest.approx(52.795, rel=3e-3)
    products = 256 * 320 * 1024 + 257 * 12 * 1024**2 + 2 * 257**2 * 1024
    assert counter.get_total_flops() == 2 * products
