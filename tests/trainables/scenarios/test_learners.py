"""What each scenario trains, minimises and sees, against independent computations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from search_spaces import OperatingPoint, Space
from tests.trainables.conftest import Small
from tests.trainables.small import SHARD, make_clip, point
from trainables.codecs import Codec, bits_estimated
from trainables.datasets.batches import in_order
from trainables.datasets.rows import Batch, Rows
from trainables.encoders.partial_encoder import Teacher
from trainables.encoders.tower import Tower
from trainables.points.contract import load_point, method_of
from trainables.points.inputs import Inputs
from trainables.points.learning import Learner
from trainables.points.models import BridgedPoint, DecodedPoint
from trainables.scenarios.d2 import JointLearner
from trainables.training.context import LocalContext
from trainables.training.train import train_codec, train_point

TRAINED = ("d1", "d2", "d3", "post_processing")


def inputs_of(small: Small) -> Inputs:
    return Inputs(small.world, small.codec, small.features, small.latents, small.d1, small.text)


def new_learner(space: Space, scenario: str, inputs: Inputs) -> Learner:
    return method_of(scenario).learner(space, point(space, scenario), inputs)


def learner_of(small: Small, scenario: str) -> Learner:
    torch.manual_seed(0)
    return new_learner(small.space, scenario, inputs_of(small))


def batch_of(small: Small, learner: Learner) -> Batch:
    sources = (small.world, small.latents, small.features, SHARD)
    return next(in_order(Rows("train", learner.columns, *sources), 4)).to(torch.device("cpu"))


@pytest.mark.parametrize(
    ("scenario", "parts"),
    [
        ("d1", {"neck"}),
        ("d2", {"neck", "codec"}),
        ("d3", {"neck", "codec"}),
        ("post_processing", {"unet"}),
    ],
)
def test_exactly_what_is_trained_gets_gradients(
    small_stages: Small, scenario: str, parts: set[str]
) -> None:
    learner = learner_of(small_stages, scenario).train()
    terms = learner(batch_of(small_stages, learner), 3)
    (terms["loss"] + terms.get("aux", 0)).backward()
    trained = {n for n, p in learner.named_parameters() if p.requires_grad}
    assert {n for n, p in learner.named_parameters() if p.grad is not None} == trained
    assert {name.split(".")[0] for name in trained} == parts
    assert set(learner.trained()) == trained
    grouped = [p for group in learner.groups() for p in group.parameters]
    assert {id(p) for p in grouped} == {id(p) for p in learner.parameters() if p.requires_grad}
    assert len(grouped) == len(trained)
    if scenario == "d3":
        assert not [name for name in trained if "g_s" in name]
    for name, child in learner.named_children():
        assert child.training == (name in parts)


def test_quantiles_learn_from_the_auxiliary_loss_alone(small_stages: Small) -> None:
    learner = learner_of(small_stages, "d2").train()
    assert isinstance(learner, JointLearner)
    quantiles = {id(p) for p in learner.codec.aux_parameters()}
    terms = learner(batch_of(small_stages, learner), 0)
    terms["aux"].backward(retain_graph=True)
    touched = {id(p) for p in learner.parameters() if p.grad is not None and bool(p.grad.any())}
    assert touched == quantiles
    learner.zero_grad()
    terms["loss"].backward()
    touched = {id(p) for p in learner.parameters() if p.grad is not None and bool(p.grad.any())}
    assert touched
    assert not touched & quantiles


def raising(*_: object, **__: object) -> None:
    raise AssertionError("this must not run")


def test_d1_trains_without_codec_teacher_or_images(
    small_stages: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("forward", "latents", "synthesis", "encode", "decode", "__init__"):
        monkeypatch.setattr(Codec, name, raising)
    for name in ("forward", "hidden", "__init__"):
        monkeypatch.setattr(Teacher, name, raising)
    monkeypatch.setattr("trainables.datasets.rows.decode_image", raising)
    inputs = Inputs(
        small_stages.world,
        None,
        small_stages.features,
        small_stages.latents,
        text=small_stages.text,
    )
    d1 = point(small_stages.space, "d1")
    train_point(small_stages.space, d1, inputs, tmp_path / "out", LocalContext(tmp_path / "run"))
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_d3_never_runs_the_synthesis_transform(
    small_stages: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of(small_stages, "d3").train()
    assert isinstance(learner, JointLearner)
    monkeypatch.setattr(learner.codec.net.g_s, "forward", raising)
    batch = batch_of(small_stages, learner)
    learner(batch, 0)
    learner.eval()
    assert "psnr" not in learner.validate(batch)


@pytest.mark.parametrize("scenario", ["d2", "d3"])
def test_joint_loss_is_the_papers(small_stages: Small, scenario: str) -> None:
    space = small_stages.space
    settings = {"gamma": 40.0, "delta": 3.0, "steps": 6}
    space = space.model_copy(update={scenario: space.d2.model_copy(update=settings)})
    learner = new_learner(space, scenario, inputs_of(small_stages)).eval()
    assert isinstance(learner, JointLearner)
    batch = batch_of(small_stages, learner)
    with torch.no_grad():
        terms = learner.validate(batch)
        output = learner.codec(batch.image)
        hidden = clip_from_block(learner.neck(output.y_hat))
    assert output.x_hat is not None
    rate = bits_estimated(output.likelihoods).numpy() / 64**2
    pooled = np.mean((hidden["pooled"].numpy() - batch.pooled.numpy()) ** 2)
    tokens = np.mean((hidden["tokens"].numpy() - batch.tokens.numpy()) ** 2)
    distillation = 1.0 * pooled + 0.5 * tokens
    image = np.mean((output.x_hat.numpy() - batch.image.numpy()) ** 2) if scenario == "d2" else 0
    expected = rate.mean() + 0.01 * (40.0 * image + 3.0 * distillation)
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-4)
    assert terms["bpp_estimated"].item() == pytest.approx(rate.mean(), rel=1e-4)


EPOCHS = {0: (100, 0), 19: (100, 0), 20: (1, 100), 39: (1, 100), 40: (0, 100), 59: (0, 100)}


@pytest.mark.parametrize("scenario", ["d1", "post_processing"])
def test_the_surrogate_loss_of_every_phase_is_its_closed_form(
    small_stages: Small, scenario: str
) -> None:
    """In NumPy from the student's features, at the paper's epochs; a step is an epoch here."""
    space = small_stages.space
    longer = getattr(space, scenario).model_copy(update={"steps": 60})
    space = space.model_copy(update={scenario: longer})
    torch.manual_seed(0)
    learner = new_learner(space, scenario, inputs_of(small_stages))
    batch = batch_of(small_stages, learner)
    assert learner.text_weights is not None
    text, target = learner.text_weights.double().numpy(), batch.classes.double().numpy()
    with torch.no_grad():
        if scenario == "d1":
            student = clip_from_block(learner.neck(batch.y_hat))
        else:
            student = clip_from_pixels(learner.unet(learner._decoded(batch)))
    pooled, tokens = (student[name].double().numpy() for name in ("pooled", "tokens"))
    logits = pooled @ text
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    ce = -np.mean(np.sum(target * log_probabilities, 1))
    distill = np.mean((pooled - batch.pooled.double().numpy()) ** 2)
    distill += 0.5 * np.mean((tokens - batch.tokens.double().numpy()) ** 2)
    assert min(ce, distill) > 0.01
    for epoch, (alpha, beta) in EPOCHS.items():
        terms = learner(batch, epoch)
        assert terms["loss"].item() == pytest.approx(alpha * ce + beta * distill, rel=1e-5)
        assert ("ce" in terms, "distill" in terms) == (alpha > 0, beta > 0)


class Tokens(nn.Module):
    """Stands where a tower's embeddings stood."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, *_: object, **__: object) -> Tensor:
        return self.tokens


