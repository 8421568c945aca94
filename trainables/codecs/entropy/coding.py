"""What happens to a value when an entropy model is walked: estimated, written or read.

Quantisation, symbols and their distributions stand here once for all codecs. Tables are 16-bit
cumulative distributions: one for Gaussians, one per entropy bottleneck and, in a variable-rate
model, per rate, as its step of quantising hyper-latents differs.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import TypeAlias, cast

import torch
from compressai.entropy_models import EntropyBottleneck, EntropyBottleneckVbr, GaussianConditional
from compressai.models.base import get_scale_table
from torch import Tensor

from trainables.codecs.entropy.bitstream import SymbolReader, SymbolWriter, Tables
from trainables.codecs.released import own_name

Bottleneck: TypeAlias = EntropyBottleneck | EntropyBottleneckVbr
Likelihoods = dict[str, Tensor]


class Estimate:
    """Quantises, and keeps the likelihoods of the symbols."""

    def __init__(self, likelihoods_too: bool = True) -> None:
        self._likelihoods_too = likelihoods_too
        self._parts: dict[str, list[Tensor]] = {}

    @property
    def likelihoods(self) -> Likelihoods:
        """Per symbol, (B, symbols), for `y` and, where there are hyper-latents, `z`."""
        return {part: torch.cat(tensors, 1) for part, tensors in self._parts.items()}

    def gaussian(
        self, prior: GaussianConditional, y: Tensor | None, scales: Tensor, means: Tensor | None
    ) -> Tensor:
        """Latents of given scales and means; returns their y_hat, (B, C, h, w)."""
        assert y is not None
        y_hat = _symbols(y, means)
        y_hat = y_hat if means is None else y_hat + means
        if self._likelihoods_too:
            self._keep("y", prior.likelihood_lower_bound(prior._likelihood(y_hat, scales, means)))
        # In one memory format here and in the decoder: convolutions round differently by format,
        # and a scale on the other side of a table's step is another distribution.
        return y_hat.contiguous()

    def bottleneck(
        self,
        prior: Bottleneck,
        z: Tensor | None,
        shape: torch.Size,
        part: str,
        step: Tensor | None = None,
    ) -> Tensor:
        """Hyper-latents in steps (1 unless given) around the medians; returns z_hat."""
        assert z is not None
        medians = medians_of(prior)
        z_hat = _stepped(_steps(z, medians, step), medians, step)
        if self._likelihoods_too:
            self._keep(part, bottleneck_likelihoods(prior, z_hat, step))
        return z_hat.contiguous()

    def _keep(self, part: str, likelihoods: Tensor) -> None:
        self._parts.setdefault(part, []).append(likelihoods.flatten(1))


class Write(Estimate):
    """The same, and writes the symbols."""

    def __init__(self, tables: Mapping[str, Tables]) -> None:
        super().__init__()
        self._tables = tables
        self.writer = SymbolWriter()

    def gaussian(
        self, prior: GaussianConditional, y: Tensor | None, scales: Tensor, means: Tensor | None
    ) -> Tensor:
        """See `Estimate`."""
        assert y is not None
        symbols = _symbols(y, means).int()
        self.writer.write(self._tables["gaussian"], _scale_rows(scales), symbols)
        return super().gaussian(prior, y, scales, means)

    def bottleneck(
        self,
        prior: Bottleneck,
        z: Tensor | None,
        shape: torch.Size,
        part: str,
        step: Tensor | None = None,
    ) -> Tensor:
        """See `Estimate`."""
        assert z is not None
        symbols = _steps(z, medians_of(prior), step).int()
        self.writer.write(self._tables["bottleneck"], _channel_rows(shape), symbols)
        return super().bottleneck(prior, z, shape, part, step)


class Read:
    """Reads symbols; the values to code are not known."""

    def __init__(
        self, tables: Mapping[str, Tables], reader: SymbolReader, device: torch.device
    ) -> None:
        self._tables = tables
        self._device = device
        self.reader = reader

    def gaussian(
        self, prior: GaussianConditional, y: Tensor | None, scales: Tensor, means: Tensor | None
    ) -> Tensor:
        """See `Estimate`."""
        symbols = self.reader.read(self._tables["gaussian"], _scale_rows(scales))
        symbols = symbols.to(self._device, torch.float32)
        return symbols if means is None else (symbols + means).contiguous()

    def bottleneck(
        self,
        prior: Bottleneck,
        z: Tensor | None,
        shape: torch.Size,
        part: str,
        step: Tensor | None = None,
    ) -> Tensor:
        """See `Estimate`."""
        symbols = self.reader.read(self._tables["bottleneck"], _channel_rows(shape))
        return _stepped(symbols.to(self._device, torch.float32), medians_of(prior), step)


Coding = Estimate | Write | Read


def _symbols(values: Tensor, means: Tensor | None) -> Tensor:
    return torch.round(values if means is None else values - means)


def _steps(z: Tensor, medians: Tensor, step: Tensor | None) -> Tensor:
    """Hyper-latents as whole numbers of steps from the medians; a step is 1 unless given."""
    return _symbols(z, medians) if step is None else torch.round((z - medians) / step)


def _stepped(symbols: Tensor, medians: Tensor, step: Tensor | None) -> Tensor:
    return symbols + medians if step is None else symbols * step + medians


def medians_of(prior: Bottleneck) -> Tensor:
    """(1, channels, 1, 1), without gradient."""
    return cast(Tensor, prior._get_medians()).detach().reshape(1, -1, 1, 1)


def bottleneck_likelihoods(prior: Bottleneck, z_hat: Tensor, step: Tensor | None) -> Tensor:
    """Likelihoods of hyper-latents (B, channels, h, w), in that shape: of one step each."""
    channels = z_hat.transpose(0, 1)
    values = channels.reshape(len(channels), 1, -1)
    # CompressAI's own forward of a variable-rate bottleneck leaves the step out here.
    likelihoods = (
        prior._likelihood(values)[0]
        if step is None
        else prior._likelihood_variable(values, qs=step)[0]
    )
    bounded = cast(Tensor, prior.likelihood_lower_bound(likelihoods))
    return bounded.reshape(channels.shape).transpose(0, 1)


@functools.cache
def _scale_table() -> Tensor:
    return cast(Tensor, get_scale_table())


def _scale_rows(scales: Tensor) -> Tensor:
    """The table row of each scale: the first one that is at least as wide, the last at most."""
    return torch.bucketize(scales.cpu(), _scale_table()[:-1])


def _channel_rows(shape: torch.Size) -> Tensor:
    return torch.arange(shape[1]).reshape(1, -1, 1, 1).expand(shape)


@functools.cache
def gaussian_tables() -> Tables:
    """A row per scale of CompressAI's table."""
    prior = GaussianConditional(None)
    prior.update_scale_table(_scale_table().tolist())
    return Tables.of(prior.quantized_cdf, prior.cdf_length, prior.offset)


def bottleneck_tables(bottleneck: Bottleneck, step: Tensor | None = None) -> Tables:
    """A bottleneck's tables from its current weights."""
    prior = copy.deepcopy(bottleneck).cpu()
    # The tails exactly, however far the auxiliary loss has come; the medians stay, as training
    # rounds around them. A variable-rate bottleneck has the parameters, not the search.
    search = EntropyBottleneck(prior.channels)
    place = "entropy_bottleneck."
    given = {own_name(place + name): value for name, value in prior.named_parameters()}
    with torch.no_grad():
        for name, parameter in search.named_parameters():
            parameter.copy_(given[place + name])
    search._update_quantiles()
    with torch.no_grad():
        prior.quantiles[:, :, 0] = search.quantiles[:, :, 0]
        prior.quantiles[:, :, 2] = search.quantiles[:, :, 2]
    if step is None:
        prior.update(force=True)
    else:
        assert isinstance(prior, EntropyBottleneckVbr)
        with torch.no_grad():
            prior.update_variable(force=True, qs=step.cpu())
    return Tables.of(prior.quantized_cdf, prior.cdf_length, prior.offset)
