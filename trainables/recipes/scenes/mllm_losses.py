"""The losses of the MLLM's recipe: answers, and where attention looks.

Shapes: `B` sequences, `L` positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from trainables.datasets.worlds.scenes.scene import COLOUR_NAMES, DIGITS
from trainables.recipes.common import IMAGE_ID
from trainables.recipes.packed_losses import COPY_AT, WIDTH, look_loss, run_packed
from trainables.recipes.packing import IGNORE
from trainables.recipes.scenes.batches import PackedBatch

# Few-shot needs three things in turn: see what the image shows, carry that to the label behind it,
# find the label that carries the same. Trained to do which: this text layer, and that at
# COPY_AT.
READ_AT: Final = 2


class Heads(nn.Module):
    """Which colour and which digit does a position speak of? Dropped after training.

    One linear map reads them off image tokens, questions' ends and few-shot labels alike, so they
    are written alike, and attention can match one with another.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outputs = len(COLOUR_NAMES) + len(DIGITS)
        self.read = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, self.outputs))
        self.copy = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, self.outputs))

    def loss(self, hidden_states: Sequence[Tensor], batch: PackedBatch) -> Tensor:
        """Colour and digit cross-entropy, READ_AT for few-shot only, COPY_AT for all."""
        layers = [(self.copy, COPY_AT)]
        if bool((batch.classes != IGNORE).any()):
            layers.append((self.read, READ_AT))
        total = torch.zeros(())
        for head, layer in layers:
            known = (batch.colours != IGNORE) | (batch.digits != IGNORE)
            logits = head(hidden_states[layer][known])
            colours, digits = logits.split((len(COLOUR_NAMES), len(DIGITS)), -1)
            for values, truth in ((colours, batch.colours), (digits, batch.digits)):
                total = total + F.cross_entropy(values, truth[known], ignore_index=IGNORE)
        return total


def same_class(batch: PackedBatch) -> Tensor:
    """Few-shot: from where a label is asked to the labels of the same class, (B, L, L)."""
    # A label follows its cue and speaks of the same class.
    stands = (batch.classes != IGNORE) & (batch.classes == batch.classes.roll(1, 1))
    asked = (batch.labels != IGNORE) & (batch.classes != IGNORE) & ~stands
    same = batch.classes[:, :, None] == batch.classes[:, None, :]
    return same & asked[:, :, None] & stands[:, None, :]


def same_quadrant(batch: PackedBatch) -> Tensor:
    """Scenes: from an answer's positions to the image tokens it is to be read from, (B, L, L)."""
    patch = (batch.ids == IMAGE_ID).cumsum(1) - 1
    quadrant = torch.where(batch.ids == IMAGE_ID, patch // 8 // 4 * 2 + patch % 8 // 4, -1)
    return batch.quadrants[:, :, None] == quadrant[:, None, :]


def batch_loss(
    model: LlavaForConditionalGeneration, heads: Heads, batch: PackedBatch
) -> tuple[Tensor, Tensor, float]:
    """Answer loss (mean over answer tokens), auxiliary loss, share of answer tokens right."""
    language: Any = model.model.language_model
    output, loss, right = run_packed(model, batch)
    copied = output.hidden_states[COPY_AT]
    if bool((batch.classes != IGNORE).any()):
        auxiliary = look_loss(language, copied, batch, 0, same_class(batch))
    else:
        auxiliary = look_loss(language, copied, batch, 1, same_quadrant(batch))
    auxiliary = auxiliary + heads.loss(output.hidden_states, batch)
    return loss, auxiliary, right
