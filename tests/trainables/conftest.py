"""The stages that training reads, made once from the tiny world."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from search_spaces import Space
from tests.trainables import small


@dataclass(frozen=True)
class Small:
    """A tiny space with all its inputs; `d1` is a trained point."""

    space: Space
    root: Path

    @property
    def world(self) -> Path:
        return self.root / "world"

    @property
    def codec(self) -> Path:
        return self.root / "codec"

    @property
    def features(self) -> Path:
        return self.root / "features"

    @property
    def latents(self) -> Path:
        return self.root / "latents"

    @property
    def text(self) -> Path:
        return self.root / "text"

    @property
    def d1(self) -> Path:
        return self.root / "d1"


@pytest.fixture(scope="session")
def kodak() -> list[Path]:
    """The Kodak images, kodim01.png .., in the folder that the variable BRIDGESWEEP_KODAK names."""
    folder = os.environ.get("BRIDGESWEEP_KODAK")
    if not folder:
        pytest.skip("BRIDGESWEEP_KODAK names no folder of the Kodak images")
    return [Path(folder) / f"kodim{number:02d}.png" for number in range(1, 25)]


@pytest.fixture(scope="session")
def small_stages(tmp_path_factory: pytest.TempPathFactory) -> Small:
    from tests.trainables.shards import write_shards
    from trainables.encoders.text_embeddings import write_text_weights
    from trainables.points.inputs import Inputs
    from trainables.training.context import LocalContext
    from trainables.training.precompute import CodecLatents, TeacherFeatures
    from trainables.training.train import train_codec, train_point

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("small")
    space = small.make_space(small.save_teacher(root / "teacher"))
    made = Small(space, root)
    small.write_world(made.world)
    inputs = Inputs(made.world, made.codec, made.features, made.latents, text=made.text)
    codec = space.codecs[0]
    train_codec(codec, 0.01, inputs, made.codec, LocalContext(root / "codec-context"))
    write_shards(TeacherFeatures(space), made.world, made.features)
    write_shards(CodecLatents(codec, made.codec), made.world, made.latents)
    write_text_weights(space, made.world, made.text / "text.safetensors")
    context = LocalContext(root / "d1-context")
    train_point(space, small.point(space, "d1"), inputs, made.d1, context)
    return made
