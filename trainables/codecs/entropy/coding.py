"""What happens to values when an entropy model is walked: they are estimated, written or read.

Quantisation, symbols and their distributions are here once for all codecs.

Shapes: B images, C channels, h x w positions.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from compressai.entropy_models import EntropyBottleneckVbr, GaussianConditional
from torch import Tensor

from trainables.codecs.entropy.bitstream import SymbolReader, SymbolWriter
from trainables.codecs.entropy.tables import Bottleneck, CodingTables, channel_rows, scale_rows

Likelihoods = dict[str, Tensor]


class Coding(Protocol):
    """What happens to values on a walk."""

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
        ...

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
        ...


class Estimate:
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

    def gaussian(
        self, prior: GaussianConditional, y: Tensor | None, scales: Tensor, means: Tensor | None
    ) -> Tensor:
        """See `Coding`."""
        assert y is not None
        if self._likelihoods_too:
            y_hat, likelihoods = prior(y, scales, means, training=False)
            self._keep("y", likelihoods)
        else:
            y_hat = _symbols(y, means)
            y_hat = y_hat if means is None else y_hat + means
        # In one memory format here and in the decoder: convolutions round differently by format,
        # and a scale on the other side of a table's step is another distribution.
        return cast(Tensor, y_hat.contiguous())

    def bottleneck(
        self,
        prior: Bottleneck,
        z: Tensor | None,
        shape: torch.Size,
        part: str,
        step: Tensor | None = None,
    ) -> Tensor:
        """See `Coding`."""
        assert z is not None
        medians = medians_of(prior)
        z_hat = _stepped(_steps(z, medians, step), medians, step)
        if self._likelihoods_too:
            if step is None:
                _, likelihoods = prior(z, training=False)
            else:
                likelihoods = step_likelihoods(prior, z_hat, step)
            self._keep(part, likelihoods)
        return z_hat.contiguous()

    def _keep(self, part: str, likelihoods: Tensor) -> None:
        self._parts.setdefault(part, []).append(likelihoods.flatten(1))


class Write(Estimate):
    """Quantises, keeps the likelihoods, and writes the symbols."""

    def __init__(self, tables: CodingTables) -> None:
        super().__init__()
        self._tables = tables
        self.writer = SymbolWriter()

    def gaussian(
        self, prior: GaussianConditional, y: Tensor | None, scales: Tensor, means: Tensor | None
    ) -> Tensor:
        """See `Coding`."""
        assert y is not None
        symbols = _symbols(y, means).int()
        self.writer.write(self._tables.gaussian, scale_rows(scales), symbols)
        return super().gaussian(prior, y, scales, means)

    def bottleneck(
        self,
        prior: Bottleneck,
        z: Tensor | None,
        shape: torch.Size,
        part: str,
        step: Tensor | None = None,
    ) -> Tensor:
        """See `Coding`."""
        assert z is not None
        symbols = _steps(z, medians_of(prior), step).int()
        self.writer.write(self._tables.bottlenecks[prior], channel_rows(shape), symbols)
        return super().bottleneck(prior, z, shape, part, step)


class Read:
    """Reads the symbols of values that are not known.

    Args:
        tables: those that the symbols were written with.
        reader: of the symbols.
        device: of the values.
    """

    def __init__(self, tables: CodingTables, reader: SymbolReader, device: torch.device) -> None:
        self._tables = tables
        self._device = device
        self.reader = reader

    def gaussian(
        self, prior: GaussianConditional, y: Tensor | None, scales: Tensor, means: Tensor | None
    ) -> Tensor:
        """See `Coding`."""
        symbols = self.reader.read(self._tables.gaussian, scale_rows(scales))
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
        """See `Coding`."""
        symbols = self.reader.read(self._tables.bottlenecks[prior], channel_rows(shape))
        return _stepped(symbols.to(self._device, torch.float32), medians_of(prior), step)


def _symbols(values: Tensor, means: Tensor | None) -> Tensor:
    return torch.round(values if means is None else values - means)


def _steps(z: Tensor, medians: Tensor, step: Tensor | None) -> Tensor:
    """Hyper-latents as whole numbers of steps from the medians; a step is 1 unless given."""
    return _symbols(z, medians) if step is None else torch.round((z - medians) / step)


def _stepped(symbols: Tensor, medians: Tensor, step: Tensor | None) -> Tensor:
    return symbols + medians if step is None else symbols * step + medians


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
