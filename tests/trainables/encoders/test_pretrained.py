"""Models by name: the stated revision, no program of theirs, no pickle."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hub_cache import add_snapshot, use_cache
from trainables.encoders.load import load_tower
from trainables.encoders.pretrained import (
    SHIPPED,
    load_config,
    load_preprocessing,
    load_tokenizer,
    named,
)
from trainables.mllms.mllm import Mllm

CLIP = SHIPPED / "clip-scenes"
MAIN, OTHER = "a" * 40, "b" * 40
WEIGHT = "visual_projection.weight"


@pytest.fixture
def two_revisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lab/clip` in the hub's cache: the shipped CLIP on main, and one with other files."""
    changed = shutil.copytree(CLIP, tmp_path / "changed")
    weights = load_file(CLIP / "model.safetensors")
    save_file(
        {**weights, WEIGHT: weights[WEIGHT] + 1}, changed / "model.safetensors", {"format": "pt"}
    )
    preprocessor = json.loads((CLIP / "preprocessor_config.json").read_text())
    preprocessor["image_mean"] = [0.25, 0.25, 0.25]
    (changed / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    cache = tmp_path / "hub"
    add_snapshot(cache, "lab/clip", MAIN, CLIP, ref="main")
    add_snapshot(cache, "lab/clip", OTHER, changed, ref="v2")
    use_cache(cache, monkeypatch)


@pytest.mark.parametrize(
    ("name", "added"),
    [("lab/clip", 0), (f"lab/clip@{MAIN}", 0), ("lab/clip@v2", 1), (f"lab/clip@{OTHER}", 1)],
)
def test_all_files_are_those_of_the_stated_revision(
    two_revisions: None, name: str, added: int
) -> None:
    tower = load_tower(name)
    expected = (load_file(CLIP / "model.safetensors")[WEIGHT] + added).float()
    torch.testing.assert_close(tower.model.visual_projection.weight, expected, rtol=0, atol=0)
    assert (load_preprocessing(name, tower.sizes.image_size).mean == (0.25,) * 3) == bool(added)
    assert load_tokenizer(name)("0").input_ids == load_tokenizer(str(CLIP))("0").input_ids


@pytest.mark.parametrize(("load", "setting"), [(load_tower, "teacher.model"), (Mllm.load, "mllms")])
def test_a_model_that_the_hub_does_not_have_is_named_with_its_setting(
    load: Callable[[str], object], setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cache(tmp_path, monkeypatch)
    with pytest.raises(OSError, match=r"someorg/llava-7b cannot be loaded: \S") as error:
        load("someorg/llava-7b")
    assert str(error.value).startswith(f"{setting}: ")
    assert isinstance(error.value.__cause__, OSError)


def test_an_error_of_a_model_s_files_stays_of_its_kind() -> None:
    text = "mllms: a/b cannot be loaded: gone"
    with pytest.raises(FileNotFoundError, match=text), named("mllms", "a/b"):
        raise FileNotFoundError("gone")


class Exploit:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


def test_weights_in_a_pickle_are_not_opened(tmp_path: Path) -> None:
    directory = shutil.copytree(CLIP, tmp_path / "clip")
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    torch.save(weights, directory / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_tower(str(directory))
    torch.save({"x": Exploit(tmp_path / "run")}, directory / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_tower(str(directory))
    assert not (tmp_path / "run").exists()


def test_a_model_that_brings_programs_is_refused_without_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Theirs"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")

    def ask(question: str = "") -> str:
        raise AssertionError(question)

    monkeypatch.setattr("builtins.input", ask)
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_config(str(tmp_path))
    assert not (tmp_path / "run").exists()
