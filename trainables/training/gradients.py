"""The gradients of one training step: slices of a worker's batch, and sums over workers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn

from search_spaces.specs.training import Optimiser
from trainables.arithmetic.precision import fast
from trainables.datasets.rows import Batch
from trainables.training.context import Context
from trainables.training.noise import RowsOfBatch


def accumulate_gradients(
    model: nn.Module,
    batch: Batch,
    step: int,
    spec: Optimiser,
    context: Context,
    seed: int,
) -> dict[str, Tensor]:
    """Add up the gradients of a worker's batch, slice by slice.

    Slices, and the batches of workers, may differ by an image. Therefore the loss of each slice is
    weighted by its share of the global batch: the mean over workers is that of the global batch.

    Args:
        model: a learner, as the context has prepared it.
        batch: the worker's rows of the global batch.
        step: 0 ..

    Returns:
        The worker's weighted loss terms by name.
    """
    terms_of_worker: dict[str, Tensor] = {}
    slices = batch.split(spec.accumulate * context.accumulation_factor)
    for number, part in enumerate(slices):
        share = len(part) * context.world_size / spec.batch_size
        bf16 = torch.autocast(context.device.type, torch.bfloat16, spec.precision == "bf16")
        whole = len(part) == spec.batch_size
        noise = RowsOfBatch(part.positions, spec.batch_size)
        parallel: Any = model  # where there are several workers it averages their gradients
        apart = context.world_size > 1 and number < len(slices) - 1
        _seed_step(seed, step)
        with fast(), parallel.no_sync() if apart else contextlib.nullcontext():
            with bf16, contextlib.nullcontext() if whole else noise:
                terms: dict[str, Tensor] = model(part, step)
            objective = share * (terms["loss"] + terms.get("aux", 0.0))
            objective.backward()  # type: ignore[no-untyped-call]
        for name, value in terms.items():
            weighted = share * value.detach().double()
            terms_of_worker[name] = terms_of_worker.get(name, 0.0) + weighted
    return terms_of_worker


def global_means(terms_of_worker: Mapping[str, Tensor], context: Context) -> dict[str, float]:
    """A step's loss terms, means over the global batch."""
    terms = terms_of_worker
    if context.world_size > 1:
        sums = sum_over_workers(terms_of_worker, context)
        terms = {name: value / context.world_size for name, value in sums.items()}
    return as_numbers(terms)


def as_numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars on one device as numbers, for which the device is waited for once."""
    if not values:
        return {}
    numbers: list[float] = torch.stack([value.double() for value in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))


def sum_over_workers(values: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """Sums of scalars by name; a name that a worker lacks counts as 0 there."""
    names: list[Any] = [None] * context.world_size
    # A worker without a validation batch has no names.
    torch.distributed.all_gather_object(names, sorted(values))
    everything = sorted(set().union(*names))
    zero = torch.zeros((), dtype=torch.float64, device=context.device)
    stacked = torch.stack([values.get(name, zero) for name in everything])
    torch.distributed.all_reduce(stacked)
    return dict(zip(everything, stacked, strict=True))


def _seed_step(seed: int, step: int) -> None:
    """Make the random numbers of a step (a codec's noise) independent of earlier steps."""
    words = np.random.SeedSequence((seed, step)).generate_state(2)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))
