"""Multi-head attention as the blocks of CLIP and SigLIP have it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def multi_head_attention(
    query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float | None = None
) -> Tensor:
    """Attention of some tokens to others, head by head, before the output projection.

    Args:
        query: (B, Q, D).
        key, value: (B, T, D).
        heads: a divisor of D.
        scale: of the products; None for (D / heads) ** -0.5.

    Returns:
        (B, Q, D).
    """
    B, Q, D = query.shape
    # (B, heads, tokens, D / heads)
    query, key, value = (
        x.reshape(B, -1, heads, D // heads).transpose(1, 2) for x in (query, key, value)
    )
    attended = F.scaled_dot_product_attention(query, key, value, scale=scale)
    return attended.transpose(1, 2).reshape(B, Q, D)
