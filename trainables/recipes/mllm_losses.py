"""The losses of the MLLM's recipe: answers, and where attention looks.

Shapes: `B` sequences, `L` positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from trainables.datasets.worlds.scenes.scene import COLOUR_NAMES, DIGITS
from trainables.recipes.common import IMAGE_ID
from trainables.recipes.mllm_batches import IGNORE, PackedBatch, PackedTurns

WIDTH = 128
# Few-shot needs three things in turn: see what the image shows, carry that to the label behind it,
# find the label that carries the same. These text layers are trained to do which.
READ_AT, COPY_AT = 2, 3


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


def look_loss(
    language: Any, hidden: Tensor, batch: PackedBatch | PackedTurns, head: int, hit: Tensor
) -> Tensor:
    """How little an attention head behind COPY_AT looks where it should: the mean of
    -log(share of its attention) over the rows that have somewhere to look.

    Args:
        language: the Llama model.
        hidden: (B, L, WIDTH), the hidden state after layer COPY_AT.
        head: index of the attention head.
        hit: (B, L, L), True where the row should look at the column.
    """
    layer = language.layers[COPY_AT]
    size: int = layer.self_attn.head_dim
    part = slice(head * size, (head + 1) * size)
    x = layer.input_layernorm(hidden)
    q, k = (f(x)[..., part].unsqueeze(1) for f in (layer.self_attn.q_proj, layer.self_attn.k_proj))
    q, k = apply_rotary_pos_emb(q, k, *language.rotary_emb(x, position_ids=batch.positions))
    scores = (q @ k.transpose(2, 3))[:, 0] * size**-0.5
    mask = batch.mask[:, 0]
    rows = (hit & mask).any(-1)
    attention = scores[rows].masked_fill(~mask[rows], -torch.inf).log_softmax(-1)
    share: Tensor = attention.masked_fill(~hit[rows], -torch.inf).logsumexp(-1)
    return -share.mean()


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


def run_packed(
    model: LlavaForConditionalGeneration, batch: PackedBatch | PackedTurns
) -> tuple[Any, Tensor, float]:
    """The text model's output for packed sequences, with all hidden states; the mean loss over the
    tokens of answers; and the share of these that are right."""
    inner: Any = model.model
    embedded = inner.get_input_embeddings()(batch.ids)
    projected = inner.multi_modal_projector(batch.images)
    embedded = embedded.masked_scatter((batch.ids == IMAGE_ID).unsqueeze(-1), projected)
    output = inner.language_model(
        inputs_embeds=embedded,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        use_cache=False,
        output_hidden_states=True,
    )
    asked = batch.labels != IGNORE
    logits = model.lm_head(output.last_hidden_state[asked])
    truth = batch.labels[asked]
    right = (logits.argmax(-1) == truth).float().mean().item()
    return output, F.cross_entropy(logits, truth), right


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
