"""The state of a training beside its context: written to a checkpoint, and read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from trainables.points.learning import Learner

_FILE = "checkpoint.pt"


@dataclass
class TrainingState:
    """How far a training is, and the best weights so far.

    Attributes:
        step: steps done.
        seconds: spent training, over all resumptions.
        best: the trained weights with the lowest validation loss so far, on the CPU.
        best_metrics: what validation gave for these weights, by name.
    """

    step: int = 0
    seconds: float = 0.0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)


def write_checkpoint(
    directory: Path, state: TrainingState, learner: Learner, optimiser: torch.optim.Optimizer
) -> None:
    """Write state, trained weights and optimiser to a directory."""
    content = {
        "trained": learner.trained(),
        "optimiser": optimiser.state_dict(),
        "step": state.step,
        "seconds": state.seconds,
        "best": state.best,
        "best_metrics": state.best_metrics,
    }
    torch.save(content, directory / _FILE)


def read_checkpoint(
    directory: Path, learner: Learner, optimiser: torch.optim.Optimizer, device: torch.device
) -> TrainingState:
    """Read a checkpoint into a learner and an optimiser on `device`; return the state."""
    content = torch.load(directory / _FILE, map_location=device, weights_only=True)
    learner.load_trained(content["trained"])
    optimiser.load_state_dict(content["optimiser"])
    return TrainingState(
        content["step"], content["seconds"], content["best"], content["best_metrics"]
    )
