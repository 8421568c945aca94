"""Codecs' settings: each family's own, found by the architecture, wrong ones refused by name."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from search_spaces import Space, SpaceError, Stages, load_space
from search_spaces.codecs.elic import ElicCodec
from search_spaces.codecs.hyperprior import HyperpriorCodec
from search_spaces.codecs.tic import TicCodec
from search_spaces.codecs.variable_rate import VariableRateCodec
from search_spaces.facts.compressai_zoo import LAMBDAS
from search_spaces.specs.codec import CODECS, CodecSpec

VBR = {
    "arch": "mbt2018-mean-vbr",
    "N": 12,
    "M": 16,
    "rate_lambdas": [0.0015, 0.002, 0.02],
}


def space(*codecs: dict[str, Any]) -> Space:
    return Space.model_validate(
        {"name": "x", "codecs": codecs, "mllms": ["m"], "scenarios": ["d1"], "baselines": []}
    )


def mistakes(settings: Any) -> list[tuple[str, str]]:
    """(setting, what is wrong with it) of each."""
    with pytest.raises(ValidationError) as error:
        CodecSpec.model_validate(settings)
    return [(".".join(map(str, e["loc"])), e["msg"]) for e in error.value.errors()]


@pytest.mark.parametrize(
    ("settings", "family"),
    [
        ({"arch": "tic", "depths": (1, 1, 1, 1, 1)}, TicCodec),
        ({"arch": "elic2022-chandelier", "groups": (160, 160)}, ElicCodec),
        ({"arch": "bmshj2018-hyperprior"}, HyperpriorCodec),
        (VBR, VariableRateCodec),
        ({"arch": "mbt2018-vbr"}, VariableRateCodec),
        ({"arch": "cheng2020-attn", "qualities": [1, 6]}, CODECS.get("cheng2020-anchor")),
    ],
)
def test_settings_become_their_family_s_and_survive_a_dump(
    settings: dict[str, Any], family: type[CodecSpec]
) -> None:
    whole = space(settings)
    (codec,) = whole.codecs
    assert type(codec) is family
    assert codec == CodecSpec.model_validate(settings)
    dump = codec.model_dump(mode="json")
    assert {name: dump[name] for name in settings} == json.loads(json.dumps(settings))
    for mode in ("json", "python"):
        dumped = whole.model_dump(mode=mode)
        assert set(dumped["codecs"][0]) == set(family.model_fields)
        assert Space.model_validate(dumped) == whole
        assert CodecSpec.model_validate(codec.model_dump(mode=mode)) == codec
    low = codec.at(codec.lambdas[0])
    assert type(low) is family
    assert CodecSpec.model_validate(low.model_dump(mode="json")) == low


@pytest.mark.parametrize(
    ("settings", "setting", "named"),
    [
        ({"arch": "mbt2018-mean", "groups": (16, 16)}, "groups", ("N, qualities",)),
        ({"arch": "mbt2018", "depths": (1, 1, 1, 1, 1)}, "depths", ("N, qualities",)),
        ({"arch": "tic", "context_width": 0.5}, "context_width", ("N, depths",)),
        ({"arch": "elic2022-chandelier", "group": (1,)}, "group", ("'groups'", "context_width")),
        ({"arch": "elic2022-chandelier", "qualities": (1,)}, "qualities", ("context_width",)),
        ({"arch": "mbt2018-mean", "rate_lambdas": [0.1, 0.2]}, "rate_lambdas", ("N, qualities",)),
        ({"arch": "elic2022-chandelier", "M": 96}, "", ("groups", "96")),
        ({"arch": "elic2022-chandelier", "M": 96, "groups": (16, 16)}, "", ("groups", "32", "96")),
        ({"arch": "cheng2020-anchor"}, "", ("M = N", "320", "192")),
        ({"arch": "mbt2018-mean", "lambdas": (0.01, 0.01)}, "", ("lambdas",)),
        ({"arch": "mbt2018-mean", "lambdas": ()}, "", ("lambdas",)),
        ({"arch": "mbt2018-mean", "lambdas": (-1.0,)}, "lambdas.0", ("greater than 0",)),
        ({"arch": "jpeg"}, "arch", ("elic2022-chandelier", "tic (bridgesweep)")),
        ({"arch": ["tic"]}, "arch", ("tic (bridgesweep)",)),
        ({"N": 8}, "arch", ()),
        ("tic", "", ("'tic'",)),
        ({"arch": "mbt2018-vbr", "lambdas": (0.01,)}, "", ("qualities", "lambdas")),
        ({"arch": "cheng2020-attn", "qualities": (7,)}, "", ("qualities", "1 to 6")),
        ({"arch": "mbt2018", "qualities": (9,)}, "qualities.0", ("8",)),
        ({"arch": "mbt2018", "qualities": [[1]]}, "qualities.0", ()),
        ({"arch": "mbt2018", "qualities": (1,), "lambdas": (0.01,)}, "", ("lambdas", "qualities")),
        ({"arch": "mbt2018", "qualities": (1,), "N": 128}, "", ("N and M", "(192, 192)", "128")),
        ({"arch": "mbt2018", "weights": "compressai:mse"}, "", ("weights", "qualities")),
        (
            {"arch": "mbt2018", "qualities": (1,), "weights": "compressai:ms_ssim"},
            "",
            ("'compressai:ms_ssim'", "compressai:mse, compressai:ms-ssim"),
        ),
        (
            {"arch": "mbt2018-vbr", "weights": "compressai:ms-ssim"},
            "",
            ("'compressai:ms-ssim'", "are compressai:mse"),
        ),
        ({"arch": "tic", "weights": "compressai:mse"}, "", ("pretrained tic", "none")),
        ({"arch": "mbt2018", "weights": ("a", "b")}, "", ("weights", "2 files", "4 rates")),
        ({"arch": "mbt2018", "train": {"steps": 0}}, "", ("train.steps", "weights")),
        ({"arch": "mbt2018", "released": {"d3": ["a"]}}, "", ("released.d3", "1 files", "4 rates")),
        ({"arch": "tic", "M": 200}, "", ("multiples of 16", "200")),
        ({**VBR, "rate_lambdas": [0.2, 0.1]}, "", ("rate_lambdas", "rise")),
        ({**VBR, "rate_lambdas": [0.1]}, "", ("rate_lambdas", "two to eight")),
        ({**VBR, "qualities": [4]}, "", ("qualities of mbt2018-mean-vbr", "1 to 3")),
        ({**VBR, "weights": "compressai:mse"}, "", ("rate_lambdas", "'compressai:mse'")),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    settings: Any, setting: str, named: tuple[str, ...]
) -> None:
    ((location, message),) = mistakes(settings)
    assert location == setting
    assert all(text in message for text in named), message


def test_all_mistakes_of_a_codec_are_listed_with_the_choices_of_its_family() -> None:
    wrong = ["codecs.0={arch: tic, groups: [1], depths: [0], train: {stepz: 1}}"]
    with pytest.raises(SpaceError) as error:
        load_space("smoke", wrong)
    lines = sorted(str(error.value).splitlines())
    assert [line.split(" ")[0].rstrip(":") for line in lines] == [
        "codecs.0.depths.0",
        "codecs.0.groups",
        "codecs.0.train.stepz",
    ]
    assert "depths" in lines[1]
    assert "'steps'" in lines[2]


def test_the_base_class_alone_is_no_codec() -> None:
    with pytest.raises(TypeError, match="implementation"):
        CodecSpec(arch="tic", M=192)  # type: ignore[abstract]


def test_a_codec_by_qualities_has_the_widths_and_lambdas_of_each() -> None:
    codec = HyperpriorCodec(arch="mbt2018-mean", qualities=(4, 5), weights="compressai:mse")
    assert codec.lambdas == (0.013, 0.025)
    low, high = (codec.at(lmbda) for lmbda in codec.lambdas)
    assert (low.N, low.M, low.weights) == (128, 192, "compressai:mse:4")
    assert (high.N, high.M, high.weights) == (192, 320, "compressai:mse:5")
    assert (low.widths, high.widths) == ((128, 192), (192, 320))
    assert low.train.steps == 0
    assert low.at(0.013) == low
    with pytest.raises(ValueError, match=r"0\.5"):
        codec.at(0.5)


def test_a_variable_rate_codec_is_one_model_at_all_rates() -> None:
    codec = VariableRateCodec(arch="mbt2018-mean-vbr", weights="compressai:mse")
    assert codec.is_variable_rate
    assert codec.qualities == tuple(range(1, 9))
    assert codec.rate_table == codec.lambdas == LAMBDAS["mse"]
    assert [codec.at(lmbda).rate for lmbda in codec.lambdas] == list(range(8))
    assert {codec.at(lmbda).weights for lmbda in codec.lambdas} == {"compressai:mse"}
    assert not TicCodec(arch="tic").is_variable_rate


def test_a_variable_rate_codec_may_have_lambdas_of_its_own() -> None:
    codec = CodecSpec.model_validate(VBR)
    assert codec.lambdas == (0.0015, 0.002, 0.02)
    assert (codec.at(0.002).rate, codec.at(0.002).rate_table) == (1, codec.lambdas)
    assert CodecSpec.model_validate({**VBR, "qualities": [2, 3]}).lambdas == (0.002, 0.02)
    stages = Stages(space(VBR))
    moved = CodecSpec.model_validate({**VBR, "rate_lambdas": [0.0015, 0.002, 0.03]})
    assert stages.codec(moved, 0.002).key != stages.codec(codec, 0.002).key


def test_files_are_one_for_all_rates_or_one_for_each() -> None:
    files = {"weights": ["a", "b"], "released": {"d1": ["c", "d"]}, "lambdas": [0.1, 0.2]}
    codec = CodecSpec.model_validate({"arch": "elic2022-chandelier", **files})
    high = codec.at(0.2)
    assert high.weights == "b"
    assert high.model_dump(exclude_defaults=True)["released"] == {"d1": ("d",)}
