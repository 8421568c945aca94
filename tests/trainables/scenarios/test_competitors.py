"""What the bridge is compared with: sent tokens, shared and other necks, the oracle."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from search_spaces import OperatingPoint, Space, operating_points
from search_spaces.scenarios import scenario_of
from tests.trainables.conftest import Small
from tests.trainables.evaluation.setting import save_llava
from tests.trainables.shards import write_shards
from tests.trainables.small import SHARD, make_space, point, save_teacher
from trainables.codecs import bits_estimated
from trainables.codecs.entropy.bitstream import unpack
from trainables.datasets.batches import Batches, InTurn
from trainables.datasets.rows import Batch, Rows
from trainables.datasets.worlds.write import write_world
from trainables.encoders.bridge import entered
from trainables.encoders.load import load_tower
from trainables.mllms import Mllm
from trainables.networks.token_codec import start_as_projection
from trainables.points.building import build_neck
from trainables.points.contract import load_point
from trainables.points.counting import number_of_parameters
from trainables.points.inputs import Inputs
from trainables.points.models import BridgedPoint
from trainables.scenarios.end_to_end_oracle import OracleLearner, Question, read_answers
from trainables.scenarios.feature_coding import FeatureCodingLearner, build_token_codec
from trainables.scenarios.post_processing import build_unet
from trainables.tasks import scene_tasks
from trainables.training.context import LocalContext
from trainables.training.precompute import CodecLatents, TeacherFeatures
from trainables.training.train import train_codec, train_point

SHORT = {"steps": 6, "batch_size": 4, "lr": 1e-3, "validate_every": 3, "checkpoint_every": 3}


def images(count: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def of_tokens(small: Small, lmbda: float = 3.0, **settings: Any) -> tuple[Space, OperatingPoint]:
    own = {**SHORT, "lambdas": [lmbda], "channels": 6, **settings}
    space = make_space(
        small.root / "teacher", baselines=["feature_coding"], scenarios=[], feature_coding=own
    )
    (one,) = operating_points(space)
    return space, one


def test_sent_tokens_are_written_read_and_entered(small_stages: Small, tmp_path: Path) -> None:
    space, one = of_tokens(small_stages)
    assert (one.codec, one.lmbda, one.fields["codec"]) == (None, 3.0, "tokens")
    context = LocalContext(tmp_path / "run")
    train_point(space, one, Inputs(small_stages.world), tmp_path / "point", context)
    used = load_point(space, one, None, tmp_path / "point")
    assert isinstance(used, BridgedPoint)
    image = images()
    streams, bits = used.codec.encode_and_estimate(image)
    y_hat = used.codec.decode(streams)
    assert torch.equal(y_hat, used.codec.latents(image))
    assert y_hat.shape == (3, 6, 4, 4)
    likelihoods = used.codec(image, synthesis=False).likelihoods
    torch.testing.assert_close(bits, bits_estimated(likelihoods))
    for stream, estimate in zip(streams, bits.tolist(), strict=True):
        # Container and flush of the coder.
        assert 0 < 8 * len(stream) - estimate < 8 * 24
    received = used.decode(streams, (64, 64))
    entry = used.enter(received)
    assert entry.block == space.teacher.block
    assert entry.given.shape == (3, 17, 16)
    assert torch.equal(received.symbols, y_hat)
    assert used.image(received) is None


def test_a_codec_of_tokens_starts_as_their_principal_components(small_stages: Small) -> None:
    space, _ = of_tokens(small_stages)
    tower = load_tower(space.teacher.model)
    codec, neck = build_token_codec(space, tower)
    tokens = codec.net.tokens(images(40))
    start_as_projection(codec.net, neck, [tokens[:16], tokens[16:]], 3.0, 64 * 64)
    with torch.no_grad():
        found = neck(codec.net.analysis(tokens))
    patches = tokens[:, 1:].double().numpy()
    centred = (patches - patches.mean(0)).reshape(-1, 16)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    best = vectors[:, ::-1][:, :6]
    expected = patches.mean(0) + (centred @ best @ best.T).reshape(patches.shape)
    np.testing.assert_allclose(found[:, 1:].numpy(), expected, atol=1e-4)
    # The class token is not sent: its mean is what is known of it.
    np.testing.assert_allclose(found[:, 0], tokens.mean(0)[0].expand(40, -1), atol=1e-4)
    # Scale: each latent is in steps whose error costs what a bit costs.
    scale = codec.net.linear.weight.norm(dim=1)
    wanted = math.sqrt(3.0 * 64**2 * math.log(2) / (6 * 16 * 17))
    np.testing.assert_allclose(scale.detach(), np.full(6, wanted), rtol=1e-4)
    assert values[-1] > 0


def test_the_loss_of_sent_tokens_is_rate_and_their_error(small_stages: Small) -> None:
    space, _ = of_tokens(small_stages)
    codec, neck = build_token_codec(space, load_tower(space.teacher.model))
    learner = FeatureCodingLearner(space.feature_coding, codec, neck, 3.0).eval()
    batch = Batch(("a", "b"), image=images(2))
    found = {n: v.item() for n, v in learner.validate(batch).items()}
    tokens = codec.net.tokens(images(2)).numpy()
    with torch.no_grad():
        read = neck(codec.latents(images(2))).numpy()
    assert found["mse"] == pytest.approx(((read - tokens) ** 2).mean(), rel=1e-5)
    bits = bits_estimated(codec(images(2), synthesis=False).likelihoods)
    assert found["bpp_estimated"] == pytest.approx(bits.mean().item() / 64**2, rel=1e-5)
    assert found["loss"] == pytest.approx(found["bpp_estimated"] + 3 * found["mse"], rel=1e-6)
    frozen = {id(p) for p in codec.net.teacher.parameters()}
    trained = [p for group in learner.groups() for p in group.parameters]
    assert not frozen & {id(p) for p in trained}
    assert {id(p) for p in trained} == {id(p) for p in learner.parameters() if p.requires_grad}


def test_training_on_tokens_lowers_its_loss(small_stages: Small, tmp_path: Path) -> None:
    space, one = of_tokens(small_stages, steps=60, lr=3e-3, validate_every=20, checkpoint_every=20)
    run = tmp_path / "run"
    train_point(space, one, Inputs(small_stages.world), tmp_path / "point", LocalContext(run))
    rows = [json.loads(line) for line in (run / "curve.jsonl").read_text().splitlines()]
    values = [row["val_loss"] for row in rows if "val_loss" in row]
    assert values[-1] < values[0]


# ---------------------------------------------------------------- one neck for all rates


@pytest.fixture(scope="module")
def rates(small_stages: Small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Space, Inputs]:
    """A variable-rate codec with three rates, and what a neck for all of them reads."""
    root = tmp_path_factory.mktemp("rates")
    codec = {"arch": "mbt2018-mean-vbr", "N": 8, "M": 12, "rate_lambdas": [0.001, 0.01, 0.1]}
    space = make_space(
        small_stages.root / "teacher",
        codecs=[{**codec, "train": SHORT}],
        baselines=["shared_neck"],
        scenarios=[],
    )
    whole = space.codecs[0]
    inputs = Inputs(small_stages.world, text=small_stages.text, features=small_stages.features)
    train_codec(whole, 0.01, inputs, root / "codec", LocalContext(root / "run"))
    directories = []
    for lmbda in whole.lambdas:
        directory = root / f"latents-{lmbda:g}"
        write_shards(CodecLatents(whole.at(lmbda), root / "codec"), small_stages.world, directory)
        directories.append(directory)
    return space, replace(inputs, codec=root / "codec", rates=tuple(directories))


def test_one_neck_serves_all_rates(rates: tuple[Space, Inputs], tmp_path: Path) -> None:
    space, inputs = rates
    points = operating_points(space)
    assert [p.lmbda for p in points] == [0.001, 0.01, 0.1]
    whole = scenario_of("shared_neck").start(space, points[0])
    assert whole is not None
    assert whole.lmbda is None
    train_point(space, whole, inputs, tmp_path / "neck", LocalContext(tmp_path / "run"))
    shared = load_file(tmp_path / "neck" / "model.safetensors")
    assert inputs.codec is not None
    for place, one in enumerate(points):
        out = tmp_path / f"point-{place}"
        taking = replace(inputs, rates=(), start=tmp_path / "neck")
        train_point(space, one, taking, out, LocalContext(tmp_path / f"run-{place}"))
        taken = load_file(out / "model.safetensors")
        assert taken.keys() == shared.keys()
        assert all(torch.equal(taken[name], shared[name]) for name in shared)
        used = load_point(space, one, inputs.codec, out)
        assert isinstance(used, BridgedPoint)
        assert used.codec.rate == place
        assert [unpack(stream).rate for stream in used.codec.encode(images())] == [place] * 3


def test_steps_read_the_rates_in_turn(rates: tuple[Space, Inputs]) -> None:
    _, inputs = rates
    sources = [
        Batches(Rows("train", ("y_hat",), inputs.world, latents, None, SHARD), 4, seed=0)
        for latents in inputs.rates
    ]
    together = InTurn(sources)
    for step in range(7):
        expected = sources[step % 3].read(step // 3)
        found = together.read(step)
        assert found.ids == expected.ids
        assert torch.equal(found.y_hat, expected.y_hat)


# ---------------------------------------------------------------- another codec's neck


def test_a_neck_is_taken_over_as_it_is_and_tuned(small_stages: Small, tmp_path: Path) -> None:
    first = small_stages.space.codecs[0].model_dump()
    space = make_space(
        small_stages.root / "teacher",
        codecs=[{**first, "name": "a"}, {**first, "name": "b", "lambdas": [0.02]}],
        scenarios=["d1"],
        baselines=["transfer", "transfer_tuned"],
        transfer={**SHORT, "steps": 5},
    )
    labels = {p.label for p in operating_points(space)}
    assert labels == {
        "a d1 lambda=0.01 seed=0",
        "b d1 lambda=0.02 seed=0",
        "b transfer lambda=0.02 seed=0",
        "b transfer_tuned lambda=0.02 seed=0",
    }
    names = ("world", "codec", "features", "latents", "text")
    inputs = Inputs(**{n: getattr(small_stages, n) for n in names}, start=small_stages.d1)
    given = load_file(small_stages.d1 / "model.safetensors")
    for scenario in ("transfer", "transfer_tuned"):
        one = OperatingPoint(space.codecs[1], 0.02, scenario, 0)
        out = tmp_path / scenario
        train_point(space, one, inputs, out, LocalContext(tmp_path / f"{scenario}-run"))
        found = load_file(out / "model.safetensors")
        assert found.keys() == given.keys()
        same = [torch.equal(found[name], given[name]) for name in given]
        assert all(same) if scenario == "transfer" else not any(same)
        assert isinstance(load_point(space, one, small_stages.codec, out), BridgedPoint)


# ---------------------------------------------------------------- U-Net of the neck's size


@pytest.mark.parametrize("levels", [1, 2])
def test_a_u_net_of_the_necks_size_is_the_largest_that_has_no_more(
    small_stages: Small, levels: int
) -> None:
    training = {**SHORT, "channels": "neck", "levels": levels}
    space = make_space(small_stages.root / "teacher", post_processing=training)
    tower = load_tower(space.teacher.model)
    unet = build_unet(space, space.codecs[0], tower)
    limit = number_of_parameters([build_neck(space, space.codecs[0], tower)])
    channels = unet.last.in_channels
    larger = make_space(
        small_stages.root / "teacher", post_processing={**training, "channels": channels + 1}
    )
    assert number_of_parameters([unet]) <= limit
    assert limit < number_of_parameters([build_unet(larger, space.codecs[0], tower)])


# ---------------------------------------------------------------- through the MLLM itself


@pytest.fixture(scope="module")
def through_mllm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Space, Inputs]:
    """Scenes with answers, a tiny LLaVA on the tiny teacher, and a trained d1."""
    root = tmp_path_factory.mktemp("oracle")
    write_world(
        root / "world", scene_tasks(), size=64, seed=0, n_train=8, n_val=4, n_test=0, n_episodes=0
    )
    save_teacher(root / "teacher")
    save_llava(root / "llava")
    space = make_space(
        root / "teacher",
        mllms=[str(root / "llava")],
        baselines=["end_to_end_oracle"],
        end_to_end_oracle=SHORT,
        surrogate={"pooled": 0, "tokens": 1, "phases": [{"until": 1, "ce": 0, "distill": 1}]},
    )
    inputs = Inputs(root / "world", root / "codec", root / "features", root / "latents")
    train_codec(space.codecs[0], 0.01, inputs, root / "codec", LocalContext(root / "c"))
    write_shards(TeacherFeatures(space), root / "world", root / "features")
    latents = CodecLatents(space.codecs[0], root / "codec")
    write_shards(latents, root / "world", root / "latents")
    train_point(space, point(space, "d1"), inputs, root / "d1", LocalContext(root / "d"))
    return space, replace(inputs, start=root / "d1")


def test_the_oracle_moves_the_neck_alone(
    through_mllm: tuple[Space, Inputs], tmp_path: Path
) -> None:
    space, inputs = through_mllm
    one = point(space, "end_to_end_oracle")
    train_point(space, one, inputs, tmp_path / "point", LocalContext(tmp_path / "run"))
    assert inputs.start is not None
    before = load_file(inputs.start / "model.safetensors")
    after = load_file(tmp_path / "point" / "model.safetensors")
    assert after.keys() == before.keys()
    assert all(name.startswith("neck.") for name in after)
    # Keys' biases change nothing, and so get no gradient.
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert not still
    assert isinstance(load_point(space, one, inputs.codec, tmp_path / "point"), BridgedPoint)


def test_the_oracles_loss_is_the_mllms_own_on_its_answers(
    through_mllm: tuple[Space, Inputs],
) -> None:
    space, inputs = through_mllm
    mllm = Mllm.load(space.mllms[0].model)
    asked = read_answers([inputs.world], "val", ["vqa", "rec", "captioning"])
    tower = load_tower(space.teacher.model)
    neck = build_neck(space, space.codecs[0], tower)
    learner = OracleLearner(neck, space.teacher.block, mllm, asked, lr=1e-4).eval()
    rows = Rows("val", ("y_hat",), inputs.world, inputs.latents, None, SHARD)
    batch = rows.batch([(0, row) for row in range(len(rows))]).to(torch.device("cpu"))
    assert batch.y_hat is not None
    found = learner.validate(batch)["loss"].item()
    # transformers' own loss: labels on the answer and the end token, each question on its own.
    means = []
    for image_id, latents in zip(batch.ids, batch.y_hat, strict=True):
        losses = []
        for one in asked[image_id]:
            prompt = one.prompt.replace("<image>", "<image>" * mllm.tokens_per_image)
            start = mllm.tokenizer(prompt)["input_ids"]
            end = mllm.tokenizer(one.answer, add_special_tokens=False)["input_ids"]
            end.append(mllm.tokenizer.eos_token_id)
            ids = torch.tensor([[*start, *end]])
            labels = torch.tensor([[*[-100] * len(start), *end]])
            pixels = torch.zeros(1, 3, 56, 56)
            with torch.no_grad(), entered(mllm.tower, 2, neck(latents[None])):
                out = mllm.model(input_ids=ids, pixel_values=pixels, labels=labels)
            losses.append(out.loss.item())
        means.append(np.mean(losses))
    assert found == pytest.approx(float(np.mean(means)), rel=1e-4)


def test_a_step_of_the_oracle_asks_one_thing_of_each_image_in_turn() -> None:
    class Recorder:
        model = torch.nn.Linear(1, 1)

        def answer_losses(self, entry: Any, places: Any, prompts: Any, answers: Any) -> Tensor:
            self.asked = list(zip(places, prompts, answers, strict=True))
            return torch.arange(1.0, 1 + len(prompts))

    space = make_space(Path("nowhere"))
    asked = {"a": [Question("p0", "x"), Question("p1", "y")], "b": [Question("p2", "z")]}
    recorder: Any = Recorder()
    neck: Any = torch.nn.Identity()
    learner = OracleLearner(neck, space.teacher.block, recorder, asked, lr=1e-4)
    batch = Batch(("a", "b"), y_hat=torch.zeros(2, 1))
    assert learner(batch, 1)["loss"].item() == pytest.approx(1.5)
    assert recorder.asked == [(0, "p1", "y"), (1, "p2", "z")]
    # Validation: images count alike, however many things are asked about them.
    assert learner.validate(batch)["loss"].item() == pytest.approx(((1 + 2) / 2 + 3) / 2)
