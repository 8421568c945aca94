"""Distributions of symbols as the entropy coder's tables, of CompressAI's entropy models.

Tables are 16-bit cumulative distributions: one for Gaussians, one per entropy bottleneck and, in a
variable-rate model, per rate, as its step of quantising hyper-latents differs.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Mapping
from typing import TypeAlias, cast

import torch
from compressai.entropy_models import EntropyBottleneck, EntropyBottleneckVbr, GaussianConditional
from compressai.models.base import get_scale_table
from torch import Tensor, nn

from trainables.codecs.entropy.bitstream import Tables

Bottleneck: TypeAlias = EntropyBottleneck | EntropyBottleneckVbr
CodingTables: TypeAlias = Mapping[nn.Module, Tables]
"""All tables of a codec at one rate, by the part of its network that models the symbols."""

# CompressAI has called a bottleneck's parameters _matrices.0, then _matrix0, now matrices.0.
_BOTTLENECK = re.compile(r"(.*entropy_bottleneck)\._?(matri|bias|factor)(?:x|ces|es|s)?\.?(\d+)$")
_CURRENT = {"matri": "matrices", "bias": "biases", "factor": "factors"}


def current_bottleneck_name(name: str) -> str:
    """The present name of an entropy bottleneck's parameter; other names are unchanged."""
    parts = _BOTTLENECK.match(name)
    return f"{parts[1]}.{_CURRENT[parts[2]]}.{parts[3]}" if parts else name


@functools.cache
def scale_table() -> Tensor:
    """CompressAI's 64 scales of Gaussians that have a distribution, ascending."""
    return cast(Tensor, get_scale_table())


@functools.cache
def _steps(device: torch.device) -> Tensor:
    return scale_table()[:-1].to(device)


def scale_rows(scales: Tensor) -> Tensor:
    """The table row of each scale, there: the first that is at least as wide, else the last."""
    return torch.bucketize(scales, _steps(scales.device), out_int32=True)


def channel_rows(shape: torch.Size) -> Tensor:
    """The table row of each hyper-latent, (B, C, h, w): the number of its channel."""
    return torch.arange(shape[1]).reshape(1, -1, 1, 1).expand(shape)


@functools.cache
def gaussian_tables() -> Tables:
    """A row per scale of CompressAI's table."""
    prior = GaussianConditional(None)
    prior.update_scale_table(scale_table().tolist())
    return Tables.of(prior.quantized_cdf, prior.cdf_length, prior.offset)


def coding_tables(network: nn.Module, step: Tensor | None = None) -> CodingTables:
    """The tables of all entropy models in a network, from its current weights.

    Args:
        step: see `bottleneck_tables`.
    """
    tables: dict[nn.Module, Tables] = {}
    for module in network.modules():
        if isinstance(module, GaussianConditional):
            tables[module] = gaussian_tables()
        elif isinstance(module, (EntropyBottleneck, EntropyBottleneckVbr)):
            tables[module] = bottleneck_tables(module, step)
    return tables


def bottleneck_tables(bottleneck: Bottleneck, step: Tensor | None = None) -> Tables:
    """A row per channel of a bottleneck, from its current weights.

    Args:
        bottleneck: is not changed.
        step: of a variable-rate bottleneck, (): the distance of two values; None for 1.
    """
    prior = copy.deepcopy(bottleneck).cpu()
    # The tails exactly, however far the auxiliary loss has come; the medians stay, as training
    # rounds around them. A variable-rate bottleneck has the parameters, not the search.
    search = EntropyBottleneck(prior.channels)
    prefix = "entropy_bottleneck."
    weights = {current_bottleneck_name(prefix + n): value for n, value in prior.named_parameters()}
    with torch.no_grad():
        for name, parameter in search.named_parameters():
            parameter.copy_(weights[prefix + name])
        search.update(force=True, update_quantiles=True)
        prior.quantiles[:, :, 0] = search.quantiles[:, :, 0]
        prior.quantiles[:, :, 2] = search.quantiles[:, :, 2]
        if step is None:
            prior.update(force=True)
        else:
            assert isinstance(prior, EntropyBottleneckVbr)
            prior.update_variable(force=True, qs=step.cpu())
    return Tables.of(prior.quantized_cdf, prior.cdf_length, prior.offset)