class PassThrough(nn.Module):
    """Stands where an encoder block stood."""

    def forward(self, hidden: Tensor, *_: object, **__: object) -> Tensor:
        return hidden


def clip_from_block(tokens: Tensor, block: int = 2) -> dict[str, Tensor]:
    """Tokens through transformers' own tower, entered at a block by replacing what is before."""
    clip = make_clip()
    tower = clip.vision_model
    tower.embeddings, tower.pre_layrnorm = Tokens(tokens), nn.Identity()
    for skipped in range(block):
        tower.encoder.layers[skipped].forward = PassThrough().forward
    with torch.no_grad():
        out = tower(pixel_values=torch.zeros(1), output_hidden_states=True)
        pooled = clip.visual_projection(out.pooler_output)
    return {"tokens": out.hidden_states[-2], "pooled": pooled, "last": out.hidden_states[-1]}


def clip_from_pixels(images: Tensor) -> dict[str, Tensor]:
    """Images through transformers' own model."""
    clip = make_clip()
    pixels = Tower(clip).preprocess(images)
    with torch.no_grad():
        out = clip.vision_model(pixel_values=pixels, output_hidden_states=True)
        pooled = clip.visual_projection(out.pooler_output)
    return {"tokens": out.hidden_states[-2], "pooled": pooled}


