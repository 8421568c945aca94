"""adapted_encoder: the encoder's first blocks, tuned on decoded images; everything else stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from search_spaces import load_space
from search_spaces.specs.space import Space
from tests.trainables.conftest import Small
from tests.trainables.small import SHARD, make_clip, make_space, point
from trainables.commands.costs import complexity
from trainables.datasets.batches import in_order
from trainables.datasets.rows import Rows
from trainables.encoders.partial_encoder import Teacher
from trainables.encoders.tower import Tower
from trainables.points.contract import load_point, method_of
from trainables.points.inputs import Inputs
from trainables.points.models import DecodedPoint
from trainables.scenarios.adapted_encoder import EncoderFront
from trainables.training.context import LocalContext
from trainables.training.train import train_point

STEPS = {"steps": 6, "batch_size": 4, "lr": 1e-3, "validate_every": 3}


def space_of(small: Small, **settings: object) -> Space:
    return make_space(
        small.root / "teacher",
        codecs=[small.space.codecs[0].model_dump(mode="json")],
        scenarios=[],
        baselines=["adapted_encoder"],
        adapted_encoder={**STEPS, **settings},
    )


def inputs_of(small: Small) -> Inputs:
    return Inputs(small.world, small.codec, small.features, text=small.text)


def test_untrained_it_is_the_teacher_on_the_decoded_image(small_stages: Small) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    front = EncoderFront(Tower(make_clip()), block=2, layers=1)
    teacher = Teacher(Tower(make_clip()))
    torch.testing.assert_close(front(images), teacher.hidden(images, 2))
    learner = method_of("adapted_encoder").learner(
        space_of(small_stages),
        point(space_of(small_stages), "adapted_encoder"),
        inputs_of(small_stages),
    )
    rows = Rows("val", learner.columns, small_stages.world, None, small_stages.features, SHARD)
    batch = next(in_order(rows, 4)).to(torch.device("cpu"))
    assert batch.image is not None
    with torch.no_grad():
        codec = learner.codec
        decoded = codec.synthesis(codec.latents(batch.image))
        expected = teacher(decoded, pooled=False).tokens
        loss = learner.validate(batch)["tokens"]
    torch.testing.assert_close(loss, (expected - batch.tokens).square().mean())


def test_exactly_stem_and_last_blocks_are_trained_and_the_teacher_stays(
    small_stages: Small, tmp_path: Path
) -> None:
    space = space_of(small_stages, layers=1)
    chosen = point(space, "adapted_encoder")
    inputs = inputs_of(small_stages)
    train_point(space, chosen, inputs, tmp_path / "point", LocalContext(tmp_path / "run"))
    trained = load_file(tmp_path / "point" / "model.safetensors")
    assert {name.split(".")[1] for name in trained} == {"stem", "blocks"}
    assert {name.split(".")[2] for name in trained if ".blocks." in name} == {"1"}
    before = EncoderFront(Tower(make_clip()), 2, 1).trained()
    assert before.keys() == trained.keys()
    # Keys' biases change nothing in an attention, and so get no gradient.
    still = {n for n in trained if torch.equal(trained[n], before[n])}
    assert not {n for n in still if not n.endswith("k_proj.bias")}

    model = load_point(space, chosen, small_stages.codec, tmp_path / "point")
    assert isinstance(model, DecodedPoint)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    received = model.decode(model.encode(images).streams, (64, 64))
    entry = model.enter(received)
    assert entry.block == 2
    x_hat = model.codec.synthesis(received.symbols)
    assert torch.equal(model.image(received), x_hat), "people see the codec's own image"
    teacher = Teacher(Tower(make_clip()))
    assert not torch.allclose(entry.given, teacher.hidden(x_hat, 2))


def test_at_the_papers_sizes_it_trains_as_many_parameters_as_the_neck() -> None:
    space = load_space("paper", ["baselines=[post_processing, adapted_encoder]"])
    parts = {part.part: part for part in complexity(space)[0]}
    ratio = parts["adapted_front"].parameters / parts["neck"].parameters
    assert ratio == pytest.approx(1, abs=0.05)
    # The tuned copy computes what the skipped part of the encoder does.
    assert parts["adapted_front"].macs == parts["encoder_skipped"].macs


def test_more_blocks_than_there_are_before_k_are_refused(small_stages: Small) -> None:
    with pytest.raises(ValidationError, match=r"adapted_encoder\.layers: 3 blocks .* 2 before"):
        space_of(small_stages, layers=3)
