"""Specs fail at construction, and their defaults are the paper's."""

import pytest
from pydantic import ValidationError

from search_spaces.codecs.elic import ElicCodec
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.space import Space
from search_spaces.specs.training import NeckSpec, SurrogateSpec


def test_defaults_are_the_papers() -> None:
    codec = ElicCodec(arch="elic2022-chandelier")
    assert (codec.N, codec.M, codec.lambdas) == (192, 320, (0.004, 0.008, 0.016, 0.032))
    assert NeckSpec().layers == 1
    phases = SurrogateSpec().phases
    assert [(p.ce, p.distill) for p in phases] == [(100, 0), (1, 100), (0, 100)]
    space = Space(name="paper", codecs=(codec,), mllms=("llava-hf/llava-1.5-7b-hf",))
    assert space.teacher.block == 2
    assert space.d2.gamma / space.d2.delta == 60
    # CompressAI trains with lambda 255^2 MSE + bpp: the image weighs in d2 what it does there.
    assert (space.d2.gamma, space.d3.delta) == (65025, 1083.75)


@pytest.mark.parametrize(
    "phases",
    [
        (),
        ({"until": 0.5, "ce": 1, "distill": 1},),
        ({"until": 1, "ce": 1, "distill": 1}, {"until": 0.5, "ce": 1, "distill": 1}),
    ],
)
def test_phases_must_cover_the_training(phases: tuple) -> None:
    with pytest.raises(ValidationError, match=r"phases"):
        SurrogateSpec(phases=phases)


def test_a_phase_without_any_loss_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"phases.0\n.* ce .* distill"):
        SurrogateSpec.model_validate({"phases": [{"until": 1, "ce": 0, "distill": 0}]})


def test_a_neck_cannot_start_from_blocks_that_are_not_skipped() -> None:
    with pytest.raises(ValidationError, match=r"neck.layers 3.*2 blocks"):
        Space.model_validate(
            {
                "name": "x",
                "codecs": [{"arch": "mbt2018-mean"}],
                "mllms": ["m"],
                "neck": {"layers": 3, "init": "encoder"},
            }
        )


def test_a_lambda_of_ms_ssim_is_not_taken_for_one_of_the_mse() -> None:
    codec = {"arch": "mbt2018", "qualities": [1], "weights": "compressai:ms-ssim"}
    assert CodecSpec.model_validate(codec).lambdas == (2.4,)
    with pytest.raises(ValidationError, match=r"d2: .*ms-ssim"):
        Space.model_validate({"name": "x", "codecs": [codec], "mllms": ["m"]})
    space = {"name": "x", "codecs": [codec], "mllms": ["m"], "scenarios": ["d1"]}
    Space.model_validate(space)
