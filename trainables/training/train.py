"""What is trained, from what, and where it goes: base codecs, operating points, shared necks.

spec + inputs -> learner at its start (scenarios.py) -> loop.py -> weights, info.json
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from search_spaces.specs.training import Optimiser
from trainables.codecs import build_codec, load_codec, save_codec, start_codec
from trainables.datasets.batches import Batches
from trainables.datasets.rows import Batch, Rows
from trainables.encoders.load import load_tower
from trainables.encoders.pretrained import resolve_pretrained
from trainables.encoders.text_embeddings import read_text_weights
from trainables.encoders.tower import Tower
from trainables.mllms import Mllm
from trainables.networks.neck import TransformNeck
from trainables.networks.token_codec import TokenCodec, start_as_projection
from trainables.scenarios.building import (
    build_neck,
    build_token_codec,
    build_unet,
    complete_encoder,
)
from trainables.scenarios.competitors import FeatureCodingLearner, OracleLearner, read_answers
from trainables.scenarios.learners import (
    CodecLearner,
    JointLearner,
    Learner,
    NeckLearner,
    UNetLearner,
)
from trainables.scenarios.point_model import POINT_FILE, load_neck, released_point, save_trained
from trainables.training.context import Context
from trainables.training.loop import fit, write_info

DEFAULT_SHARD_SIZE = 512
FIT_IMAGES, FIT_BATCH = 512, 64
"""Images, and images at a time, that the start of a neck's linear layer is fitted to."""
NOTHING_TRAINED = {"steps": 0, "seconds": 0.0, "parameters": {"trained": 0}}
"""The `info.json` of what is used as it is."""


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
            write_info(out, {**NOTHING_TRAINED, **told})
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
    if space.training(point.scenario) is None:
        if context.rank == 0:
            write_info(out, NOTHING_TRAINED)
            if point.scenario in ("transfer", "shared_neck"):
                assert inputs.neck is not None
                shutil.copy(inputs.neck / POINT_FILE, out / POINT_FILE)
        return
    if point.released is not None:
        if context.rank == 0:
            state, origin = released_point(space, point, Path(point.released))
            write_info(out, {**NOTHING_TRAINED, "weights": origin})
            save_trained(state, out)
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
    """`fit` on the training and validation images of the inputs, at each of their rates."""
    rows, validation = (
        [
            Rows(split, learner.columns, inputs.world, latents, inputs.features, shard_size)
            for latents in inputs.rates or (inputs.latents,)
        ]
        for split in ("train", "val")
    )
    return fit(learner, spec, rows, validation, out, context, seed, told)
