"""Scenarios with a transform-neck: its learner, its trained weights, how it enters the encoder.

    stored latents --> neck --> encoder blocks k .. --> surrogate loss against stored features

Shapes: `B` images, `M` latent channels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from search_spaces.scenarios.d1 import NeckTraining
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from trainables.codecs import build_codec, fill, mismatches
from trainables.codecs.released import read_weights
from trainables.datasets.rows import Batch
from trainables.encoders.load import load_tower
from trainables.encoders.tower import Tower
from trainables.networks.neck import TransformNeck
from trainables.points.building import build_neck, complete_encoder, partial_encoder
from trainables.points.contract import Method, Trained
from trainables.points.counting import Counting, Part
from trainables.points.inputs import Inputs, class_texts, images_to_fit
from trainables.points.learning import Group, SurrogateLearner, SurrogateSetting
from trainables.points.models import BridgedPoint
from trainables.points.weights import load_trained, named, overlay


class NeckLearner(SurrogateLearner):
    """The neck alone, on stored latents and the teacher's stored features.

    Args:
        setting: of the loss, with the encoder from block k on.
        neck: at its start.
        lr: learning rate.
        linear_lr: of its linear layer; null for `lr`.
    """

    def __init__(
        self, setting: SurrogateSetting, neck: TransformNeck, lr: float, linear_lr: float | None
    ) -> None:
        super().__init__(setting, "y_hat")
        self.neck = neck
        self._lr = lr
        self._linear_lr = lr if linear_lr is None else linear_lr

    def student_input(self, batch: Batch) -> Tensor:
        """The neck's tokens."""
        assert batch.y_hat is not None
        tokens: Tensor = self.neck(batch.y_hat)
        return tokens

    def groups(self) -> list[Group]:
        """The neck, its linear layer apart."""
        linear = list(self.neck.linear.parameters())
        rest = [p for name, p in self.neck.named_parameters() if not name.startswith("linear.")]
        return [Group(linear, self._linear_lr), Group(rest, self._lr)]


class NeckMethod(Method):
    """A scenario whose latents enter the encoder through a neck."""

    receiver = ("entropy", "neck", "encoder_run")

    def restore(self, trained: Trained) -> BridgedPoint:
        """The base codec, the point's neck, the encoder from block k on."""
        neck = trained_neck(trained.space, trained.point, trained.tower, trained.point_dir)
        encoder = partial_encoder(trained.space, trained.tower)
        return BridgedPoint(encoder, trained.base_codec(), neck)

    def parts(self, counting: Counting) -> Iterator[Part]:
        """The neck of each codec."""
        for label, spec in counting.codecs.items():
            with torch.device("meta"):
                neck = build_neck(counting.space, spec, counting.tower)
            run = functools.partial(neck, counting.latents(spec))
            yield counting.part(
                label, "neck", "receiver", "latents to tokens of block k", [neck], run
            )


def fresh_neck_learner(
    space: Space, point: OperatingPoint, inputs: Inputs, training: NeckTraining
) -> NeckLearner:
    """A neck at its start, in training on latents of one or of several rates."""
    assert point.codec is not None
    tower = load_tower(space.teacher.model)
    neck = build_neck(space, point.codec, tower)
    if space.neck.init == "encoder":
        _fit_linear(space, neck, tower, inputs, point.seed)
    encoder = partial_encoder(space, tower)
    setting = SurrogateSetting(space, encoder, class_texts(inputs), training.steps)
    return NeckLearner(setting, neck, training.lr, training.linear_lr)


def trained_neck(
    space: Space, point: OperatingPoint, tower: Tower, directory: Path | None
) -> TransformNeck:
    """A neck of the sizes of a point, with the weights that the point of a directory has trained,
    whatever else that trained with it."""
    assert point.codec is not None
    assert directory is not None
    neck = build_neck(space, point.codec, tower)
    state = load_trained(directory)
    overlay(named(neck=neck), {n: v for n, v in state.items() if not n.startswith("codec.")})
    return neck


def read_released(
    space: Space, point: OperatingPoint, file: Path
) -> tuple[dict[str, Tensor], dict[str, Tensor], str]:
    """The weights of the neck and of the codec in a released file, and the file's origin.

    Raises:
        ValueError: the file does not hold exactly a neck and a codec of the point's sizes.
    """
    assert point.codec is not None
    weights = read_weights(file)
    neck = build_neck(space, point.codec, load_tower(space.teacher.model))
    codec = build_codec(point.codec)
    fill(codec, weights.codec, str(file))
    trained = named(neck=neck)
    problems = mismatches(trained, {f"neck.{name}": value for name, value in weights.neck.items()})
    if problems:
        lines = "\n  ".join(problems)
        raise ValueError(f"{file} does not hold the neck of {point.label}:\n  {lines}")
    neck_state = {name: weights.neck[name.removeprefix("neck.")].float() for name in trained}
    return neck_state, named(codec=codec), weights.origin


def _fit_linear(space: Space, neck: TransformNeck, tower: Tower, inputs: Inputs, seed: int) -> None:
    """Start the neck's linear layer from a least-squares fit of the patch embeddings."""
    teacher = complete_encoder(space, tower)

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for latents in inputs.rates or (inputs.latents,):
            for batch in images_to_fit(space, inputs, latents, seed):
                assert batch.image is not None
                assert batch.y_hat is not None
                yield batch.y_hat, teacher.patches(batch.image)

    neck.fit_linear(pairs())
