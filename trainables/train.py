"""Training: one loop for base codecs and for every scenario that trains something.

    spec + inputs -> learner (scenarios.py) + batches (data.py) -> loop -> best weights, info.json

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
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn

from search_spaces.codec_spec import CodecSpec
from search_spaces.points import OperatingPoint
from search_spaces.spec import Space
from search_spaces.training_spec import Optimiser
from trainables.codecs import build_codec, load_codec, save_codec, start_codec
from trainables.codecs.tokens import TokenCodec, start_as_projection
from trainables.competitors import FeatureCodingLearner, OracleLearner, read_answers
from trainables.context import Context
from trainables.data import Batch, Batches, InTurn, Rows, in_order
from trainables.mllms import Mllm
from trainables.neck import TransformNeck
from trainables.noise import RowsOfBatch
from trainables.parts import build_neck, build_token_codec, build_unet, complete_encoder
from trainables.points import POINT_FILE, load_neck, released_point, save_trained
from trainables.pretrained import resolve_pretrained
from trainables.scenarios import (
    CodecLearner,
    Group,
    JointLearner,
    Learner,
    NeckLearner,
    UNetLearner,
)
from trainables.teachers import load_tower
from trainables.text import read_text_weights
from trainables.tower import Tower

REPORT_EVERY = 10
"""Steps between two rows of the training curve."""
DEFAULT_SHARD_SIZE = 512
FIT_IMAGES, FIT_BATCH = 512, 64
"""Images, and images at a time, that the start of a neck's linear layer is fitted to."""
_CHECKPOINT_FILE = "checkpoint.pt"
NOTHING_TRAINED = {"steps": 0, "seconds": 0.0, "parameters": {"trained": 0}}
"""The `info.json` of what is used as it is."""


class Diverged(RuntimeError):  # noqa: N818 - what happened, in one word
    """The loss or its gradient is not a finite number."""


@dataclass(frozen=True)
class Inputs:
    """Directories of the stages that a training reads; those it does not need may be None."""

    world: Path
    codec: Path | None = None
    features: Path | None = None
    latents: Path | None = None
    neck: Path | None = None
    """Of the neck that is started from or taken: a d1 point's, or one for all rates."""
    text: Path | None = None
    rates: tuple[Path, ...] = ()
    """Latents of each of the codec's rates, for one neck that serves them all."""


def train_codec(
    codec: CodecSpec, lmbda: float, inputs: Inputs, out: Path, context: Context, seed: int = 0
) -> None:
    """Train a base codec with `bpp + lambda * 255^2 * MSE`; write it to the directory `out`.

    With `codec.train.steps` 0 its weights are written as they are given. A variable-rate codec is
    trained at all its rates, whatever `lmbda`.

    Raises:
        Diverged: the loss is no longer finite.
        ValueError: the weights to start from do not fit the codec.
    """
    torch.manual_seed(seed)
    codec = codec.at(lmbda)
    net = build_codec(codec)
    told: dict[str, Any] = {}
    if codec.weights is not None:
        assert isinstance(codec.weights, str)
        told = {"weights": start_codec(net, resolve_pretrained(codec.weights))}
    if codec.train.steps == 0:
        if context.rank == 0:
            save_codec(net, out)
            _write_info(out, {**NOTHING_TRAINED, **told})
        return
    learner = CodecLearner(net, lmbda)
    best = _train(learner, codec.train, inputs, DEFAULT_SHARD_SIZE, out, context, seed, told)
    if context.rank == 0:
        learner.load_trained(best)
        save_codec(learner.codec, out)


def train_point(
    space: Space, point: OperatingPoint, inputs: Inputs, out: Path, context: Context
) -> None:
    """Train an operating point; write what was trained and `info.json` to the directory `out`.

    `uncompressed`, `classical` and `reconstruction` train nothing and get their `info.json` alone;
    a released point's weights are taken from its file, those of `transfer` and `shared_neck` from
    the neck that they use.

    Raises:
        Diverged: the loss is no longer finite.
        ValueError: the inputs do not fit together.
    """
    if point.scenario in ("uncompressed", "classical", "reconstruction"):
        if context.rank == 0:
            _write_info(out, NOTHING_TRAINED)
        return
    if point.released is not None:
        if context.rank == 0:
            state, origin = released_point(space, point, Path(point.released))
            _write_info(out, {**NOTHING_TRAINED, "weights": origin})
            save_trained(state, out)
        return
    if point.scenario in ("transfer", "shared_neck"):
        assert inputs.neck is not None
        if context.rank == 0:
            _write_info(out, NOTHING_TRAINED)
            shutil.copy(inputs.neck / POINT_FILE, out / POINT_FILE)
        return
    torch.manual_seed(point.seed)
    learner, optimiser = _learner(space, point, inputs)
    shard_size = space.data.shard_size
    best = _train(learner, optimiser, inputs, shard_size, out, context, point.seed)
    if context.rank == 0:
        save_trained(best, out)


def train_shared_neck(
    space: Space, point: OperatingPoint, inputs: Inputs, out: Path, context: Context
) -> None:
    """Train one neck for all rates of a variable-rate codec as d1 is; write it to `out`.

    Args:
        point: any of the `shared_neck` points that take it.
        inputs: with `rates`; a step reads one of them, in turn.

    Raises:
        Diverged: the loss is no longer finite.
    """
    torch.manual_seed(point.seed)
    learner = _neck_learner(space, point, inputs)
    best = _train(learner, space.d1, inputs, space.data.shard_size, out, context, point.seed)
    if context.rank == 0:
        save_trained(best, out)


