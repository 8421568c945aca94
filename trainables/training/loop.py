"""The one training loop, for base codecs and for every scenario that trains something.

    learner (points/learning.py) + rows (datasets/rows.py)
        -> batches, steps, validation -> best weights, info.json

The loop reports to a `Context` and resumes from the checkpoint that the context kept. A checkpoint
holds the trained weights, the optimiser, the step and the best weights so far. The schedule, the
order of the data and the random numbers of a step are functions of (seed, step), so a run that
was interrupted equals one that was not, bit for bit on one machine. Several workers, and batches in
slices, equal one worker with whole batches but for rounding.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn

from search_spaces.specs.training import Optimiser
from trainables.datasets.batches import Batches, InTurn, in_order
from trainables.datasets.rows import Batch, Rows
from trainables.points.learning import Group, Learner
from trainables.training.context import Context
from trainables.training.noise import RowsOfBatch

REPORT_EVERY = 10
"""Steps between two rows of the training curve."""
_CHECKPOINT_FILE = "checkpoint.pt"


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
    told: Mapping[str, Any] | None = None,
) -> Mapping[str, Tensor]:
    """Train a learner; write `out/info.json`.

    Args:
        learner: at its start.
        spec: how long and fast.
        rows: to train on; of several, a step reads one, in turn.
        validation: to choose the weights by.
        out: directory.
        context: where to report, and what to resume from.
        seed: of the data's order and of a step's random numbers.
        told: what `info.json` says besides.

    Returns:
        The trained weights with the lowest validation loss (`Learner.validate`), on the CPU.

    Raises:
        Diverged: the loss, or its gradient, is no longer finite.
    """
    batches = InTurn(
        [Batches(one, spec.batch_size, seed, context.rank, context.world_size) for one in rows]
    )
    learner = learner.to(context.device)
    model = context.prepare(learner)
    groups = learner.groups()
    main = [parameter for group in groups if group.main for parameter in group.parameters]
    optimiser = torch.optim.Adam(
        [{"params": group.parameters, "lr": group.lr} for group in groups], fused=True
    )
    state = _State()
    if (checkpoint := context.latest_checkpoint()) is not None:
        state = _load(checkpoint, learner, optimiser, context.device)
    learner.train()
    resumed, clock = state.seconds, time.monotonic()
    reported = state.step, clock
    while state.step < spec.steps:
        _set_rates(optimiser, groups, spec, state.step)
        batch = batches.read(state.step).to(context.device)

        optimiser.zero_grad(set_to_none=True)
        terms = _backward(model, batch, batches.first, state.step, spec, context, seed)
        norm = torch.nn.utils.clip_grad_norm_(main, spec.grad_clip or math.inf)
        finite = [norm, terms["loss"], terms.get("aux", norm)]
        if not all(math.isfinite(value.item()) for value in finite):
            raise Diverged(f"at step {state.step + 1} the loss is {terms['loss'].item()}")
        optimiser.step()
        state.step += 1

        metrics: dict[str, float] = {}
        last = state.step == spec.steps
        if state.step % spec.validate_every == 0 or last:
            found = validate(learner, validation, spec.batch_size, context)
            if not all(math.isfinite(value) for value in found.values()):
                raise Diverged(f"after step {state.step} the validation gives {found}")
            if not state.best or found["loss"] < state.best_metrics["loss"]:
                state.best = {n: v.to("cpu", copy=True) for n, v in learner.trained().items()}
                state.best_metrics = found
            metrics |= {f"val_{name}": value for name, value in found.items()}
        save = state.step % spec.checkpoint_every == 0 or last
        if state.step % REPORT_EVERY == 0 or metrics or save:
            metrics |= _means(terms, context)
            now = time.monotonic()
            images = (state.step - reported[0]) * spec.batch_size
            metrics["images_per_s"] = images / max(now - reported[1], 1e-9)
            metrics["lr"] = optimiser.param_groups[0]["lr"]
            metrics |= {"step": state.step, "steps": spec.steps}
            state.seconds = resumed + now - clock
            _report(context, metrics, state if save else None, learner, optimiser)
            reported = state.step, time.monotonic()

    if context.rank == 0:
        parts: dict[str, int] = {}
        for name, value in state.best.items():
            part = name.split(".")[0]
            parts[part] = parts.get(part, 0) + value.numel()
        info = {f"val_{name}": value for name, value in state.best_metrics.items()}
        counts = {"trained": sum(parts.values()), **parts}
        info |= {"steps": state.step, "seconds": state.seconds}
        write_info(out, {**info, "parameters": counts, **(told or {})})
    return state.best


def _backward(
    model: nn.Module,
    batch: Batch,
    first: int,
    step: int,
    spec: Optimiser,
    context: Context,
    seed: int,
) -> dict[str, Tensor]:
    """Add up the gradients of a worker's batch, slice by slice; returns its share of each term.

    Shares are weighted so that their mean over the workers is the mean over the global batch:
    slices, and workers' batches, may differ by an image.

    Args:
        first: row of the global batch that the worker's begins with.
    """
    shares: dict[str, Tensor] = {}
    slices = batch.split(spec.accumulate)
    for number, part in enumerate(slices):
        share = len(part) * context.world_size / spec.batch_size
        bf16 = torch.autocast(context.device.type, torch.bfloat16, spec.precision == "bf16")
        whole = len(part) == spec.batch_size
        noise = RowsOfBatch(first, len(part), spec.batch_size)
        parallel: Any = model  # where there are several workers it averages their gradients
        apart = context.world_size > 1 and number < len(slices) - 1
        _seed_step(seed, step)
        with parallel.no_sync() if apart else contextlib.nullcontext():
            with bf16, contextlib.nullcontext() if whole else noise:
                terms: dict[str, Tensor] = model(part, step)
            objective = share * (terms["loss"] + terms.get("aux", 0.0))
            objective.backward()  # type: ignore[no-untyped-call]
        for name, value in terms.items():
            shares[name] = shares.get(name, 0.0) + share * value.detach().double()
        first += len(part)
    return shares


@dataclass
class _State:
    """Where a training stands, beside its weights and optimiser."""

    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    """Spent training, over all resumptions."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """The trained weights with the lowest validation loss so far, on the CPU."""
    best_metrics: dict[str, float] = field(default_factory=dict)


def _seed_step(seed: int, step: int) -> None:
    """Random numbers of a step (a codec's noise) depend on nothing before it."""
    words = np.random.SeedSequence((seed, step)).generate_state(2)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))


