"""The state of a training beside its context: written to a checkpoint, and read back."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor

from trainables.codecs import mismatches
from trainables.points.learning import Learner
from trainables.training.context import Context
from trainables.training.gradients import sum_over_workers
from trainables.training.sealing import STATE_FILE, seal, sealed_step

log = logging.getLogger(__name__)


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


class _Moments(BaseModel, arbitrary_types_allowed=True, extra="forbid"):
    """What Adam keeps of a parameter."""

    step: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


class _Optimiser(BaseModel):
    state: dict[int, _Moments]


class _Content(BaseModel, arbitrary_types_allowed=True):
    trained: dict[str, Tensor]
    optimiser: _Optimiser
    state: TrainingState


def write_checkpoint(
    directory: Path, state: TrainingState, learner: Learner, optimiser: torch.optim.Optimizer
) -> None:
    """Write state, trained weights and optimiser to a directory, and seal it."""
    content = {
        "trained": learner.trained(),
        "optimiser": optimiser.state_dict(),
        **vars(state),
    }
    torch.save(content, directory / STATE_FILE)
    seal(directory, state.step)


def resume(context: Context, learner: Learner, optimiser: torch.optim.Optimizer) -> TrainingState:
    """Read the checkpoint that a context kept into a learner and an optimiser.

    Returns:
        The state that the training goes on from: of its start where a worker has no checkpoint
        that is whole and fits.
    """
    checkpoint = context.latest_checkpoint()
    content = None if checkpoint is None else _read(checkpoint, learner, optimiser)
    if content is None and checkpoint is not None:
        log.warning(
            "%s is damaged, of a version without checksums, or of another training: this training "
            "begins anew",
            checkpoint,
        )
    if not _is_on_all(content is not None, context) or content is None:
        return TrainingState()
    learner.load_trained(content.trained)
    moments = {number: dict(kept) for number, kept in content.optimiser.state.items()}
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})
    return content.state


def _is_on_all(is_here: bool, context: Context) -> bool:
    """Whether something that is here, or is not, is on every worker."""
    if context.world_size == 1:
        return is_here
    found = torch.tensor(float(is_here), dtype=torch.float64, device=context.device)
    return sum_over_workers({"found": found}, context)["found"].item() == context.world_size


def _read(directory: Path, learner: Learner, optimiser: torch.optim.Optimizer) -> _Content | None:
    """The content of a checkpoint, on the CPU; None where it is not whole or does not fit.

    Raises:
        OSError: it cannot be read.
    """
    if sealed_step(directory) is None:
        return None
    try:
        stored = torch.load(directory / STATE_FILE, map_location="cpu", weights_only=True)
        parts = {name: stored.pop(name) for name in ("trained", "optimiser")}
        content = _Content.model_validate({**parts, "state": stored})
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of pickle, of the archive, or of the content's shape
        log.info("%s: %s", directory, error)
        return None
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    fits = all(
        number in range(len(parameters))
        and kept.step.numel() == 1
        and kept.exp_avg.shape == kept.exp_avg_sq.shape == parameters[number].shape
        for number, kept in content.optimiser.state.items()
    )
    known = [content.trained, *([content.state.best] if content.state.best else [])]
    trained = learner.trained()
    return content if fits and not any(mismatches(trained, state) for state in known) else None
