"""The training loop of base codecs and of every scenario that trains something.

    learner (points/learning.py) + rows (datasets/rows.py)
        -> batches, gradients.py, steps, validation -> best weights, info.json

The loop reports to a `Context` and resumes from the checkpoint that the context kept. A checkpoint
holds the trained weights, the optimiser, the step and the best weights so far. The schedule, the
order of the data and the random numbers of a step are functions of (seed, step), so a run that
was interrupted equals one that was not, bit for bit on one machine. Several workers, and batches in
slices, equal one worker with whole batches except for rounding.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from search_spaces.specs.training import Optimiser
from trainables.arithmetic.precision import exact
from trainables.datasets.batches import Batches, InTurn, in_order
from trainables.datasets.images.files import write_json
from trainables.datasets.read_ahead import read_ahead
from trainables.datasets.rows import Rows
from trainables.points.learning import Group, Learner
from trainables.training.checkpoint import TrainingState, resume, write_checkpoint
from trainables.training.context import Context
from trainables.training.gradients import (
    accumulate_gradients,
    as_numbers,
    global_means,
    sum_over_workers,
)
from trainables.training.plateau import fall_of_last_quarter, follow_validation

INFO_FILE: Final = "info.json"
"""Of a training: what it reached, how long it was, and from what."""
REPORT_EVERY = 10
"""Steps between two rows of the training curve."""


class Diverged(RuntimeError):  # noqa: N818 - what happened, in one word
    """The loss or its gradient is not a finite number."""


def fit(
    learner: Learner,
    spec: Optimiser,
    rows: Sequence[Rows],
    validation: Sequence[Rows],
    out: Path,
    context: Context,
    seed: int,
    about: Mapping[str, Any],
) -> Mapping[str, Tensor]:
    """Train a learner; write `out/info.json`.

    Args:
        learner: at its start.
        spec: steps, batch size, learning rate and the like.
        rows: to train on; of several, each step reads one, in turn.
        validation: rows of the validation loss.
        out: directory of `info.json`.
        context: where to report, and what to resume from.
        seed: of the data's order and of a step's random numbers.
        about: further entries of `info.json`.

    Returns:
        The trained weights that `spec.keep` names, by `Learner.validate`, on the CPU.

    Raises:
        Diverged: the loss, or its gradient, is no longer finite.
    """
    batches = _batches(rows, spec, seed, context)
    model = context.prepare(learner.to(context.device).train())
    groups = learner.groups()
    optimiser = torch.optim.Adam([{"params": g.parameters, "lr": g.lr} for g in groups], fused=True)
    state = resume(context, learner, optimiser)
    reporter = _Reporter(context, spec, state)
    steps = range(state.step, state.step if state.stands_still else spec.steps)
    staged = (batches.read(step).staged(context.device) for step in steps)
    with closing(read_ahead(staged)) as reader:
        for step, batch in zip(steps, reader, strict=True):
            _set_learning_rates(optimiser, groups, spec, state)
            optimiser.zero_grad(set_to_none=True)
            terms = accumulate_gradients(model, batch.to(context.device), step, spec, context, seed)
            _clip_gradients(groups, terms, spec, step)
            optimiser.step()
            state.step = step + 1
            metrics: dict[str, float] = {}
            if state.step % spec.validate_every == 0 or state.step == spec.steps:
                metrics = _validate_and_keep(learner, validation, spec, context, state)
            last = state.stands_still or state.step == spec.steps
            notice = context.must_checkpoint(state.step)
            save = notice or last or state.step % spec.checkpoint_every == 0
            if state.step % REPORT_EVERY == 0 or metrics or save:
                reporter.report(metrics, terms, learner, optimiser, save)
            if last:
                break
    if context.rank == 0:
        write_info(out, {**_info(state, spec), **about})
    return state.best


def _batches(rows: Sequence[Rows], spec: Optimiser, seed: int, context: Context) -> InTurn:
    """This worker's training batches; of several sources, each step reads one, in turn."""
    # Each of several sources has a group of shards in memory: two would be too many.
    order = spec.batch_size, seed, context.rank, context.world_size
    return InTurn([Batches(part, *order, ahead=len(rows) == 1) for part in rows])


def learning_rate_factor(spec: Optimiser, step: int, dropped_at: int | None = None) -> float:
    """The factor of the learning rate at step `step` (0 ..), in [0, 1].

    Args:
        dropped_at: step of an earlier drop than `spec` has.
    """
    warm = min(1.0, (step + 1) / (spec.warmup_steps + 1))
    first = spec.lr_drop_at * spec.steps if dropped_at is None else dropped_at
    if step < first:
        return warm
    if spec.lr_decay == "step":
        return warm * spec.lr_drop
    gone = (step - first) / max(spec.steps - first, 1.0)
    return warm * (1.0 - gone * (1.0 - spec.lr_drop))


def _set_learning_rates(
    optimiser: torch.optim.Optimizer, groups: Sequence[Group], spec: Optimiser, state: TrainingState
) -> None:
    factor = learning_rate_factor(spec, state.step, state.dropped_at)
    for group, options in zip(groups, optimiser.param_groups, strict=True):
        options["lr"] = group.lr * (factor if group.main else 1.0)


