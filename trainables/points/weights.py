"""The trained weights of an operating point: writing, reading, and copying into modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trainables.codecs import mismatches

POINT_FILE: Final = "model.safetensors"


def named(**modules: nn.Module) -> dict[str, Tensor]:
    """The parameters of modules by `MODULE.PARAMETER`, without gradients."""
    return {
        f"{prefix}.{name}": parameter.detach()
        for prefix, module in modules.items()
        for name, parameter in module.named_parameters()
    }


@torch.no_grad()
def overlay(parameters: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    """Copy stored values into parameters.

    Raises:
        ValueError: names or shapes differ, or values are not finite.
    """
    problems = mismatches(parameters, stored)
    if problems:
        raise ValueError(f"stored weights do not fit: {'; '.join(problems[:5])}")
    for name, value in parameters.items():
        value.copy_(stored[name])


def save_trained(state: Mapping[str, Tensor], directory: Path) -> None:
    """Write trained weights to `directory/POINT_FILE`."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(tensors, directory / POINT_FILE)


def load_trained(directory: Path) -> dict[str, Tensor]:
    """Read the trained weights of an operating point's directory."""
    return load_file(directory / POINT_FILE)
