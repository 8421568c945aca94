"""codec_tuned: the further training of d2 or d3, on the base codec's own loss alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from safetensors.torch import load_file

from search_spaces import Stages, operating_points, point_stage
from search_spaces.scenarios import scenario_of
from search_spaces.specs.space import Space
from tests.trainables.conftest import Small
from tests.trainables.small import SHARD, make_space, point
from trainables.codecs import bits_estimated, load_codec
from trainables.datasets.batches import in_order
from trainables.datasets.rows import Rows
from trainables.points.contract import load_point, method_of
from trainables.points.inputs import Inputs
from trainables.points.models import DecodedPoint
from trainables.scenarios.base_codec import CodecLearner
from trainables.training.context import LocalContext
from trainables.training.train import train_point

STEPS = {"steps": 7, "batch_size": 3, "lr": 0.5, "codec_lr": 2e-3, "validate_every": 7}


def space_of(small: Small, **settings: object) -> Space:
    return make_space(
        small.root / "teacher",
        codecs=[small.space.codecs[0].model_dump(mode="json")],
        scenarios=[],
        baselines=["codec_tuned"],
        d3=STEPS,
        **settings,
    )


def test_it_gets_exactly_the_steps_images_and_learning_rate_of_the_codec_in_d3(
    small_stages: Small, tmp_path: Path
) -> None:
    space = space_of(small_stages)
    chosen = point(space, "codec_tuned")
    d3 = scenario_of("d3").training(space, chosen)
    training = scenario_of("codec_tuned").training(space, chosen)
    assert d3 is not None
    assert training is not None
    assert (training.steps, training.batch_size) == (d3.steps, d3.batch_size) == (7, 3)
    learner = method_of("codec_tuned").learner(
        space, chosen, Inputs(small_stages.world, small_stages.codec)
    )
    assert [group.lr for group in learner.groups() if group.main] == [2e-3]

    out, inputs = tmp_path / "point", Inputs(small_stages.world, small_stages.codec)
    train_point(space, chosen, inputs, out, LocalContext(tmp_path / "run"))
    before = load_file(small_stages.codec / "model.safetensors")
    after = load_file(out / "model.safetensors")
    assert {f"codec.net.{name}" for name in before} == set(after)
    moved = {n.split(".")[0] for n in before if not torch.equal(before[n], after[f"codec.net.{n}"])}
    assert {"g_a", "g_s", "h_a", "h_s"} <= moved
    model = load_point(space, chosen, small_stages.codec, out)
    assert isinstance(model, DecodedPoint)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    received = model.decode(model.encode(image).streams, (64, 64))
    assert torch.equal(model.enter(received).given, model.codec.synthesis(received.symbols))


def test_its_loss_is_the_base_codecs_own(small_stages: Small) -> None:
    space = space_of(small_stages)
    chosen = point(space, "codec_tuned")
    inputs = Inputs(small_stages.world, small_stages.codec)
    learner = method_of("codec_tuned").learner(space, chosen, inputs)
    assert isinstance(learner, CodecLearner)
    rows = Rows("val", learner.columns, small_stages.world, None, None, SHARD)
    batch = next(in_order(rows, 3)).to(torch.device("cpu"))
    assert chosen.codec is not None
    assert chosen.lmbda is not None
    base = load_codec(chosen.codec, small_stages.codec)
    with torch.no_grad():
        loss = learner.eval().validate(batch)["loss"].item()
        output = base(batch.image)
    assert batch.image is not None
    assert output.x_hat is not None
    bpp = bits_estimated(output.likelihoods).mean().item() / (64 * 64)
    mse = F.mse_loss(output.x_hat * 255, batch.image * 255).item()
    assert loss == pytest.approx(bpp + chosen.lmbda * mse, rel=1e-5)


def test_its_key_follows_the_scenario_that_it_is_like(small_stages: Small) -> None:
    def key(**settings: object) -> str:
        space = space_of(small_stages, **settings)
        return point_stage(Stages(space), operating_points(space)[0]).key

    first = key()
    assert key(d2={"steps": 99}) == first
    assert key(codec_tuned={"like": "d2"}) != first
    assert key(codec_tuned={"like": "d2"}, d2=STEPS) == first, "the same training, the same key"


def test_only_d2_and_d3_can_be_imitated(small_stages: Small) -> None:
    with pytest.raises(ValidationError) as error:
        space_of(small_stages, codec_tuned={"like": "d1"})
    assert error.value.errors()[0]["loc"] == ("codec_tuned", "like")
