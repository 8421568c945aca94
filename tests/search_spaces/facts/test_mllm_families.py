"""What is known of MLLM classes without transformers, against transformers' own configurations."""

import pytest

from search_spaces.facts.mllm_families import (
    FAMILIES,
    REFUSED,
    UnknownMllmError,
    family_of,
    layers_read,
)


@pytest.mark.parametrize("name", FAMILIES.names())
def test_the_hidden_states_that_are_read_are_those_of_the_classes_own_default(name: str) -> None:
    auto = pytest.importorskip("transformers").AutoConfig
    family = family_of(name)
    given = getattr(auto.for_model(name), "vision_feature_layer", -1)
    expected = (given,) if isinstance(given, int) else tuple(given)
    assert layers_read({"model_type": name}, family) == expected
    if family.layers is not None:
        assert layers_read({"vision_feature_layer": [-3, 2]}, family) == (-3, 2)
        assert layers_read({"vision_feature_layers": 4}, family) == (4,)


@pytest.mark.parametrize("name", [*FAMILIES.names(), *REFUSED])
def test_the_classes_are_transformers_own(name: str) -> None:
    auto = pytest.importorskip("transformers").AutoConfig
    assert auto.for_model(name).model_type == name


def test_others_are_refused_with_the_reason_or_the_choices() -> None:
    with pytest.raises(UnknownMllmError, match=r"qwen3_vl.*grid"):
        family_of("qwen3_vl")
    with pytest.raises(UnknownMllmError, match=r"'bert'.*llava, .*bridgesweep"):
        family_of("bert")
