"""Images as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.datasets.arrays import Pixels


def to_tensor(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """(H, W, 3) bytes each, all of one size -> (B, 3, H, W) in [0, 1]."""
    stacked = torch.from_numpy(np.stack(images))
    return stacked.permute(0, 3, 1, 2).float().div_(255.0)


def to_bytes(images: Tensor) -> list[Pixels]:
    """(B, 3, H, W) in [0, 1] -> (H, W, 3) bytes each, rounded; the inverse of `to_tensor`."""
    levels = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [np.ascontiguousarray(image) for image in levels]


def psnr_of(x_hat: Tensor, x: Tensor) -> Tensor:
    """PSNR of images (B, 3, H, W) in [0, 1], (B,) in dB; at most 100, that of equal images."""
    return -10 * (x_hat - x).square().flatten(1).mean(1).clamp(min=1e-10).log10()
