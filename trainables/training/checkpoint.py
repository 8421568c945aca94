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
        best: the trained weights that are kept so far (`Optimiser.keep`), on the CPU.
        best_metrics: what validation gave for these weights, by name.
        validations: (step, loss) of each validation.
        dropped_at: step from which the learning rate is low, in a training until a plateau.
        stands_still: whether such a training is over.
    """

    step: int = 0
    seconds: float = 0.0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)
    validations: list[tuple[int, float]] = field(default_factory=list)
    dropped_at: int | None = None
    stands_still: bool = False


def write_checkpoint(
    directory: Path, state: TrainingState, learner: Learner, optimiser: torch.optim.Optimizer
) -> None:
    """Write state, trained weights and optimiser to a directory."""
    content = {
        "trained": learner.trained(),
        "optimiser": optimiser.state_dict(),
        **vars(state),
    }
    torch.save(content, directory / _FILE)


def read_checkpoint(
    directory: Path, learner: Learner, optimiser: torch.optim.Optimizer
) -> TrainingState:
    """Read a checkpoint into a learner and an optimiser, wherever they are; return the state."""
    content = torch.load(directory / _FILE, map_location="cpu", weights_only=True)
    learner.load_trained(content.pop("trained"))
    optimiser.load_state_dict(content.pop("optimiser"))
    return TrainingState(**content)
