"""What happens to values when an entropy model is walked: they are estimated, written or read.

Quantisation, symbols and their distributions are here once for all codecs.

Shapes: B images, C channels, h x w positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

import torch
from compressai.entropy_models import EntropyBottleneckVbr, GaussianConditional
from torch import Tensor, nn

from trainables.codecs.entropy.bitstream import SymbolReader, SymbolWriter
from trainables.codecs.entropy.tables import Bottleneck, CodingTables, channel_rows, scale_rows

Likelihoods = dict[str, Tensor]


class Coding(ABC):
    """What happens to values on a walk: each kind turns them into symbols, or knows the symbols."""

    @abstractmethod
    def _symbols(
        self, prior: nn.Module, rows: Callable[[], Tensor], values: Tensor | None
    ) -> Tensor:
        """Whole numbers as floats.

        Args:
            prior: the distribution of the symbols.
            rows: gives the row of each symbol in the tables of that distribution.
            values: in steps of the quantisation, not rounded; None where they are read.
        """

    @abstractmethod
    def _keep(self, part: str, likelihoods: Callable[[], Tensor]) -> None:
        """Keep the likelihoods, (B, ...), of known values, under the name of their part."""

    def gaussian(
        self, prior: GaussianConditional, y: Tensor | None, scales: Tensor, means: Tensor | None
    ) -> Tensor:
        """Code latents, each a Gaussian.

        Args:
            prior: the model's conditional distribution.
            y: the latents, (B, C, h, w); None where they are read.
            scales: standard deviations, (B, C, h, w).
            means: (B, C, h, w), around which latents are rounded; None for zeros.

        Returns:
            y_hat, (B, C, h, w).
        """
        values = y if y is None or means is None else y - means
        symbols = self._symbols(prior, lambda: scale_rows(scales), values)
        if y is not None:
            self._keep("y", lambda: prior(y, scales, means, training=False)[1])
        # In one memory format here and in the decoder: convolutions round differently by format,
        # and a scale on the other side of a table's step is another distribution.
        return (symbols if means is None else symbols + means).contiguous()

    def bottleneck(
        self,
        prior: Bottleneck,
        z: Tensor | None,
        shape: torch.Size,
        part: str,
        step: Tensor | None = None,
    ) -> Tensor:
        """Code hyper-latents by the learned distribution of their channel.

        Args:
            prior: the entropy bottleneck.
            z: the hyper-latents; None where they are read.
            shape: theirs, (B, C, h, w).
            part: the name of their likelihoods, `z`, or `y` where they are the latents.
            step: (), the distance of two values of z_hat, counted from the medians; None for 1.

        Returns:
            z_hat, (B, C, h, w).
        """
        medians = medians_of(prior)
        values = None if z is None else z - medians
        if values is not None and step is not None:
            values = values / step
        symbols = self._symbols(prior, lambda: channel_rows(shape), values)
        z_hat = (symbols if step is None else symbols * step) + medians
        if z is not None:
            self._keep(part, lambda: _likelihoods(prior, z, z_hat, step))
        return z_hat.contiguous()


class Estimate(Coding):
    """Quantises, and keeps the likelihoods of the symbols.

    Args:
        likelihoods_too: False only quantises.
    """

    def __init__(self, likelihoods_too: bool = True) -> None:
        self._likelihoods_too = likelihoods_too
        self._parts: dict[str, list[Tensor]] = {}

    @property
    def likelihoods(self) -> Likelihoods:
        """Per symbol, (B, symbols), for `y` and, where there are hyper-latents, `z`."""
        return {part: torch.cat(tensors, 1) for part, tensors in self._parts.items()}

    def _symbols(
        self, prior: nn.Module, rows: Callable[[], Tensor], values: Tensor | None
    ) -> Tensor:
        assert values is not None
        return torch.round(values)

    def _keep(self, part: str, likelihoods: Callable[[], Tensor]) -> None:
        if self._likelihoods_too:
            self._parts.setdefault(part, []).append(likelihoods().flatten(1))


class Write(Estimate):
    """Quantises, keeps the likelihoods, and writes the symbols."""

    def __init__(self, tables: CodingTables) -> None:
        super().__init__()
        self._tables = tables
        self.writer = SymbolWriter()

    def _symbols(
        self, prior: nn.Module, rows: Callable[[], Tensor], values: Tensor | None
    ) -> Tensor:
        symbols = super()._symbols(prior, rows, values)
        self.writer.write(self._tables[prior], rows(), symbols.int())
        return symbols


class Read(Coding):
    """Reads the symbols of values that are not known.

    Args:
        tables: those that the symbols were written with.
        reader: of the symbols.
        device: of the values.
    """

    def __init__(self, tables: CodingTables, reader: SymbolReader, device: torch.device) -> None:
        self._tables = tables
        self._reader = reader
        self._device = device

    def _symbols(
        self, prior: nn.Module, rows: Callable[[], Tensor], values: Tensor | None
    ) -> Tensor:
        return self._reader.read(self._tables[prior], rows()).to(self._device, torch.float32)

    def _keep(self, part: str, likelihoods: Callable[[], Tensor]) -> None:
        raise AssertionError("values that are read are not known before")


def _likelihoods(prior: Bottleneck, z: Tensor, z_hat: Tensor, step: Tensor | None) -> Tensor:
    if step is None:
        return cast(Tensor, prior(z, training=False)[1])
    return step_likelihoods(prior, z_hat, step)


def medians_of(prior: Bottleneck) -> Tensor:
    """The medians of a bottleneck's channels, (1, C, 1, 1), without gradient."""
    return cast(Tensor, prior.quantiles).detach()[:, 0, 1].reshape(1, -1, 1, 1)


def step_likelihoods(prior: EntropyBottleneckVbr, values: Tensor, step: Tensor) -> Tensor:
    """The likelihood of an interval of one step around each value, (B, C, h, w)."""
    channels = values.transpose(0, 1)
    # A private method: CompressAI's public `forward` forgets the step.
    likelihoods, _, _ = prior._likelihood_variable(channels.reshape(len(channels), 1, -1), qs=step)
    bounded = cast(Tensor, prior.likelihood_lower_bound(likelihoods))
    return bounded.reshape(channels.shape).transpose(0, 1)
