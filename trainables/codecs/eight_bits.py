"""Weights in 8 bits, a quarter of their size: how base codecs stand in the package.

    kernel (rows, columns, height, width) float --> int8, and a float scale for each row
    value = integer * scale

The error is half a step at most: 1/254 of the largest value of the row. Only kernels of
convolutions are stored so; all other parameters are few, and rates depend on them more.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_LEVELS = 127
_SCALE = ".scale"
"""What follows a tensor's name in the name of its scales."""


def to_eight_bits(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Named float tensors as they are stored: kernels in 8 bits, all else in half precision."""
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dim() != 4:
            stored[name] = tensor.half()
            continue
        rows = tensor.float().flatten(1)
        scale = rows.abs().amax(1) / _LEVELS
        steps = torch.where(scale > 0, scale, 1.0)[:, None]
        stored[name] = (rows / steps).round().to(torch.int8).view(tensor.shape)
        stored[name + _SCALE] = scale
    return stored


def from_eight_bits(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The float tensors that were stored; tensors that are not in 8 bits pass.

    Raises:
        ValueError: a tensor of integers has no scales, or not one for each row.
    """
    tensors = dict(stored)
    for name, tensor in stored.items():
        if tensor.dtype != torch.int8:
            continue
        scale = tensors.pop(name + _SCALE, None)
        if scale is None or scale.shape != tensor.shape[:1] or not scale.is_floating_point():
            raise ValueError(f"{name} is in 8 bits and has no scale for each of its rows")
        tensors[name] = (tensor.float().flatten(1) * scale.float()[:, None]).view(tensor.shape)
    return tensors