def _clip_gradients(
    groups: Sequence[Group], terms: Mapping[str, Tensor], spec: Optimiser, step: int
) -> None:
    """Clip the gradient of the main parameters to the norm `spec.grad_clip`, if it is set.

    Raises:
        Diverged: a loss or the gradient's norm is not finite.
    """
    main = [parameter for group in groups if group.main for parameter in group.parameters]
    norm = nn.utils.clip_grad_norm_(main, spec.grad_clip or math.inf)
    values = as_numbers({"norm": norm, **terms})
    checked = ("norm", "loss", "aux")
    if not all(math.isfinite(values.get(name, 0.0)) for name in checked):
        raise Diverged(f"at step {step + 1} the loss is {values['loss']}")


def _validate_and_keep(
    learner: Learner,
    validation: Sequence[Rows],
    spec: Optimiser,
    context: Context,
    state: TrainingState,
) -> dict[str, float]:
    """Validate; the weights become the state's best if their loss is the lowest so far, or if the
    last weights are to be kept.

    In a training until a plateau, the state says afterwards whether the loss stands still.

    Returns:
        The validation's values as `val_*`.

    Raises:
        Diverged: a value is not finite.
    """
    values = validate(learner, validation, spec.batch_size, context)
    if not all(math.isfinite(value) for value in values.values()):
        raise Diverged(f"after step {state.step} the validation gives {values}")
    state.validations.append((state.step, values["loss"]))
    follow_validation(state, spec, learner.settles_at(spec.steps))
    is_lowest = not state.best or values["loss"] < state.best_metrics["loss"]
    if is_lowest or spec.keep == "last":
        trained = learner.trained()
        state.best = {name: value.to("cpu", copy=True) for name, value in trained.items()}
        state.best_metrics = values
    return {f"val_{name}": value for name, value in values.items()}


@torch.no_grad()
def validate(
    learner: Learner, sources: Sequence[Rows], batch_size: int, context: Context
) -> dict[str, float]:
    """Means of `Learner.validate` over all rows, the same on every worker.

    Computed exactly, whatever the precision of the training: it chooses weights, is recorded, and
    compares trainings of several precisions and machines. `validate_every` bounds what it costs.
    """
    learner.eval()
    sums: dict[str, Tensor] = {}
    ordered = (in_order(rows, batch_size, context.rank, context.world_size) for rows in sources)
    staged = (batch.staged(context.device) for batch in itertools.chain.from_iterable(ordered))
    with exact(context.device), closing(read_ahead(staged)) as reader:
        for batch in reader:
            terms = learner.validate(batch.to(context.device))
            for name, value in terms.items():
                value = value.double() * len(batch)
                sums[name] = sums[name] + value if name in sums else value
    learner.train()
    if context.world_size > 1:
        sums = sum_over_workers(sums, context)
    total = sum(len(rows) for rows in sources)
    return {name: value / total for name, value in as_numbers(sums).items()}


class _Reporter:
    """Reports a training's metrics to its context, with checkpoints, and counts its seconds."""

    def __init__(self, context: Context, spec: Optimiser, state: TrainingState) -> None:
        self._context, self._spec, self._state = context, spec, state
        self._seconds_before, self._started = state.seconds, time.monotonic()
        self._last_step, self._last_time = state.step, self._started

    def report(
        self,
        validation: Mapping[str, float],
        terms: Mapping[str, Tensor],
        learner: Learner,
        optimiser: torch.optim.Optimizer,
        save: bool,
    ) -> None:
        """Report the metrics of a step.

        Args:
            validation: `val_*` of the step; empty where it was not validated.
            terms: the worker's loss terms of the step.
            save: whether rank 0 writes a checkpoint.
        """
        state, spec = self._state, self._spec
        metrics = {**validation, **global_means(terms, self._context)}
        now = time.monotonic()
        images = (state.step - self._last_step) * spec.batch_size
        metrics["images_per_s"] = images / max(now - self._last_time, 1e-9)
        metrics["lr"] = optimiser.param_groups[0]["lr"]
        steps = state.step if state.stands_still else spec.steps
        metrics |= {"step": state.step, "steps": steps}
        state.seconds = self._seconds_before + now - self._started
        if save and self._context.rank == 0:
            self._report_checkpoint(metrics, learner, optimiser)
        else:
            self._context.report(metrics)
        self._last_step, self._last_time = state.step, time.monotonic()

    def _report_checkpoint(
        self, metrics: Mapping[str, float], learner: Learner, optimiser: torch.optim.Optimizer
    ) -> None:
        with tempfile.TemporaryDirectory(
            prefix="checkpoint-", ignore_cleanup_errors=True
        ) as directory:
            write_checkpoint(Path(directory), self._state, learner, optimiser)
            self._context.report(metrics, Path(directory))


def _info(state: TrainingState, spec: Optimiser) -> dict[str, Any]:
    """`info.json` of a training: best validation values, how long it was, parameters by module."""
    by_module: dict[str, int] = {}
    for name, value in state.best.items():
        module = name.split(".")[0]
        by_module[module] = by_module.get(module, 0) + value.numel()
    return {
        **{f"val_{name}": value for name, value in state.best_metrics.items()},
        "steps": state.step,
        "images": state.step * spec.batch_size,
        "until": "plateau" if state.stands_still else "steps",
        "fall_of_last_quarter": fall_of_last_quarter(state),
        "seconds": state.seconds,
        "parameters": {"trained": sum(by_module.values()), **by_module},
    }


def write_info(out: Path, info: Mapping[str, Any]) -> None:
    """Write `info.json` of a training to its directory.

    Raises:
        ValueError: a number is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / INFO_FILE, dict(info), indent=2)
