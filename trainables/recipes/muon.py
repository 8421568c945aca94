"""Muon (Jordan et al., 2024) in single precision: orthogonalised momentum for the hidden matrices
of a small ViT.

`torch.optim.Muon` works in bfloat16, which this recipe's CPUs emulate, and one matrix at a time;
here matrices of equal shape are orthogonalised in one batched product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of (n, rows, columns) matrices, rows <= columns, near 1 by Newton-
    Schulz iterations."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Momentum 0.95 with Nesterov; the update is scaled to AdamW's usual size (0.2 sqrt(max side)),
    so that both share one learning rate.

    Args:
        params: 2-d parameters.
        lr: learning rate.
        weight_decay: decoupled.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of all parameters."""
        assert closure is None
        for group in self.param_groups:
            stacks: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state: dict[str, Any] = self.state[p]
                momentum = state.setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 0.05)
                update = p.grad.lerp(momentum, 0.95)
                wide = update if update.shape[0] <= update.shape[1] else update.T
                stacks.setdefault((wide.shape[0], wide.shape[1]), []).append((p, wide))
            for (_, columns), pairs in stacks.items():
                directions = orthogonalise(torch.stack([wide for _, wide in pairs]))
                for (p, _), direction in zip(pairs, directions, strict=True):
                    p.mul_(1.0 - group["lr"] * group["weight_decay"])
                    p.add_(
                        direction if p.shape == direction.shape else direction.T,
                        alpha=-group["lr"] * 0.2 * columns**0.5,
                    )
