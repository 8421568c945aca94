"""What benchmarks share: the paper's models at full size with random weights, and their inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, CLIPVisionModelWithProjection

from search_spaces import Space
from search_spaces.facts.encoders import released_config
from tests.trainables.shards import write_shards
from trainables.codecs import build_codec, save_codec
from trainables.commands.complexity import PAPER
from trainables.datasets.worlds.write import write_world
from trainables.tasks import scene_tasks
from trainables.training.precompute import CodecLatents, TeacherFeatures


@dataclass(frozen=True)
class Made:
    """The paper's space with a teacher on the disk, and its inputs."""

    space: Space
    world: Path
    codec: Path
    features: Path
    latents: Path


def save_teacher(directory: Path) -> None:
    """CLIP ViT-L/14's visual encoder; random weights."""
    known = released_config(PAPER.teacher.model)
    assert known is not None
    config = AutoConfig.for_model(**known)
    config.vision_config.projection_dim = config.projection_dim
    CLIPVisionModelWithProjection(config.vision_config).save_pretrained(directory)


def space_with(teacher: Path, images: int, shard_size: int) -> Space:
    """The paper's space with this teacher on scenes of 256 x 256."""
    data = PAPER.data.model_copy(update={"train": images, "val": 1, "shard_size": shard_size})
    named = PAPER.teacher.model_copy(update={"model": str(teacher)})
    return PAPER.model_copy(update={"data": data, "teacher": named})


def make(root: Path, images: int, device: str = "cpu") -> Made:
    """Teacher, codec, images, and the features and latents that the project stores of them."""
    torch.manual_seed(0)
    save_teacher(root / "teacher")
    space = space_with(root / "teacher", images, images)
    made = Made(space, root / "world", root / "codec", root / "features", root / "latents")
    make_world(made.world, images)
    save_codec(build_codec(space.codecs[0]), made.codec)
    for write, directory in (
        (TeacherFeatures(space, device), made.features),
        (CodecLatents(space.codecs[0], made.codec, device), made.latents),
    ):
        write_shards(write, made.world, directory, ("train",), space.data.shard_size)
    return made


def make_world(directory: Path, images: int) -> None:
    """Training scenes of 256 x 256."""
    write_world(
        directory, scene_tasks(), size=256, seed=0, n_train=images, n_val=1, n_test=1, n_episodes=1
    )


def macs(run: Callable[[], object]) -> int:
    """MACs of a training step, forward and backward, attention's products included."""
    mode = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), mode:
        run()
    return int(mode.get_total_flops()) // 2
