"""The neck against a transformers CLIP layer with the same weights, and the paper's figures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, SiglipVisionConfig
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

from search_spaces.facts.encoders import EncoderSizes, encoder_sizes
from tests.trainables.small import make_clip, make_siglip
from trainables.encoders.tower import Tower
from trainables.networks.neck import ResidualAttentionBlock, TransformNeck

CLIP = Tower(make_clip()).sizes
SIGLIP = Tower(make_siglip()).sizes
VIT_L = encoder_sizes(
    {
        "model_type": "clip",
        "projection_dim": 768,
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
        },
    }
)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_block_is_an_encoder_layer(family: str, activation: str) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 90, "num_attention_heads": 3}
    if family == "clip":
        config = CLIPVisionConfig(**sizes, hidden_act=activation)
        layer_class, eps = CLIPEncoderLayer, 1e-5
    else:
        config = SiglipVisionConfig(**sizes, hidden_act=activation)
        layer_class, eps = SiglipEncoderLayer, 1e-6
    config._attn_implementation = "eager"
    layer = layer_class(config)
    block = ResidualAttentionBlock(24, 3, 90, activation, eps)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    block.start_from(layer)
    # Small inputs, so that the LayerNorms' epsilon is seen.
    x = 1e-2 * torch.randn(2, 7, 24)
    torch.testing.assert_close(block(x), layer(x, None), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [make_clip, make_siglip])
@pytest.mark.parametrize("block", [1, 2])
def test_neck_from_the_encoder_is_its_skipped_part_behind_the_patch_embedding(
    make: type, block: int
) -> None:
    tower = Tower(make())
    width = tower.sizes.width
    neck = TransformNeck(width, tower.sizes, layers=block, norm=tower.pre_norm is not None)
    neck.start_from(tower, block)
    torch.nn.init.eye_(neck.linear.weight)
    torch.nn.init.zeros_(neck.linear.bias)
    pixels = torch.randn(2, 3, 56, 56)
    vision = tower.model.vision_model
    patches = vision.embeddings.patch_embedding(pixels)
    hidden = vision(pixels, output_hidden_states=True).hidden_states
    torch.testing.assert_close(neck(patches), hidden[block], atol=1e-4, rtol=1e-4)


def test_linear_layer_starts_from_the_ridge_regression_of_patch_embeddings() -> None:
    rng = np.random.default_rng(0)
    y_hat = rng.normal(size=(12, 5, 4, 4)).astype(np.float32)
    y_hat[:, 4] = 0  # a channel that says nothing
    patches = rng.normal(3, 1, size=(12, 16, 16)).astype(np.float32)
    neck = TransformNeck(5, CLIP)
    pairs = zip(torch.from_numpy(y_hat).split(4), torch.from_numpy(patches).split(4), strict=True)
    neck.fit_linear(pairs)
    x, y = y_hat.transpose(0, 2, 3, 1).reshape(-1, 5), patches.reshape(-1, 16)
    expected = Ridge(alpha=1e-3 * np.square(x).sum(0).mean()).fit(x, y)
    np.testing.assert_allclose(neck.linear.weight.detach(), expected.coef_, atol=1e-5)
    np.testing.assert_allclose(neck.linear.bias.detach(), expected.intercept_, atol=1e-5)
    assert not neck.linear.weight[:, 4].any()


@pytest.mark.parametrize("sizes", [CLIP, SIGLIP])
def test_neck_puts_each_latent_position_at_its_patch(sizes: EncoderSizes) -> None:
    torch.manual_seed(0)
    neck = TransformNeck(3, sizes)
    neck.blocks = torch.nn.Sequential()
    y_hat = torch.randn(2, 3, 4, 4)
    out = neck(y_hat)
    front = int(sizes.class_token)
    assert out.shape == (2, front + 16, sizes.width)
    for row in range(4):
        for column in range(4):
            place = front + 4 * row + column
            token = neck.linear(y_hat[:, :, row, column]) + neck.position[place]
            torch.testing.assert_close(out[:, place], neck.norm(token))
    if front:
        assert neck.class_token is not None
        token = neck.norm(neck.class_token + neck.position[0])
        torch.testing.assert_close(out[:, 0], token.expand(2, -1))


def resized(plane: torch.Tensor, side: int) -> torch.Tensor:
    """By Pillow: a bilinear kernel, widened where it makes something smaller."""
    image = Image.fromarray(plane.numpy()).resize((side, side), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image))


@pytest.mark.parametrize("grid", [(3, 3), (6, 6), (2, 5)])
def test_latents_on_another_grid_are_resampled(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    neck = TransformNeck(3, CLIP)
    y_hat = torch.randn(2, 3, *grid)
    on_grid = torch.stack([torch.stack([resized(plane, 4) for plane in one]) for one in y_hat])
    torch.testing.assert_close(neck(y_hat), neck(on_grid), atol=1e-4, rtol=1e-4)
    # Where resampling happens does not matter: its weights add up to 1.
    behind = neck.linear(y_hat.permute(0, 2, 3, 1)).detach().permute(0, 3, 1, 2)
    planes = torch.stack([torch.stack([resized(plane, 4) for plane in one]) for one in behind])
    tokens = neck.linear(on_grid.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(planes, tokens, atol=1e-5, rtol=1e-4)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"neck\.heads 3"):
        TransformNeck(3, CLIP, heads=3)


def test_hidden_width_is_the_encoders_unless_it_is_set() -> None:
    sizes = replace(CLIP, mlp_width=37)
    for ratio, hidden in ((None, 37), (4.0, 64), (2.5, 40)):
        block = TransformNeck(3, sizes, mlp_ratio=ratio).blocks[0]
        assert block.expand.out_features == hidden


def test_size_and_cost_are_the_papers() -> None:
    with torch.device("meta"):
        neck = TransformNeck(320, VIT_L)
        y_hat = torch.empty(1, 320, 16, 16)
    assert sum(p.numel() for p in neck.parameters()) / 1e6 == pytest.approx(13, abs=0.5)
    with FlopCounterMode(display=False) as counter:
        neck(y_hat)
    # The paper's 52.795 counts a few element-wise operations, too: 0.2 % more than the products.
    assert counter.get_total_flops() / 2 / 256**2 / 1e3 == pytest.approx(52.795, rel=3e-3)
    products = 256 * 320 * 1024 + 257 * 12 * 1024**2 + 2 * 257**2 * 1024
    assert counter.get_total_flops() == 2 * products


def test_a_random_start_is_distributed_as_torchs_own_attention_and_linear_layers() -> None:
    """The authors' neck: torch.nn.MultiheadAttention and torch.nn.Linear as they come."""
    sizes = replace(CLIP, width=128, heads=4, mlp_width=512)
    torch.manual_seed(0)
    neck = TransformNeck(48, sizes, layers=2)
    for block in neck.blocks:
        attention = torch.nn.MultiheadAttention(128, 4, batch_first=True)
        pairs = (
            (block.qkv.weight, attention.in_proj_weight),
            (block.qkv.bias, attention.in_proj_bias),
            (block.projection.weight, attention.out_proj.weight),
            (block.projection.bias, attention.out_proj.bias),
            *zip(block.expand.parameters(), torch.nn.Linear(128, 512).parameters(), strict=True),
            *zip(block.contract.parameters(), torch.nn.Linear(512, 128).parameters(), strict=True),
            *zip(neck.linear.parameters(), torch.nn.Linear(48, 128).parameters(), strict=True),
        )
        for started, torchs in pairs:
            assert started.shape == torchs.shape
            if not torchs.any():
                assert not started.any()
                continue
            bound = torchs.abs().max().item()
            assert started.abs().max().item() == pytest.approx(bound, rel=0.05)
            # A uniform distribution's deviation is its bound over the root of three.
            assert started.std().item() == pytest.approx(bound / 3**0.5, rel=0.12)
        # Glorot's bound for three stacked projections of 128 to 128.
        assert block.qkv.weight.abs().max().item() == pytest.approx((6 / 512) ** 0.5, rel=1e-2)
        out, inside = block.projection.weight, 1 / 128**0.5
        assert out.abs().max().item() == pytest.approx(inside, rel=1e-2)
