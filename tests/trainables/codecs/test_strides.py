"""Codecs of third parties, of any stride: found, checked, trained, written and read."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck
from pydantic import ValidationError
from torch import Tensor, nn

from orchestrator.validation.teachers import grids, teacher_sizes
from search_spaces import CodecSpec, Space, Stages, load_space
from search_spaces.codecs.hyperprior import HyperpriorCodec
from search_spaces.plugins import BrokenPluginError
from search_spaces.specs.codec import CODECS
from tests.trainables.codecs.plugin import installed
from tests.trainables.codecs.strided_settings import Stride8, Stride32
from trainables.codecs import Codec, LatentCodec, build_codec
from trainables.codecs.building import check_geometry
from trainables.codecs.entropy.bitstream import unpack
from trainables.codecs.factorized import Factorized
from trainables.datasets.rows import Batch
from trainables.encoders.load import meta_tower
from trainables.points.counting import Counting, codec_parts
from trainables.scenarios.base_codec import CodecLearner

STRIDES = {8: Stride8(arch="strided-8"), 32: Stride32(arch="strided-32")}
"""Settings by stride."""


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path) -> Iterator[None]:
    with installed(tmp_path / "site"):
        yield


def images(n: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, height // 4 + 1, width // 4 + 1, generator=generator)
    return nn.functional.interpolate(coarse, (height, width), mode="bilinear").clamp(0, 1)


@pytest.mark.parametrize("stride", STRIDES)
def test_a_codec_of_any_stride_trains_and_is_read_as_it_was_written(stride: int) -> None:
    torch.manual_seed(0)
    spec = CodecSpec.model_validate({"arch": f"strided-{stride}", "lambdas": [0.01]})
    assert spec == STRIDES[stride].model_copy(update={"lambdas": (0.01,)})
    codec = build_codec(spec)
    assert (codec.stride, codec.pad_to) == (stride, 4 * stride)
    learner = CodecLearner(codec, {0: 0.01}, lr=3e-3)
    optimiser = torch.optim.Adam(codec.main_parameters(), lr=3e-3)
    batch = Batch(ids=["a", "b"], image=images(2, 128, 128))
    losses = []
    for step in range(12):
        optimiser.zero_grad()
        loss = learner(batch, step)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    codec.eval().requires_grad_(False)
    with torch.no_grad():
        codec.g_a[-1].weight.mul_(20)  # many different symbols
    codec.update()
    for height, width in ((128, 128), (37, 70), (1, 133)):
        x = images(2, height, width)
        streams = codec.encode(x)
        y_hat = codec.decode(streams)
        assert torch.equal(y_hat, torch.cat([codec.latents(image) for image in x.split(1)]))
        padded = [side + -side % (4 * stride) for side in (height, width)]
        assert y_hat.shape == (2, 12, *(side // stride for side in padded))
        assert y_hat.round().unique().numel() > 5
        assert codec.synthesis(y_hat, (height, width)).shape == x.shape
        assert (unpack(streams[0]).height, unpack(streams[0]).width) == (height, width)


def network(stages: int, channels: int = 12, growth: int = 1) -> nn.Module:
    """Transforms of a stride of 2^stages, and a synthesis that enlarges `growth` times as much."""
    net = nn.Module()
    sizes = [3, *[4] * (stages - 1), channels]
    down = [nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(sizes)]
    net.g_a = nn.Sequential(*down)
    net.g_s = nn.Sequential(nn.Upsample(scale_factor=growth * 2**stages), nn.Conv2d(channels, 3, 1))
    net.entropy_bottleneck = EntropyBottleneck(channels)
    return net


def test_an_image_of_two_symbols_is_written_and_read() -> None:
    net = network(3, channels=2)
    with torch.no_grad():
        net.g_a[-1].weight.mul_(200)
    codec = LatentCodec("tiny", 2, net, Factorized(net), stride=8).eval()
    codec.update()
    x = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y_hat = codec.decode(codec.encode(x))
    assert y_hat.shape == (5, 2, 1, 1)
    assert torch.equal(y_hat, torch.cat([codec.latents(image) for image in x.split(1)]))
    assert y_hat.unique().numel() > 3


class WithoutHyperLatents(Stride8):
    pad_to: ClassVar[int] = 8


FACTORIZED_8 = WithoutHyperLatents(arch="strided-8")


@pytest.mark.parametrize(
    ("net", "named"),
    [
        (network(4), ("strided-8", "stride is 8", "16")),
        (network(2), ("strided-8", "stride is 8", "4")),
        (network(3, channels=10), ("strided-8", "M is 12", "10")),
        (network(3, growth=2), ("strided-8", "3 x 256 x 512", "3 x 512 x 1024")),
    ],
)
def test_a_network_that_is_not_what_its_settings_declare_is_refused(
    net: nn.Module, named: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="strided-8") as error:
        check_geometry(Codec(FACTORIZED_8, net, Factorized(net)))
    assert all(text in str(error.value) for text in named), error.value
    check_geometry(Codec(FACTORIZED_8, network(3), Factorized(net)))
    with pytest.raises(ValueError, match=r"pad_to is 32.* 8"):
        check_geometry(Codec(STRIDES[8], network(3), Factorized(net)))


def test_the_check_draws_no_random_numbers_and_leaves_the_network_in_training() -> None:
    torch.manual_seed(0)
    codec = build_codec(STRIDES[8])
    drawn = torch.rand(())
    torch.manual_seed(0)
    build = type(codec.net)(8, 12, 3)
    assert torch.equal(drawn, torch.rand(()))
    pairs = zip(build.parameters(), codec.net.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert all(module.training for module in codec.modules())
    assert {p.device.type for p in codec.parameters()} == {"cpu"}


class NoCodec(Stride8):
    implementation = "tests.trainables.codecs.test_strides:network"


class Nowhere(Stride8):
    implementation = "no_such_module_at_all:build"


@pytest.mark.parametrize(
    ("family", "named"), [(Nowhere, "no_such_module_at_all"), (NoCodec, "test_strides:network")]
)
def test_a_computing_half_that_makes_no_codec_is_named(
    family: type[CodecSpec], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.trainables.codecs.test_strides.network", lambda settings: 3)
    with pytest.raises(BrokenPluginError, match=named):
        build_codec(family(arch="strided-8"))


def space() -> Space:
    codecs = [{"arch": "strided-8"}, {"arch": "strided-32"}, {"arch": "mbt2018-mean"}]
    return Space.model_validate({**load_space("smoke").model_dump(), "codecs": codecs})


def test_a_plan_knows_the_latents_of_each_stride() -> None:
    made = space()
    assert [codec.latent_sides(112, 100) for codec in made.codecs] == [(14, 13), (4, 4), (7, 7)]
    sizes = teacher_sizes(made.teacher.model)
    assert sizes is not None
    assert "16x16 and 4x4 and 8x8" in grids(made, sizes)


def test_images_of_a_size_that_a_codec_would_pad_are_refused() -> None:
    data = {"size": 64}
    with pytest.raises(ValidationError) as error:
        Space.model_validate({**space().model_dump(), "data": data})
    message = str(error.value)
    assert all(text in message for text in ("data.size", "64", "codecs.1 (strided-32)", "128"))
    assert "codecs.0" not in message


def test_the_cost_of_a_codec_is_counted_at_its_stride() -> None:
    made = space()
    counting = Counting(made, meta_tower(made.teacher.model))
    macs = {part.part: part.macs for part in codec_parts(counting, "s", STRIDES[8])}
    kernels = 25  # of 5x5 convolutions of stride 2, at 128 x 128 pixels
    analysis = kernels * (64**2 * 3 * 8 + 32**2 * 8 * 8 + 16**2 * 8 * 12)
    assert macs["analysis"] == analysis
    hyper = kernels * (8**2 * 12 * 8 + 4**2 * 8 * 8)
    assert macs["hyper_analysis"] == hyper


def test_the_distribution_of_a_codec_is_in_its_stage_key(tmp_path: Path) -> None:
    made = space()
    strided, project = (Stages(made).codec(codec, codec.lambdas[0]) for codec in made.codecs[1:])
    assert "plugin" not in project.spec
    assert strided.spec["plugin"].keys() == {"distribution", "version", "content"}
    assert (strided.spec["plugin"]["distribution"], strided.spec["plugin"]["version"]) == (
        "strided",
        "1.5",
    )
    assert strided.spec.keys() - {"plugin"} == {"arch", "N", "M", "weights", "train", "lmbda"}
    with installed(tmp_path / "later", version="1.6"):
        assert Stages(made).codec(made.codecs[1], 0.004).key != strided.key
        assert Stages(made).codec(made.codecs[2], 0.004).key == project.key


def test_a_codec_that_cannot_be_used_fails_only_spaces_that_ask_for_it(tmp_path: Path) -> None:
    points = {
        "absent": "no_such_module_at_all:CODEC",
        "number": "math:pi",
        "foreign": "tests.trainables.codecs.strided_network:Network",
    }
    with installed(tmp_path / "broken", points):
        assert points.keys() <= set(CODECS.names())
        assert CODECS.broken().keys() == points.keys()
        assert CODECS.working()["tic"] is CODECS.get("tic")
        HyperpriorCodec(arch="mbt2018-mean")
        for name, reason in (("absent", "ModuleNotFoundError"), ("number", "float")):
            with pytest.raises(ValidationError) as error:
                CodecSpec.model_validate({"arch": name})
            (mistake,) = error.value.errors()
            assert mistake["loc"] == ("arch",)
            assert mistake["type"] == "broken_family"
            assert reason in mistake["msg"]
            assert "strided 1.5" in mistake["msg"]
