"""downscale: what is sent is the smaller image's stream, what is seen has the first size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from search_spaces import OperatingPoint, Stages, operating_points, point_stage
from tests.trainables.conftest import Small
from tests.trainables.small import make_space
from trainables.commands.costs import complexity
from trainables.datasets.tensors import to_bytes, to_tensor
from trainables.points.contract import load_point
from trainables.points.models import DecodedPoint


def of_factor(small: Small, factor: float) -> tuple[DecodedPoint, OperatingPoint]:
    space = make_space(
        small.root / "teacher",
        codecs=[small.space.codecs[0].model_dump(mode="json")],
        baselines=["downscale"],
        scenarios=[],
        downscale={"factor": factor},
    )
    (point,) = operating_points(space)
    model = load_point(space, point, small.codec, small.root)
    assert isinstance(model, DecodedPoint)
    return model, point


def pictures(height: int, width: int) -> list[np.ndarray]:
    """Smooth pictures, of which resizing keeps nearly everything."""
    coarse = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    return [np.array(Image.fromarray(c).resize((width, height), 3)) for c in coarse]


@pytest.mark.parametrize(("factor", "small_size"), [(2.0, (40, 36)), (1.5, (53, 48))])
def test_the_stream_is_the_codecs_of_the_image_that_pillow_makes_smaller(
    small_stages: Small, factor: float, small_size: tuple[int, int]
) -> None:
    model, _ = of_factor(small_stages, factor)
    images = pictures(80, 72)
    sent = model.encode(to_tensor(images))
    # Pillow resizes with the same filter, on bytes: an independent source up to rounding.
    resized = [np.array(Image.fromarray(x).resize(small_size[::-1], 3)) for x in images]
    latents = model.codec.latents(to_tensor(resized))
    received = model.decode(sent.streams, (80, 72))
    assert received.symbols.shape == latents.shape
    assert (received.symbols - latents).abs().mean() < 0.05
    assert sent.streams != model.codec.encode(to_tensor(images))


def test_the_image_is_pillows_enlargement_of_the_decoded_one(small_stages: Small) -> None:
    model, _ = of_factor(small_stages, 2.0)
    streams = model.encode(to_tensor(pictures(64, 64))).streams
    received = model.decode(streams, (64, 64))
    image = model.image(received)
    assert image.shape == (2, 3, 64, 64)
    assert torch.equal(model.enter(received).given, image)
    assert model.enter(received).block is None
    decoded = to_bytes(model.codec.synthesis(received.symbols, (32, 32)))
    for enlarged, small in zip(to_bytes(image), decoded, strict=True):
        expected = np.array(Image.fromarray(small).resize((64, 64), 3)).astype(int)
        assert np.abs(enlarged.astype(int) - expected).max() <= 2


def test_another_factor_is_another_point_and_one_codec_serves_both(small_stages: Small) -> None:
    keys = set()
    for factor in (2.0, 3.0):
        _, point = of_factor(small_stages, factor)
        space = make_space(
            small_stages.root / "teacher",
            codecs=[small_stages.space.codecs[0].model_dump(mode="json")],
            baselines=["downscale"],
            scenarios=[],
            downscale={"factor": factor},
        )
        stage = point_stage(Stages(space), point)
        keys.add(stage.key)
        assert [read.kind for read in stage.inputs] == ["codec"]
    assert len(keys) == 2


@pytest.mark.parametrize("factor", [1.0, 0.5, 17, float("nan")])
def test_a_factor_that_makes_nothing_smaller_is_refused(small_stages: Small, factor: float) -> None:
    with pytest.raises(ValidationError) as error:
        make_space(small_stages.root / "teacher", downscale={"factor": factor})
    assert error.value.errors()[0]["loc"] == ("downscale", "factor")


def test_half_the_side_costs_a_quarter_of_the_codec() -> None:
    from search_spaces import load_space

    space = load_space("demo", ["baselines=[reconstruction, downscale]", "scenarios=[]"])
    parts = {part.part: part for part in complexity(space)[0]}
    for name in ("analysis", "synthesis", "hyper_analysis"):
        assert parts[f"downscaled_{name}"].macs * 4 == parts[name].macs
        assert parts[f"downscaled_{name}"].parameters == parts[name].parameters