def learning_rate_factor(spec: Optimiser, step: int) -> float:
    """What the learning rate of step `step` (0 ..) is multiplied by."""
    warm = min(1.0, (step + 1) / (spec.warmup_steps + 1))
    first = spec.lr_drop_at * spec.steps
    if step < first:
        return warm
    if spec.lr_decay == "step":
        return warm * spec.lr_drop
    gone = (step - first) / max(spec.steps - first, 1.0)
    return warm * (1.0 - gone * (1.0 - spec.lr_drop))


def _set_rates(
    optimiser: torch.optim.Optimizer, groups: list[Group], spec: Optimiser, step: int
) -> None:
    factor = learning_rate_factor(spec, step)
    for group, options in zip(groups, optimiser.param_groups, strict=True):
        options["lr"] = group.lr * (factor if group.main else 1.0)


@torch.no_grad()
def validate(
    learner: Learner, sources: Sequence[Rows], batch_size: int, context: Context
) -> dict[str, float]:
    """Means of `Learner.validate` over all rows, the same on every worker."""
    learner.eval()
    sums: dict[str, Tensor] = {}
    ordered = (in_order(one, batch_size, context.rank, context.world_size) for one in sources)
    for batch in itertools.chain.from_iterable(ordered):
        terms = learner.validate(batch.to(context.device))
        for name, value in terms.items():
            value = value.double() * len(batch)
            sums[name] = sums[name] + value if name in sums else value
    learner.train()
    if context.world_size > 1:
        sums = _summed(sums, context)
    total = sum(len(one) for one in sources)
    return {name: value.item() / total for name, value in sums.items()}


def _means(shares: Mapping[str, Tensor], context: Context) -> dict[str, float]:
    """A step's loss terms, means over the global batch."""
    if context.world_size > 1:
        shares = {n: v / context.world_size for n, v in _summed(shares, context).items()}
    return {name: value.item() for name, value in shares.items()}


def _summed(values: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    names: list[Any] = [None] * context.world_size
    # A worker without a validation batch knows no names.
    torch.distributed.all_gather_object(names, sorted(values))
    everything = sorted(set().union(*names))
    zero = torch.zeros((), dtype=torch.float64, device=context.device)
    stacked = torch.stack([values.get(name, zero) for name in everything])
    torch.distributed.all_reduce(stacked)
    return dict(zip(everything, stacked, strict=True))


def _report(
    context: Context,
    metrics: Mapping[str, float],
    state: _State | None,
    learner: Learner,
    optimiser: torch.optim.Optimizer,
) -> None:
    """Report, on rank 0 with a checkpoint of the state where there is one."""
    if state is None or context.rank != 0:
        context.report(metrics)
        return
    with tempfile.TemporaryDirectory(prefix="checkpoint-", ignore_cleanup_errors=True) as made:
        content = {
            "trained": learner.trained(),
            "optimiser": optimiser.state_dict(),
            "step": state.step,
            "seconds": state.seconds,
            "best": state.best,
            "best_metrics": state.best_metrics,
        }
        torch.save(content, Path(made) / _CHECKPOINT_FILE)
        context.report(metrics, Path(made))


def _load(
    checkpoint: Path, learner: Learner, optimiser: torch.optim.Optimizer, device: torch.device
) -> _State:
    content = torch.load(checkpoint / _CHECKPOINT_FILE, map_location=device, weights_only=True)
    learner.load_trained(content["trained"])
    optimiser.load_state_dict(content["optimiser"])
    return _State(content["step"], content["seconds"], content["best"], content["best_metrics"])


def write_info(out: Path, info: Mapping[str, Any]) -> None:
    """Write a training's `info.json`."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dict(info), indent=2, allow_nan=False) + "\n"
    (out / "info.json").write_text(text, encoding="utf-8")
