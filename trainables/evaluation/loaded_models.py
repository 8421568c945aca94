"""The models of an evaluation, kept loaded for the next operating point of the same process.

On a device there are at most one MLLM and one teacher: the one before goes first, and both go
before a training on a GPU begins in the process (`forget_models`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

import torch

from search_spaces import Space
from search_spaces.specs.space_fields import Measurement
from search_spaces.specs.training import SurrogateSpec, TeacherSpec
from trainables.datasets.images.image_store import class_names
from trainables.encoders.load import load_tower
from trainables.encoders.partial_encoder import Teacher
from trainables.encoders.text_embeddings import read_text_weights
from trainables.encoders.tower import Tower
from trainables.encoders.zero_shot import ZeroShot
from trainables.evaluation.image_pass import Answerer
from trainables.evaluation.teacher_features import KnownTeacher
from trainables.mllms import Mllm
from trainables.points.models import PointModel

P = ParamSpec("P")
Model = TypeVar("Model")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class LastLoaded(Generic[P, Model]):
    """A loader that keeps its last model, and drops it before it loads another.

    (`lru_cache` alone drops the old model after the new one is loaded: two do not fit a GPU.)

    Args:
        load: loads a model; called with hashable arguments.
    """

    def __init__(self, load: Callable[P, Model]) -> None:
        self._load = lru_cache(maxsize=1)(load)
        self._arguments: tuple[object, ...] | None = None
        self.cache_info = self._load.cache_info

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Model:
        """The model of these arguments, loaded or kept."""
        arguments = (*args, *sorted(kwargs.items()))
        if arguments != self._arguments:
            self.forget()
            self._arguments = arguments
        return self._load(*args, **kwargs)  # type: ignore[arg-type]  # P is not bound to Hashable

    def forget(self) -> None:
        """Drop the model that is kept, and give its memory back to its devices.

        `division.free_memory` counts what stays in torch's cache as taken.
        """
        self._load.cache_clear()
        gc.collect()  # accelerate's hooks and the modules of a divided MLLM refer to each other
        torch.cuda.empty_cache()  # does nothing in a process that has not used CUDA


def load_answerer(
    space: Space,
    measurement: Measurement,
    images: Path,
    text: Path | None,
    model: PointModel,
    device: torch.device,
    mllm_gpus: int,
) -> Answerer:
    """The MLLM of a measurement, or the point's encoder where the encoder answers alone.

    Args:
        images: directory of the images with the names of their classes.
        text: directory of the text embeddings of these names.
        mllm_gpus: as of `load_mllm`.
    """
    if measurement.by_encoder:
        assert text is not None
        text_weights = read_text_weights(text).to(device)
        return ZeroShot(model.encoder, text_weights, class_names(images))
    evaluation = space.evaluation
    return load_mllm(
        measurement.answerer, evaluation.precision, evaluation.beams, device, mllm_gpus
    )


@LastLoaded
def load_teacher_tower(name: str) -> Tower:
    """The teacher's tower. It can be shared because it is frozen."""
    load_known_teacher.cache_clear()  # they hold the tower before
    return load_tower(name)


@lru_cache(maxsize=4)
def load_known_teacher(
    images: tuple[Path, ...], teacher: TeacherSpec, surrogate: SurrogateSpec, device: torch.device
) -> KnownTeacher:
    """The teacher with its features of a data set.

    Args:
        images: directories of its images, which never change.
    """
    tower = load_teacher_tower(teacher.model)
    complete = Teacher(tower, surrogate.token_layer, surrogate.double_norm).to(device)
    return KnownTeacher(complete, bool(surrogate.pooled), bool(surrogate.tokens))


@LastLoaded
def load_mllm(name: str, precision: str, beams: int, device: torch.device, gpus: int) -> Mllm:
    """An MLLM in a precision of `PRECISIONS`, on a device or divided over several GPUs.

    Args:
        gpus: as of `Mllm.load`.
    """
    mllm = Mllm.load(name, PRECISIONS[precision], beams, gpus)
    return mllm if gpus > 1 else mllm.to(device)


def forget_models() -> None:
    """Drop all models that are kept here, so that something else gets their memory."""
    load_known_teacher.cache_clear()  # they hold the tower
    load_teacher_tower.forget()
    load_mllm.forget()
