"""The losses of packed sequences: answers, and where attention looks.

Shapes: `B` sequences, `L` positions.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlavaForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from trainables.recipes.common import IMAGE_ID
from trainables.recipes.packing import IGNORE, Packed

WIDTH: Final = 128
"""Of the text model."""
COPY_AT: Final = 3
"""The text layer behind which an attention head is told where to look."""


def run_packed(model: LlavaForConditionalGeneration, batch: Packed) -> tuple[Any, Tensor, float]:
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


def look_loss(language: Any, hidden: Tensor, batch: Packed, head: int, hit: Tensor) -> Tensor:
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
