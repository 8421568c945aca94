"""Specs fail at construction, and their defaults are the paper's."""

import pytest
from pydantic import ValidationError

from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.space import Space
from search_spaces.specs.training import NeckSpec, SurrogateSpec


def test_defaults_are_the_papers() -> None:
    codec = CodecSpec(arch="elic2022-chandelier")
    assert (codec.N, codec.M, codec.lambdas) == (192, 320, (0.004, 0.008, 0.016, 0.032))
    assert NeckSpec().layers == 1
    phases = SurrogateSpec().phases
    assert [(p.ce, p.distill) for p in phases] == [(100, 0), (1, 100), (0, 100)]
    space = Space(name="paper", codecs=(codec,), mllms=("llava-hf/llava-1.5-7b-hf",))
    assert space.teacher.block == 2
    assert space.d2.gamma / space.d2.delta == 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "mbt2018-mean", "groups": (16, 16)}, "setting of elic2022-chandelier"),
        ({"arch": "elic2022-chandelier", "M": 96}, "groups is needed"),
        ({"arch": "elic2022-chandelier", "M": 96, "groups": (16, 16)}, "add up to 32"),
        ({"arch": "mbt2018-mean", "lambdas": (0.01, 0.01)}, "different values"),
        ({"arch": "mbt2018-mean", "lambdas": ()}, "different values"),
        ({"arch": "mbt2018-mean", "lambdas": (-1.0,)}, "greater than 0"),
        ({"arch": "jpeg"}, "elic2022-chandelier"),
        ({"arch": "mbt2018-vbr", "lambdas": (0.01,)}, "has qualities, not lambdas"),
        ({"arch": "cheng2020-attn", "qualities": (7,)}, "1 to 6"),
        ({"arch": "elic2022-chandelier", "qualities": (1,)}, "CompressAI has none"),
        ({"arch": "mbt2018", "qualities": (1,), "lambdas": (0.01,)}, "give one of the two"),
        ({"arch": "mbt2018", "qualities": (1,), "N": 128}, "N and M follow"),
        ({"arch": "mbt2018", "weights": "compressai:mse"}, "needs qualities"),
        ({"arch": "mbt2018-vbr", "weights": "compressai:ms-ssim"}, "are compressai:mse"),
        ({"arch": "tic", "weights": "compressai:mse"}, "pretrained tic are none"),
        ({"arch": "mbt2018", "weights": ("a", "b")}, "2 files for 4 rates"),
        ({"arch": "mbt2018", "train": {"steps": 0}}, "no weights to take"),
        ({"arch": "mbt2018", "released": {"d3": ["a"]}}, "d3 names 1 files for 4 rates"),
        ({"arch": "mbt2018", "depths": (1, 1, 1, 1, 1)}, "depths is a setting of tic"),
        ({"arch": "tic", "M": 200}, "multiples of 16"),
    ],
)
def test_a_wrong_codec_is_refused_with_the_reason(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CodecSpec(**settings)


@pytest.mark.parametrize(
    "phases",
    [
        (),
        ({"until": 0.5, "ce": 1, "distill": 1},),
        ({"until": 1, "ce": 1, "distill": 1}, {"until": 0.5, "ce": 1, "distill": 1}),
    ],
)
def test_phases_must_cover_the_training(phases: tuple) -> None:
    with pytest.raises(ValidationError, match="phases must end"):
        SurrogateSpec(phases=phases)


def test_a_phase_without_any_loss_is_refused() -> None:
    with pytest.raises(ValidationError, match="one of ce and distill"):
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


def test_a_codec_by_qualities_has_the_widths_and_lambdas_of_each() -> None:
    codec = CodecSpec(arch="mbt2018-mean", qualities=(4, 5), weights="compressai:mse")
    assert codec.lambdas == (0.013, 0.025)
    low, high = (codec.at(lmbda) for lmbda in codec.lambdas)
    assert (low.N, low.M, low.weights) == (128, 192, "compressai:mse:4")
    assert (high.N, high.M, high.weights) == (192, 320, "compressai:mse:5")
    assert low.train.steps == 0
    assert low.at(0.013) == low
    for spec in (codec, low, CodecSpec(arch="mbt2018-vbr"), CodecSpec(arch="tic")):
        assert CodecSpec.model_validate(spec.model_dump(mode="json")) == spec
    with pytest.raises(ValueError, match=r"has lambdas .* not 0\.5"):
        codec.at(0.5)


def test_a_variable_rate_codec_is_one_model_at_all_rates() -> None:
    codec = CodecSpec(arch="mbt2018-mean-vbr", weights="compressai:mse")
    assert codec.qualities == tuple(range(1, 9))
    assert [codec.at(lmbda).rate for lmbda in codec.lambdas] == list(range(8))
    assert {codec.at(lmbda).weights for lmbda in codec.lambdas} == {"compressai:mse"}


def test_files_are_one_for_all_rates_or_one_for_each() -> None:
    files = {"weights": ["a", "b"], "released": {"d1": ["c", "d"]}, "lambdas": [0.1, 0.2]}
    codec = CodecSpec.model_validate({"arch": "elic2022-chandelier", **files})
    assert codec.at(0.2).weights == "b"
    assert codec.at(0.2).released == {"d1": ("d",)}


def test_a_lambda_of_ms_ssim_is_not_taken_for_one_of_the_mse() -> None:
    codec = {"arch": "mbt2018", "qualities": [1], "weights": "compressai:ms-ssim"}
    assert CodecSpec.model_validate(codec).lambdas == (2.4,)
    with pytest.raises(ValidationError, match="d2: its lambda weighs the MSE"):
        Space.model_validate({"name": "x", "codecs": [codec], "mllms": ["m"]})
    space = {"name": "x", "codecs": [codec], "mllms": ["m"], "scenarios": ["d1"]}
    Space.model_validate(space)
