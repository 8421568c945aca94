"""Weights in 8 bits against PyTorch's own quantisation, and files that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trainables.codecs.eight_bits import from_eight_bits, to_eight_bits
from trainables.codecs.released import read_weights

KERNEL = torch.randn(12, 8, 5, 5, generator=torch.Generator().manual_seed(3)) * torch.logspace(
    -4, 1, 12
).view(-1, 1, 1, 1)


def test_kernels_are_those_of_pytorch_s_quantisation_by_channel() -> None:
    scale = KERNEL.abs().amax((1, 2, 3)) / 127
    expected = torch.fake_quantize_per_channel_affine(
        KERNEL, scale, torch.zeros(12, dtype=torch.int32), 0, -127, 127
    )
    found = from_eight_bits(to_eight_bits({"g_a.0.weight": KERNEL}))["g_a.0.weight"]
    # A value half-way between two steps may go to either.
    off = (found - expected).abs() > 1e-3 * scale.view(-1, 1, 1, 1)
    assert off.float().mean() < 1e-3
    assert ((found - KERNEL).abs() <= 0.5001 * scale.view(-1, 1, 1, 1)).all()


def test_a_kernel_takes_a_byte_a_value_and_the_rest_half_precision(tmp_path: Path) -> None:
    bias = torch.tensor([0.1, -3.0])
    stored = to_eight_bits(
        {"conv.weight": KERNEL, "conv.bias": bias, "zero": torch.zeros_like(KERNEL)}
    )
    assert stored["conv.weight"].dtype == torch.int8
    assert stored["conv.bias"].dtype == torch.float16
    save_file(stored, tmp_path / "model.safetensors")
    read = read_weights(tmp_path / "model.safetensors").codec
    assert sorted(read) == ["conv.bias", "conv.weight", "zero"]
    assert torch.equal(read["conv.bias"].float(), bias.half().float())
    assert torch.equal(read["zero"], torch.zeros_like(KERNEL))


@pytest.mark.parametrize(
    "scale",
    [None, torch.ones(11), torch.ones(12, 1), torch.ones(12, dtype=torch.int64)],
    ids=["none", "another number", "another shape", "integers"],
)
def test_integers_without_their_scales_are_refused(
    tmp_path: Path, scale: torch.Tensor | None
) -> None:
    stored = to_eight_bits({"conv.weight": KERNEL})
    del stored["conv.weight.scale"]
    if scale is not None:
        stored["conv.weight.scale"] = scale
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"conv\.weight is in 8 bits and has no scale"):
        read_weights(tmp_path / "model.safetensors")
