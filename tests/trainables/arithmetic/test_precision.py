"""What is recorded is computed exactly, training steps are fast, and afterwards all is as before.

There is no GPU here: what is checked is how PyTorch's switches for GPUs stand while a model runs.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.trainables.codecs.test_codecs import images, lively
from tests.trainables.conftest import Small
from tests.trainables.small import point
from trainables.arithmetic.precision import exact, fast
from trainables.points.inputs import Inputs
from trainables.training.context import LocalContext
from trainables.training.precompute import TeacherFeatures
from trainables.training.train import train_point

Switches = tuple[bool, bool, bool, bool]
"""TF32 of matrix products, TF32 of convolutions, deterministic kernels, kernels tried for speed."""
EXACT, FAST = (False, False, True, False), (True, True, False, False)
CPU = torch.device("cpu")


def switches() -> Switches:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark


@pytest.fixture(params=[(True, True, False, True), (False, True, False, False)])
def before(request: pytest.FixtureRequest) -> Iterator[Switches]:
    """How a user has set the switches; they must stand so afterwards."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    default = switches()
    given: Switches = request.param
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = given
    yield given
    assert switches() == given
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = default


def noted(network: nn.Module) -> set[Switches]:
    """How the switches stand whenever a convolution or a linear layer of a network runs."""
    seen: set[Switches] = set()
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.register_forward_hook(lambda *_: seen.add(switches()))
    return seen


def test_the_ways_nest_and_are_undone_after_an_error(before: Switches) -> None:
    def fail() -> None:
        with fast(), exact(CPU):
            raise KeyError

    with fast():
        assert switches() == FAST
        with exact(CPU):
            assert switches() == EXACT
        assert switches() == FAST
    assert switches() == before
    with pytest.raises(KeyError):
        fail()


def test_exactly_is_without_autocast() -> None:
    a = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with exact(CPU):
            assert (a @ a).dtype == torch.float32


@pytest.mark.parametrize("arch", ["mbt2018-mean", "elic2022-chandelier", "mbt2018", "tic"])
def test_coding_is_exact(arch: str, before: Switches) -> None:
    codec, x = lively(arch), images(1)
    seen = noted(codec.net)
    with torch.autocast("cpu", torch.bfloat16):
        streams = codec.encode(x)
    assert seen == {EXACT}
    seen.clear()
    y_hat = codec.decode(streams)
    codec.synthesis(y_hat)
    assert seen == {EXACT}
    assert torch.equal(codec.latents(x), y_hat)
    assert seen == {EXACT}
    assert switches() == before


def test_a_refused_stream_leaves_the_switches_as_they_were(before: Switches) -> None:
    codec, other = lively("mbt2018-mean", 0), lively("mbt2018-mean", 1)
    other._id = codec._id
    with pytest.raises(ValueError, match="damaged"):
        other.decode(codec.encode(images(1)))
    assert switches() == before


@pytest.mark.parametrize("scenario", ["d1", "d2"])
def test_training_steps_are_fast_and_validations_are_exact(
    scenario: str,
    small_stages: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: Switches,
) -> None:
    forward: dict[bool, set[Switches]] = {True: set(), False: set()}
    backward: set[Switches] = set()

    def linear(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        output = nn.functional.linear(x, self.weight, self.bias)
        forward[torch.is_grad_enabled()].add(switches())
        if output.requires_grad:
            output.register_hook(lambda gradient: backward.add(switches()))
        return output

    monkeypatch.setattr(nn.Linear, "forward", linear)
    small = small_stages
    inputs = Inputs(small.world, small.codec, small.features, small.latents, small.d1, small.text)
    context = LocalContext(tmp_path / "run")
    train_point(small.space, point(small.space, scenario), inputs, tmp_path / "out", context)
    assert forward == {True: {FAST}, False: {EXACT}}
    assert backward == {FAST}
    assert switches() == before


def test_stored_features_are_exact(small_stages: Small, before: Switches) -> None:
    model = TeacherFeatures(small_stages.space)
    seen = noted(model._teacher)
    model.compute(images(1, (64, 64)))
    assert seen == {EXACT}
    assert switches() == before
