"""An MLLM's own visual tower as the teacher, of whatever form: entered, and left where it is read.

    pixels -> the tower's own code up to block 0 -> hidden 0
    hidden k -> entered at block k -> the tower's own blocks k .. -> hidden state that is wanted

Nothing is known here of how a tower is made: `bridge.py` finds its blocks, and its own forward pass
runs. Its hidden states are all there is of it: it pools nothing and knows no text.

Shapes: `B` images, `S` side of the input in pixels, `T` tokens, `D` width.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.facts.encoders import EncoderSizes
from trainables.encoders.bridge import blocks_skipped_from, entered, hidden_at, parts_of
from trainables.encoders.pretrained import Preprocessing
from trainables.encoders.tower import Blocks, Tower


class GenericTower(Tower):
    """An MLLM's visual tower of a form that is neither CLIP's nor SigLIP's.

    Args:
        tower: it.
        sizes: its sizes.
        preprocessing: how it wants images.
    """

    def __init__(self, tower: nn.Module, sizes: EncoderSizes, preprocessing: Preprocessing) -> None:
        parts = parts_of(tower)
        self.model: Any = tower
        self.sizes = sizes
        self.preprocess = preprocessing
        self.embeddings = parts.stem
        self.pre_norm = parts.between[0] if parts.between else None
        self.blocks = parts.blocks

    def stem(self) -> nn.Module:
        """Pixels to hidden state 0."""
        return _Stem(self.model)

    def body(self, first: int) -> Blocks:
        """Blocks `first` .. end."""
        return _Entered(self.model, first, self.sizes.image_size)

    def pool(self, double_norm: bool = False) -> None:
        """It pools nothing."""
        return


class _Stem(nn.Module):
    """(B, 3, S, S) -> hidden state 0, (B, T, D), by the tower's own code."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        with blocks_skipped_from(self.tower, 0):
            return hidden_at(self.tower, 0, lambda: self.tower(pixels))


class _Entered(Blocks):
    """A tower from a block on: what stands before it is not there, the rest is shared."""

    def __init__(self, tower: nn.Module, first: int, side: int) -> None:
        super().__init__()
        self._side = side
        shared = {id(tensor): tensor for tensor in (*tower.parameters(), *tower.buffers())}
        self.tower: nn.Module = copy.deepcopy(tower, shared)
        parts = parts_of(self.tower)
        skipped = (parts.stem, *parts.between, *parts.blocks[:first])
        for parent in list(self.tower.modules()):
            for name, child in list(parent.named_children()):
                if any(child is module for module in skipped):
                    # Never run; it stays in its place, so that the others keep their numbers.
                    setattr(parent, name, nn.Identity())

    def forward(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        if start == stop:
            return hidden
        blank = torch.zeros(len(hidden), 3, self._side, self._side, device=hidden.device)
        with entered(self.tower, start, hidden), blocks_skipped_from(self.tower, stop):
            return hidden_at(self.tower, stop, lambda: self.tower(blank))
