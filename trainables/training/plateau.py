"""Trainings that go on until their validation loss stands still.

validation losses --> stands still: the learning rate drops --> stands still again: the end
"""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.specs.training import Optimiser
from trainables.training.checkpoint import TrainingState


def stands_still(losses: Sequence[float], patience: int, least_progress: float) -> bool:
    """Whether the last `patience` losses are no progress on the lowest one before them.

    Args:
        losses: of successive validations, all above 0.
        patience: number of losses that must be there without progress.
        least_progress: share of the lowest loss by which a lower one is progress.
    """
    if len(losses) <= patience:
        return False
    return min(losses[-patience:]) > min(losses[:-patience]) * (1.0 - least_progress)


def follow_validation(state: TrainingState, spec: Optimiser, counts_from: int) -> None:
    """Note in the state, after a validation, that the learning rate drops or the training ends.

    Args:
        counts_from: step before which validations are not compared, because the training loss has
            another formula there.
    """
    if spec.until != "plateau":
        return
    latest = spec.lr_drop_at * spec.steps
    if state.dropped_at is None and state.step >= latest:
        state.dropped_at = state.step
    since = max(counts_from, state.dropped_at or 0)
    losses = [loss for step, loss in state.validations if step > since]
    if not stands_still(losses, spec.patience, spec.least_progress):
        return
    if state.dropped_at is None:
        state.dropped_at = state.step
    else:
        state.stands_still = True


def fall_of_last_quarter(state: TrainingState) -> float | None:
    """The share by which the lowest validation loss fell in the last quarter of the steps.

    Returns:
        In [0, 1); None where nothing was validated before that quarter.
    """
    early = [loss for step, loss in state.validations if step <= 0.75 * state.step]
    if not early:
        return None
    return max(0.0, 1.0 - min(loss for _, loss in state.validations) / min(early))
