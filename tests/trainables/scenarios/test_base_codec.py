"""The shipped base codecs are as good as they say, and their recipe can be interrupted."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from search_spaces.codecs.hyperprior import HyperpriorCodec
from trainables.codecs import load_codec
from trainables.encoders.pretrained import SHIPPED, resolve_pretrained
from trainables.recipes import base_codec, steps
from trainables.recipes.base_codec import RECIPES, Recipe, measure, train

SHIPPED_CODECS = sorted(name for name in RECIPES if (SHIPPED / name).is_dir())


@pytest.mark.parametrize("name", SHIPPED_CODECS)
def test_a_shipped_codec_reaches_what_it_records(name: str) -> None:
    torch.set_num_threads(1)
    recipe = RECIPES[name]
    directory = Path(resolve_pretrained(f"shipped:{name}"))
    recorded = json.loads((directory / "accuracy.json").read_text())
    codec = load_codec(recipe.spec, directory)
    assert [said["lmbda"] for said in recorded["validation"]] == list(recipe.lambdas)
    for rate, said in enumerate(recorded["validation"]):
        codec.rate = rate
        found = measure(codec, said["lmbda"])
        assert found["psnr"] == pytest.approx(said["psnr"], abs=0.05)
        assert found["bpp"] == pytest.approx(said["bpp"], rel=0.01)
        # The estimate is of the same symbols: what is written takes no more than 20 bytes more.
        assert 0 < found["bpp"] - found["bpp_estimated"] < 20 * 8 / 128**2


@pytest.mark.parametrize("name", SHIPPED_CODECS)
def test_a_shipped_codec_says_what_it_is_and_is_small(name: str) -> None:
    config = json.loads((SHIPPED / name / "config.json").read_text())
    spec = RECIPES[name].spec
    assert config.items() >= spec.architecture.items()
    assert (SHIPPED / name / "model.safetensors").stat().st_size < 1.5e6


def test_an_interrupted_recipe_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    recipe = Recipe(
        HyperpriorCodec(arch="mbt2018-mean", N=8, M=12), lambdas=(0.01,), steps=4, batch=2
    )
    straight = train(recipe, tmp_path / "straight.pt")
    save = steps.save_checkpoint

    class InterruptedRecipeError(Exception):
        pass

    def interrupt(path: Path, state: dict[str, object]) -> None:
        save(path, state)
        raise InterruptedRecipeError

    # The schedule depends on the number of steps, so the interruption is not a shorter recipe.
    monkeypatch.setattr(base_codec, "SAVE_EVERY", 2)
    monkeypatch.setattr(steps, "save_checkpoint", interrupt)
    with pytest.raises(InterruptedRecipeError):
        train(recipe, tmp_path / "resumed.pt")
    monkeypatch.setattr(steps, "save_checkpoint", save)
    resumed = train(dataclasses.replace(recipe), tmp_path / "resumed.pt")
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
