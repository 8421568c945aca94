"""Quantisation noise of a batch that is trained in parts, on several workers or slice by slice.

    whole batch's noise, drawn by every part from the same seed: | part 0 | part 1 | part 2 |
                                                                      each keeps its rows

What is trained then does not depend on how a batch was divided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class RowsOfBatch(TorchFunctionMode):
    """While this mode is on, uniform noise is drawn for the whole batch and cut to a part's rows.

    Covers all that codecs in training draw: `Tensor.uniform_` and `torch.rand_like`, of
    (B, C, h, w) or, in CompressAI's entropy bottlenecks, of (C, 1, B * h * w), and the
    `Tensor.bernoulli_` of stochastic depth, of (B, 1, 1, 1).

    Args:
        positions: of the part's rows in the whole batch.
        total: number of rows of the whole batch.
    """

    def __init__(self, positions: Sequence[int], total: int) -> None:
        super().__init__()
        self._positions, self._total = list(positions), total

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Cut the noise of functions that draw any; call all other functions as they are."""
        kwargs = kwargs or {}
        if func in (torch.Tensor.uniform_, torch.Tensor.bernoulli_):
            part: Tensor = args[0]
            return part.copy_(self._cut(func(self._whole(part), *args[1:], **kwargs), part))
        if func is torch.rand_like:
            return self._cut(torch.rand_like(self._whole(args[0]), **kwargs), args[0])
        return func(*args, **kwargs)

    def _whole(self, part: Tensor) -> Tensor:
        """An uninitialised tensor for the whole batch's noise."""
        axis, per_row = self._layout(part)
        shape = list(part.shape)
        shape[axis] = self._total * per_row
        return part.new_empty(shape)

    def _cut(self, whole: Tensor, part: Tensor) -> Tensor:
        axis, per_row = self._layout(part)
        numbers = torch.arange(self._total * per_row, device=whole.device)
        rows = numbers.reshape(self._total, per_row)[self._positions]
        return whole.index_select(axis, rows.flatten())

    def _layout(self, part: Tensor) -> tuple[int, int]:
        """The axis that holds the rows, and the number of its places that a row takes."""
        axis = {3: 2, 4: 0}[part.ndim]
        assert part.shape[axis] % len(self._positions) == 0, part.shape
        return axis, part.shape[axis] // len(self._positions)
