"""The models of an evaluation, kept loaded for the next operating point of the same process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from search_spaces import Space
from search_spaces.specs.space_fields import Measurement
from search_spaces.specs.training import SurrogateSpec, TeacherSpec
from trainables.datasets.rows import class_names
from trainables.encoders.load import load_tower
from trainables.encoders.partial_encoder import Teacher
from trainables.encoders.text_embeddings import read_text_weights
from trainables.encoders.tower import Tower
from trainables.encoders.zero_shot import ZeroShot
from trainables.evaluation.image_pass import Answerer
from trainables.evaluation.teacher_features import KnownTeacher
from trainables.mllms import Mllm
from trainables.points.inputs import Inputs
from trainables.points.models import PointModel

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load_answerer(
    space: Space,
    measurement: Measurement,
    inputs: Inputs,
    model: PointModel,
    device: torch.device,
) -> Answerer:
    """The MLLM of a measurement, or the point's encoder where the encoder answers (zero-shot)."""
    if measurement.by_encoder:
        assert inputs.text is not None
        text_weights = read_text_weights(inputs.text).to(device)
        return ZeroShot(model.encoder, text_weights, class_names(inputs.world))
    evaluation = space.evaluation
    return load_mllm(measurement.answerer, evaluation.precision, evaluation.beams, device)


@lru_cache(maxsize=1)
def load_teacher_tower(name: str) -> Tower:
    """The teacher's tower. It can be shared because it is frozen."""
    return load_tower(name)


@lru_cache(maxsize=4)
def load_known_teacher(
    world: Path, teacher: TeacherSpec, surrogate: SurrogateSpec, device: torch.device
) -> KnownTeacher:
    """The teacher with its features of a data set, whose directory never changes."""
    tower = load_teacher_tower(teacher.model)
    complete = Teacher(tower, surrogate.token_layer, surrogate.double_norm).to(device)
    return KnownTeacher(complete, bool(surrogate.pooled), bool(surrogate.tokens))


@lru_cache(maxsize=1)
def load_mllm(name: str, precision: str, beams: int, device: torch.device) -> Mllm:
    """An MLLM in a precision of `PRECISIONS`, on a device."""
    return Mllm.load(name, PRECISIONS[precision], beams).to(device)