def _learner(space: Space, point: OperatingPoint, inputs: Inputs) -> tuple[Learner, Optimiser]:
    """What a scenario trains, at its start, and how long and fast."""
    assert point.lmbda is not None
    optimiser = space.training(point.scenario)
    assert optimiser is not None
    if point.scenario in ("d1", "transfer_tuned"):
        return _neck_learner(space, point, inputs), optimiser
    tower = load_tower(space.teacher.model)
    if point.scenario == "feature_coding":
        codec, neck = build_token_codec(space, tower)
        _fit_projection(space, codec, neck, inputs, point)
        return FeatureCodingLearner(space, codec, neck, point.lmbda), optimiser
    assert point.codec is not None
    if point.scenario == "end_to_end_oracle":
        return _oracle(space, point.codec, tower, inputs), optimiser
    assert inputs.codec is not None
    base = load_codec(point.codec, inputs.codec)
    if point.scenario == "post_processing":
        unet = build_unet(space, point.codec, tower)
        text = None if inputs.text is None else read_text_weights(inputs.text)
        from_latents = inputs.latents is not None
        return UNetLearner(space, unet, base, tower, text, from_latents), optimiser
    assert inputs.neck is not None
    neck = load_neck(space, point.codec, tower, inputs.neck)
    return JointLearner(space, point.scenario, base, neck, tower, point.lmbda), optimiser


def _neck_learner(space: Space, point: OperatingPoint, inputs: Inputs) -> NeckLearner:
    """A neck in training: fresh, or of another codec."""
    assert point.codec is not None
    tower = load_tower(space.teacher.model)
    text = None if inputs.text is None else read_text_weights(inputs.text)
    if point.scenario == "transfer_tuned":
        assert inputs.neck is not None
        neck = load_neck(space, point.codec, tower, inputs.neck)
        return NeckLearner(space, neck, tower, text, tuned=True)
    neck = build_neck(space, point.codec, tower)
    if space.neck.init == "encoder":
        _fit_linear(space, neck, tower, inputs, point.seed)
    return NeckLearner(space, neck, tower, text)


def _oracle(space: Space, codec: CodecSpec, tower: Tower, inputs: Inputs) -> OracleLearner:
    assert inputs.neck is not None
    asked = {
        image_id: own
        for split in ("train", "val")
        for image_id, own in read_answers(inputs.world, split, space.answered).items()
    }
    neck = load_neck(space, codec, tower, inputs.neck)
    return OracleLearner(space, neck, Mllm.load(space.mllms[0]), asked)


def _fit_projection(
    space: Space, codec: TokenCodec, neck: TransformNeck, inputs: Inputs, point: OperatingPoint
) -> None:
    """Start a codec of tokens from `FIT_IMAGES` training images (fewer where there are)."""
    images = _images_to_fit(space, inputs, None, point.seed)
    assert point.lmbda is not None
    tokens = (codec.net.tokens(batch.image) for batch in images)
    start_as_projection(codec.net, neck, tokens, point.lmbda, space.data.size**2)


def _fit_linear(space: Space, neck: TransformNeck, tower: Tower, inputs: Inputs, seed: int) -> None:
    """Start the neck's linear layer from `FIT_IMAGES` training images (fewer where there are)."""
    teacher = complete_encoder(space, tower)

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for latents in inputs.rates or (inputs.latents,):
            for batch in _images_to_fit(space, inputs, latents, seed):
                assert batch.image is not None
                assert batch.y_hat is not None
                yield batch.y_hat, teacher.patches(batch.image)

    neck.fit_linear(pairs())


def _images_to_fit(
    space: Space, inputs: Inputs, latents: Path | None, seed: int
) -> Iterator[Batch]:
    columns = ("image",) if latents is None else ("image", "y_hat")
    rows = Rows("train", columns, inputs.world, latents, None, space.data.shard_size)
    batch_size = min(FIT_BATCH, len(rows))
    batches = Batches(rows, batch_size, seed)
    for number in range(min(FIT_IMAGES, len(rows)) // batch_size):
        yield batches.read(number).to(torch.device("cpu"))


def _train(
    learner: Learner,
    spec: Optimiser,
    inputs: Inputs,
    shard_size: int,
    out: Path,
    context: Context,
    seed: int,
    told: Mapping[str, Any] | None = None,
) -> Mapping[str, Tensor]:
    """The loop. Writes `out/info.json` and returns the best weights, by `Learner.validate`.

    told: what `info.json` says besides.
    """
    columns = learner.columns
    rows, validation = (
        [
            Rows(split, columns, inputs.world, latents, inputs.features, shard_size)
            for latents in inputs.rates or (inputs.latents,)
        ]
        for split in ("train", "val")
    )
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
            found = _validate(learner, validation, spec.batch_size, context)
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
        _write_info(out, {**info, "parameters": counts, **(told or {})})
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
def _validate(
    learner: Learner, sources: Sequence[Rows], batch_size: int, context: Context
) -> dict[str, float]:
    """Means over all validation rows, the same on every worker."""
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


def _write_info(out: Path, info: Mapping[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dict(info), indent=2, allow_nan=False) + "\n"
    (out / "info.json").write_text(text, encoding="utf-8")
