"""TIC's network: its parts against torch's own attention, and the sizes of the released one."""

import pytest
import torch
from torch import Tensor, nn

from search_spaces import CodecSpec, load_space
from search_spaces.codecs.tic import TicCodec
from trainables.codecs import build_codec
from trainables.codecs.tic import RSTB, TIC, CausalAttention


def bias_by_hand(table: Tensor, side: int) -> Tensor:
    """(heads, side^2, side^2): the table's row of each pair's offset, pair by pair."""
    places = [(row, column) for row in range(side) for column in range(side)]
    rows = [
        [(a - c + side - 1) * (2 * side - 1) + (b - d + side - 1) for c, d in places]
        for a, b in places
    ]
    return table[torch.tensor(rows)].permute(2, 0, 1)


def torch_attention(x: Tensor, qkv: nn.Linear, out: nn.Linear | None, bias: Tensor) -> Tensor:
    """torch's own multi-head attention on (n, L, C) with an additive bias (n * heads, L, L)."""
    width = x.shape[-1]
    attention = nn.MultiheadAttention(width, bias.shape[0] // len(x), batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(qkv.weight)
        attention.in_proj_bias.copy_(qkv.bias)
        attention.out_proj.weight.copy_(torch.eye(width) if out is None else out.weight)
        attention.out_proj.bias.copy_(torch.zeros(width) if out is None else out.bias)
        return attention(x, x, x, attn_mask=bias, need_weights=False)[0]


def test_a_stage_is_attention_within_windows_plain_then_shifted() -> None:
    """Window by window with torch's attention: in the shifted ones only true neighbours meet."""
    torch.manual_seed(0)
    dim, heads, side, H, W = 16, 4, 4, 12, 8
    stage = RSTB(dim, heads, side, [0.0, 0.0]).eval()
    for parameter in stage.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, dim, H, W)
    tokens = x[0].permute(1, 2, 0)
    for block, shift in zip(stage.blocks, (0, side // 2), strict=True):
        seen = block.norm1(tokens)
        attended = torch.zeros_like(seen)
        # Where a window's positions come from when windows start `shift` further down and right.
        for top in range(shift - side, H, side):
            for left in range(shift - side, W, side):
                rows = [r for r in range(top, top + side) if 0 <= r < H]
                columns = [c for c in range(left, left + side) if 0 <= c < W]
                if not rows or not columns:
                    continue
                window = seen[rows][:, columns].flatten(0, 1)
                inside = [(r - top) * side + c - left for r in rows for c in columns]
                bias = bias_by_hand(block.attn.relative_position_bias_table.detach(), side)
                bias = bias[:, inside][:, :, inside]
                out = torch_attention(window[None], block.attn.qkv, block.attn.proj, bias)[0]
                places = [(r, c) for r in rows for c in columns]
                for (row, column), value in zip(places, out, strict=True):
                    attended[row, column] = value
        tokens = tokens + attended
        tokens = tokens + block.mlp(block.norm2(tokens))
    with torch.no_grad():
        torch.testing.assert_close(stage(x)[0], tokens.permute(2, 0, 1) + x[0], atol=1e-4, rtol=0)


def test_the_context_is_attention_over_the_known_half_of_the_window() -> None:
    torch.manual_seed(0)
    dim = 32
    layer = CausalAttention(dim, 2 * dim)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    y = torch.randn(1, dim, 4, 6)
    padded = nn.functional.pad(y, (2, 2, 2, 2))
    bias = bias_by_hand(layer.relative_position_bias_table.detach(), 5)
    with torch.no_grad():
        context = layer(y)
        for row, column in ((0, 0), (1, 3), (3, 5)):
            window = padded[0, :, row : row + 5, column : column + 5].flatten(1).T.clone()
            window[12:] = 0  # the position itself and all after it
            summed = torch_attention(layer.norm1(window)[None], layer.qkv, None, bias)[0] + window
            summed = summed.sum(0)
            expected = layer.proj(summed + layer.mlp(layer.norm2(summed)))
            torch.testing.assert_close(context[0, :, row, column], expected, atol=1e-4, rtol=1e-4)
            ours = layer.of_windows(padded[..., row : row + 5, column : column + 5].flatten(2).mT)
            torch.testing.assert_close(ours[0], expected, atol=1e-4, rtol=1e-4)


def test_no_latent_depends_on_one_that_comes_after_it() -> None:
    torch.manual_seed(0)
    layer = CausalAttention(16, 32).double()
    y = torch.randn(1, 16, 5, 5, dtype=torch.float64, requires_grad=True)
    layer(y)[0, :, 2, 2].square().sum().backward()
    assert y.grad is not None
    influence = y.grad[0].abs().sum(0).flatten() > 0
    assert influence.tolist() == [place < 12 for place in range(25)]


def test_sizes_are_the_released_implementation_s() -> None:
    """Every tensor of the released TIC (its own depths) by name; counted from its code."""
    with torch.device("meta"):
        net = TIC(128, 192, (1, 2, 3, 1, 1))
        own = build_codec(TicCodec(arch="tic"))
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    assert shapes["g_a.1.blocks.0.attn.relative_position_bias_table"] == (15**2, 4)
    assert shapes["g_a.5.blocks.2.attn.relative_position_bias_table"] == (15**2, 16)
    assert shapes["h_a.3.blocks.0.attn.relative_position_bias_table"] == (7**2, 16)
    assert shapes["g_s.1.blocks.2.attn.qkv.weight"] == (384, 128)
    assert shapes["g_s.3.blocks.1.attn.relative_position_bias_table"] == (15**2, 8)
    assert shapes["g_s.5.blocks.0.attn.relative_position_bias_table"] == (15**2, 4)
    assert shapes["context_prediction.proj.weight"] == (384, 192)
    assert shapes["context_prediction.relative_position_bias_table"] == (81, 16)
    assert shapes["entropy_parameters.0.weight"] == (640, 768, 1, 1)
    assert own.M == 192
    depths = [len(module.blocks) for module in own.net.modules() if isinstance(module, RSTB)]
    assert depths == [2, 4, 6, 2, 2, 2, 2, 6, 4, 2]


@pytest.mark.parametrize("name", ["paper-tic", "codecs"])
def test_spaces_that_take_released_weights_of_tic_have_its_depths(name: str) -> None:
    (spec,) = (codec for codec in load_space(name).codecs if isinstance(codec, TicCodec))
    assert spec.depths == (1, 2, 3, 1, 1)
    with torch.device("meta"):
        used, released = build_codec(spec).net, TIC(128, 192, (1, 2, 3, 1, 1))
    shapes = [{n: p.shape for n, p in net.named_parameters()} for net in (used, released)]
    assert shapes[0] == shapes[1]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["tic", "elic2022-chandelier"])
def test_at_full_size_the_decoder_gets_the_encoder_s_latents(arch: str) -> None:
    torch.manual_seed(0)
    codec = build_codec(CodecSpec.model_validate({"arch": arch}))
    for name, module in codec.net.named_modules():
        if name == "g_a":
            module.register_forward_hook(lambda module, args, output: output * (3 / output.std()))
    codec.eval().update()
    coarse = torch.rand(1, 3, 65, 65)
    x = nn.functional.interpolate(coarse, (256, 256), mode="bilinear")
    streams = codec.encode(x)
    y_hat = codec.decode(streams)
    assert y_hat.shape == (1, codec.M, 16, 16)
    assert y_hat.round().unique().numel() > 5
    assert torch.equal(y_hat, codec.latents(x))
