"""The training loop that recipes share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.recipes.common import load_checkpoint, save_checkpoint, warmup_cosine

LOG_EVERY = 25
StepLoss = tuple[Tensor, Mapping[str, float]]
"""The loss of a step, and values that are logged as means."""


def muon_of(
    matrices: Sequence[nn.Parameter], lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Muon for the hidden matrices of a small transformer; its updates have AdamW's usual size, so
    that both share a learning rate. Needs torch 2.9."""
    return torch.optim.Muon(
        matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
    )


@dataclass(frozen=True)
class Schedule:
    """How many steps, and what happens at which.

    Attributes:
        steps: of the whole training.
        lr: the learning rate after warm-up.
        warmup: steps of the linear warm-up.
        save_every: steps between two checkpoints.
    """

    steps: int
    lr: float
    warmup: int
    save_every: int


def run_steps(
    modules: Mapping[str, nn.Module],
    parameters: Sequence[nn.Parameter],
    optimisers: Sequence[torch.optim.Optimizer],
    schedule: Schedule,
    checkpoint: Path,
    step_loss: Callable[[int], StepLoss],
    after_save: Callable[[int], None] = lambda steps: None,
) -> None:
    """Train to the end, continuing from the checkpoint when it exists.

    Args:
        modules: what checkpoints hold, by name.
        parameters: their gradient is clipped to norm 1.
        optimisers: of the parameters, and of others that are not clipped; groups with an entry
            `constant` keep their learning rate.
        step_loss: step (0 ..) -> its loss.
        after_save: called with the number of finished steps after each checkpoint.
    """
    log = logging.getLogger(checkpoint.stem)
    step, spent = _resume(modules, optimisers, checkpoint, log)
    started = time.monotonic() - spent
    totals: dict[str, float] = {}
    while step < schedule.steps:
        factor = warmup_cosine(step, schedule.steps, schedule.warmup)
        for optimiser in optimisers:
            optimiser.zero_grad()
            for group in optimiser.param_groups:
                group["lr"] = group["lr"] if "constant" in group else schedule.lr * factor
        loss, values = step_loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        totals = {name: totals.get(name, 0.0) + value for name, value in values.items()}
        seconds = time.monotonic() - started
        if step % LOG_EVERY == 0:
            means = ", ".join(f"{name} {total / LOG_EVERY:.3f}" for name, total in totals.items())
            log.info("step %d: %s; %.2f s/step", step, means, seconds / step)
            totals.clear()
        if step % schedule.save_every == 0 or step == schedule.steps:
            state = {name: module.state_dict() for name, module in modules.items()}
            states = [optimiser.state_dict() for optimiser in optimisers]
            save_checkpoint(
                checkpoint, {**state, "optimisers": states, "step": step, "spent": seconds}
            )
            after_save(step)


def _resume(
    modules: Mapping[str, nn.Module],
    optimisers: Sequence[torch.optim.Optimizer],
    checkpoint: Path,
    log: logging.Logger,
) -> tuple[int, float]:
    """Load a checkpoint where there is one; the steps and seconds it is worth."""
    if (state := load_checkpoint(checkpoint)) is None:
        return 0, 0.0
    for name, module in modules.items():
        module.load_state_dict(state[name])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    log.info("continuing at step %d", state["step"])
    return state["step"], state["spent"]
