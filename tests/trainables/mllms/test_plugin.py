"""An MLLM family of another distribution: found, loaded by its own class, and in stage keys."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from orchestrator.storage.provenance import fingerprint
from search_spaces.facts.encoders import encoder_sizes
from search_spaces.facts.mllm_families import UnknownMllmError, family_of
from tests.trainables.distributions import installed
from tests.trainables.tiny_mllms import BLOCKS, SIDE, WIDTH, make
from tests.trainables.tiny_processors import HALF, processors, tokenizer
from trainables.encoders.bridge import Entry
from trainables.encoders.load import load_tower
from trainables.encoders.pretrained import Preprocessing
from trainables.mllms import Mllm
from trainables.mllms.__main__ import main as table

FAMILY = """
from search_spaces.facts.mllm_families import Family

FAMILY = Family("My LLaVA", "model.vision_tower", "clip_vision_model", (-2,),
                model_class="my_llava_model:MyLlava")
"""
MODEL = """
from transformers import LlavaConfig, LlavaForConditionalGeneration


class MyConfig(LlavaConfig):
    model_type = "my_llava"


class MyLlava(LlavaForConditionalGeneration):
    config: MyConfig
    config_class = MyConfig
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[None]:
    entry_points = "[bridgesweep.mllms]\nmy_llava = my_llava_family:FAMILY\n"
    modules = {"my_llava_family": FAMILY, "my_llava_model": MODEL}
    directory = tmp_path / "distribution"
    directory.mkdir()
    with installed(directory, "my-llava", modules, entry_points):
        yield


def save(directory: Path) -> Path:
    """A tiny LLaVA as the plug-in's class."""
    tiny = make("LLaVA, CLIP")
    module = importlib.import_module("my_llava_model")
    settings = {k: v for k, v in tiny.config.to_dict().items() if k != "model_type"}
    model = module.MyLlava(module.MyConfig(**settings))
    model.load_state_dict(tiny.state_dict())
    model.save_pretrained(directory)
    processors()["LLaVA, CLIP"].save_pretrained(directory)
    return directory


def test_it_answers_as_the_class_that_it_derives_from(plugin: None, tmp_path: Path) -> None:
    mllm = Mllm.load(str(save(tmp_path / "model")))
    assert type(mllm.model).__name__ == "MyLlava"
    plain = Mllm(
        make("LLaVA, CLIP"),
        tokenizer(),
        Preprocessing(SIDE, HALF, HALF),
        processors()["LLaVA, CLIP"],
    )
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    prompts = ["<image> w5 w7"] * 2
    answers = [
        model.answer(prompts, [[f] for f in model.look(Entry(images, None))], 6, 2)
        for model in (mllm, plain)
    ]
    assert answers[0] == answers[1]
    assert any(answers[0])


def test_it_may_be_the_teacher(plugin: None, tmp_path: Path) -> None:
    tower = load_tower(str(save(tmp_path / "model")))
    assert (tower.sizes.width, tower.sizes.blocks) == (WIDTH, BLOCKS)


def test_it_is_listed_with_its_distribution(
    plugin: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table([]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("my_llava ")]
    assert line.endswith("(my-llava)")


def test_without_it_the_model_is_unknown() -> None:
    with pytest.raises(UnknownMllmError, match="my_llava"):
        family_of("my_llava")


def test_its_code_is_in_the_fingerprint_of_its_models(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "my_llava"}))
    prints = []
    for number, version in enumerate(("1.5", "1.5", "1.6")):
        directory = tmp_path / str(number)
        directory.mkdir()
        modules = {f"family_{number // 2}": FAMILY}
        entry_points = f"[bridgesweep.mllms]\nmy_llava = family_{number // 2}:FAMILY\n"
        with installed(directory, "my-llava", modules, entry_points, version):
            fingerprint.cache_clear()
            prints.append(fingerprint(str(model)))
    fingerprint.cache_clear()
    assert prints[0] == prints[1] != prints[2]
    assert fingerprint(str(model)) not in prints


def test_a_tower_of_its_own_kind_has_the_sizes_that_the_family_gives(tmp_path: Path) -> None:
    source = """
from search_spaces.facts.mllm_families import Family

FAMILY = Family("Own", "model.tower", "own_vision", class_token=True, tower_sizes={
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "image_size": 56, "patch_size": 14, "hidden_act": "gelu", "layer_norm_eps": 1e-6})
"""
    entry_points = "[bridgesweep.mllms]\nown = own_family:FAMILY\n"
    with installed(tmp_path, "own", {"own_family": source}, entry_points):
        sizes = encoder_sizes({"model_type": "own", "vision_config": {"image_size": 2 * 28}})
        assert (sizes.family, sizes.width, sizes.blocks, sizes.tokens) == ("own_vision", 48, 3, 17)
        with pytest.raises(ValueError, match="other_vision"):
            encoder_sizes({"model_type": "own", "vision_config": {"model_type": "other_vision"}})