@pytest.fixture(scope="module")
def trained(small_stages: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("points")
    for scenario in (*TRAINED, "reconstruction"):
        context = LocalContext(root / f"{scenario}-context")
        chosen = point(small_stages.space, scenario)
        train_point(small_stages.space, chosen, inputs_of(small_stages), root / scenario, context)
    return root


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("scenario", ["d1", "d2", "d3"])
def test_necks_see_latents_through_the_partial_encoder(
    small_stages: Small, trained: Path, image: Tensor, scenario: str
) -> None:
    chosen = point(small_stages.space, scenario)
    model = load_point(small_stages.space, chosen, small_stages.codec, trained / scenario)
    assert isinstance(model, BridgedPoint)
    received = model.decode(model.encode(image).streams, (image.shape[-2], image.shape[-1]))
    y_hat = received.symbols
    expected = clip_from_block(model.neck(y_hat).detach())
    entry = model.enter(received)
    assert received.x_hat is None
    assert entry.block == 2
    torch.testing.assert_close(model.encoder.hidden(entry.given, -2), expected["tokens"])
    torch.testing.assert_close(model.encoder.hidden(entry.given, -1), expected["last"])
    decoded = model.image(received)
    if scenario == "d3":
        assert decoded is None
    else:
        assert decoded is not None
        assert torch.equal(decoded, model.codec.synthesis(y_hat))


@pytest.mark.parametrize("scenario", ["uncompressed", "reconstruction", "post_processing"])
def test_baselines_see_images_through_the_complete_encoder(
    small_stages: Small, trained: Path, image: Tensor, scenario: str
) -> None:
    space = small_stages.space
    image = (image * 255).round() / 255  # an original image has 8 bits per component
    if scenario == "uncompressed":
        model = load_point(space, OperatingPoint(None, None, scenario, 0), None, trained)
        looked_at = image
    else:
        chosen = point(space, scenario)
        model = load_point(space, chosen, small_stages.codec, trained / scenario)
        assert isinstance(model, DecodedPoint)
        y_hat = model.codec.decode(model.codec.encode(image))
        looked_at = model.codec.synthesis(y_hat)
        if model.network is not None:
            looked_at = model.network(looked_at).detach()
            assert not torch.equal(looked_at, model.codec.synthesis(y_hat))
    streams = model.encode(image).streams
    entry = model.enter(model.decode(streams, (image.shape[-2], image.shape[-1])))
    assert entry.block is None
    assert torch.equal(entry.given, looked_at)
    with torch.no_grad():
        seen = model.encoder.hidden(entry.given, -2)
        assert torch.equal(seen, Teacher(Tower(make_clip())).hidden(looked_at, -2))


def test_joint_points_have_codecs_of_their_own(
    small_stages: Small, trained: Path, image: Tensor
) -> None:
    base = load_file(small_stages.codec / "model.safetensors")
    for scenario in ("d2", "d3"):
        chosen = point(small_stages.space, scenario)
        model = load_point(small_stages.space, chosen, small_stages.codec, trained / scenario)
        assert isinstance(model, BridgedPoint)
        own = model.codec.net.state_dict()
        changed = {n.split(".")[0] for n in base if not torch.equal(base[n], own[n])}
        assert {"g_a", "h_a", "h_s", "entropy_bottleneck"} <= changed
        assert ("g_s" in changed) == (scenario == "d2")
        # The tables are those of the new weights, or this would not come back.
        decoded = model.codec.decode(model.codec.encode(image))
        torch.testing.assert_close(decoded, model.codec.latents(image), atol=1e-5, rtol=0)


def test_files_hold_only_what_was_trained(trained: Path) -> None:
    prefixes = {
        scenario: {n.split(".")[0] for n in load_file(trained / scenario / "model.safetensors")}
        for scenario in TRAINED
    }
    assert prefixes == {
        "d1": {"neck"},
        "d2": {"neck", "codec"},
        "d3": {"neck", "codec"},
        "post_processing": {"unet"},
    }
    assert not [n for n in load_file(trained / "d3" / "model.safetensors") if ".g_s." in n]
    assert [p.name for p in (trained / "reconstruction").iterdir()] == ["info.json"]


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_loading_is_strict(small_stages: Small, trained: Path, tmp_path: Path, change: str) -> None:
    state = load_file(trained / "d1" / "model.safetensors")
    if change == "missing":
        del state["neck.position"]
    elif change == "unknown":
        state["neck.other"] = torch.zeros(1)
    else:
        state["neck.position"] = state["neck.position"][:-1].clone()
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"neck\.(position|other) is"):
        load_point(
            small_stages.space, point(small_stages.space, "d1"), small_stages.codec, tmp_path
        )


def test_post_processing_learns_the_same_from_stored_latents(
    small_stages: Small, tmp_path: Path
) -> None:
    chosen = point(small_stages.space, "post_processing")
    latents = {}
    for name, stored in (("images", None), ("latents", small_stages.latents)):
        inputs = Inputs(
            small_stages.world,
            small_stages.codec,
            small_stages.features,
            stored,
            text=small_stages.text,
        )
        context = LocalContext(tmp_path / f"{name}-run")
        train_point(small_stages.space, chosen, inputs, tmp_path / name, context)
        latents[name] = load_file(tmp_path / name / "model.safetensors")
    for name, value in latents["images"].items():
        torch.testing.assert_close(latents["latents"][name], value, atol=5e-3, rtol=0)


def test_a_base_codec_starts_from_given_weights(small_stages: Small, tmp_path: Path) -> None:
    spec = small_stages.space.codecs[0]
    slow = spec.train.model_copy(update={"lr": 1e-12, "aux_lr": 1e-12, "steps": 1})
    spec = spec.model_copy(update={"weights": str(small_stages.codec), "train": slow})
    inputs, context = Inputs(small_stages.world), LocalContext(tmp_path / "run")
    train_codec(spec, 0.01, inputs, tmp_path / "codec", context)
    base = load_file(small_stages.codec / "model.safetensors")
    for name, value in load_file(tmp_path / "codec" / "model.safetensors").items():
        torch.testing.assert_close(value, base[name], atol=1e-6, rtol=1e-6)
