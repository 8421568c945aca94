"""The stages that a training reads, as directories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from trainables.codecs import Codec, load_codec
from trainables.datasets.batches import Batches
from trainables.datasets.rows import Batch, Rows
from trainables.encoders.text_embeddings import read_text_weights

FIT_IMAGES: Final = 512
FIT_BATCH: Final = 64
"""Training images to which the start of a network is fitted, and images per batch."""


@dataclass(frozen=True)
class Inputs:
    """Directories of the stages that a training reads; None where not needed.

    Attributes:
        world: images for training and validation, of scenes with answers to tasks.
        codec: the base codec.
        features: the teacher's features of training and validation images.
        latents: the base codec's latents of the same images.
        start: the operating point with whose weights the training starts, or which are taken.
        text: text embeddings of class names.
        rates: latents at each of the codec's rates, for one training that serves all rates.
        answers: answers of training and validation images to tasks of other distributions.
    """

    world: Path | None = None
    codec: Path | None = None
    features: Path | None = None
    latents: Path | None = None
    start: Path | None = None
    text: Path | None = None
    rates: tuple[Path, ...] = ()
    answers: Path | None = None


def base_codec(point: OperatingPoint, inputs: Inputs) -> Codec:
    """The base codec of a point, frozen, ready to encode and decode."""
    assert point.codec is not None
    assert inputs.codec is not None
    return load_codec(point.codec, inputs.codec)


def images_to_fit(space: Space, inputs: Inputs, latents: Path | None, seed: int) -> Iterator[Batch]:
    """Batches of at most `FIT_IMAGES` training images, with latents where they are given."""
    columns = ("image",) if latents is None else ("image", "y_hat")
    assert inputs.world is not None
    rows = Rows("train", columns, inputs.world, latents, None)
    batch_size = min(FIT_BATCH, len(rows))
    batches = Batches(rows, batch_size, seed)
    for number in range(min(FIT_IMAGES, len(rows)) // batch_size):
        yield batches.read(number).to(torch.device("cpu"))


def class_texts(inputs: Inputs) -> Tensor | None:
    """The text embeddings (P, C), where they are among the inputs."""
    return None if inputs.text is None else read_text_weights(inputs.text)
