"""The shipped base codecs are as good as they say, and their recipe can be interrupted."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from search_spaces import load_space
from search_spaces.codecs.hyperprior import HyperpriorCodec
from trainables.codecs import build_codec, load_codec, save_codec
from trainables.datasets.images.files import write_json
from trainables.datasets.made import WORLDS
from trainables.encoders.pretrained import SHIPPED, resolve_pretrained
from trainables.recipes import base_codec, converged_codec, steps
from trainables.recipes.base_codec import RECIPES, Recipe, measure, train
from trainables.recipes.converged_codec import CONVERGED, START

CODECS = {name: (recipe.spec, recipe.lambdas, "scenes") for name, recipe in RECIPES.items()} | {
    name: (RECIPES[START].spec, (lmbda,), world)
    for world, codecs in CONVERGED.items()
    for name, lmbda in codecs.items()
}
"""What each shipped codec is, the lambdas of its rates, and the world that it was trained on."""


@pytest.mark.parametrize("name", CODECS)
def test_a_shipped_codec_reaches_what_it_records(name: str) -> None:
    torch.set_num_threads(1)
    spec, lambdas, world = CODECS[name]
    directory = Path(resolve_pretrained(f"shipped:{name}"))
    recorded = json.loads((directory / "accuracy.json").read_text())
    codec = load_codec(spec, directory)
    assert [said["lmbda"] for said in recorded["validation"]] == list(lambdas)
    for rate, said in enumerate(recorded["validation"]):
        codec.rate = rate
        found = measure(codec, said["lmbda"], world)
        assert found["psnr"] == pytest.approx(said["psnr"], abs=0.05)
        assert found["bpp"] == pytest.approx(said["bpp"], rel=0.01)
        # The estimate is of the same symbols: what is written takes no more than 20 bytes more.
        assert 0 < found["bpp"] - found["bpp_estimated"] < 20 * 8 / 128**2


@pytest.mark.parametrize("name", CODECS)
def test_a_shipped_codec_says_what_it_is_and_is_small(name: str) -> None:
    config = json.loads((SHIPPED / name / "config.json").read_text())
    assert config.items() >= CODECS[name][0].architecture.items()
    assert (SHIPPED / name / "model.safetensors").stat().st_size < 0.75e6


@pytest.mark.parametrize("world", WORLDS)
def test_what_is_shipped_of_a_world_takes_12_mb_at_the_most(world: str) -> None:
    files = list(SHIPPED.glob(f"*-{world}*/*.safetensors"))
    assert len(files) >= 2 + len(CONVERGED.get(world, ()))
    assert sum(file.stat().st_size for file in files) <= 12e6


@pytest.mark.parametrize("world", CONVERGED)
def test_the_spaces_name_the_codecs_that_are_packed(world: str) -> None:
    swept, trained = (
        load_space(name).codecs[0]
        for name in {
            "scenes": ("demo", "demo-base-codecs"),
        }[world]
    )
    assert swept.lambdas == trained.lambdas == tuple(CONVERGED[world].values())
    assert swept.weights == tuple(f"shipped:{name}" for name in CONVERGED[world])


def test_all_that_is_shipped_is_of_a_world() -> None:
    of_worlds = [path for world in WORLDS for path in SHIPPED.glob(f"*-{world}*")]
    assert sorted(of_worlds) == sorted(path for path in SHIPPED.iterdir() if path.is_dir())


def test_the_codecs_that_a_sweep_trained_to_their_plateau_are_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    codec, lmbda, other = build_codec(RECIPES[START].spec), 0.00002, 0.000007
    stages = tmp_path / "storage" / "stages"
    for world in ("scenes", "tabletop"):
        images = stages / "train_images" / world
        images.mkdir(parents=True)
        write_json(images / "manifest.json", {"spec": {"kind": world}})
    for key, until, of, trained_on in (
        ("a", "plateau", lmbda, "scenes"),
        ("b", "steps", other, "scenes"),
        ("c", "plateau", other, "tabletop"),
    ):
        stage = stages / "codec" / key
        save_codec(codec, stage)
        training = {"of": "base codec", "steps": 70, "images": 560, "until": until}
        write_json(stage / "info.json", {**training, "before": [{"of": "base codec", "steps": 9}]})
        spec = {"arch": "mbt2018-mean", "lmbda": of, "train": {"until": until}}
        write_json(stage / "manifest.json", {"spec": spec, "inputs": [trained_on]})
    monkeypatch.setattr(base_codec, "VALIDATION_SCENES", 2)
    converged_codec.main(["scenes", str(tmp_path / "storage"), "--work", str(tmp_path / "out")])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{START}-2e-5"]
    assert "no base codec of lambda 7e-06" in caplog.text
    recorded = json.loads((tmp_path / "out" / f"{START}-2e-5" / "accuracy.json").read_text())
    assert [said["steps"] for said in recorded["trainings"]] == [9, 70]
    assert [said["lmbda"] for said in recorded["validation"]] == [lmbda]
    packed = load_codec(RECIPES[START].spec, tmp_path / "out" / f"{START}-2e-5")
    for name, parameter in packed.net.named_parameters():
        largest = codec.net.get_parameter(name).abs().max()
        error = (parameter - codec.net.get_parameter(name)).abs().max()
        assert error <= largest / 250, name


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
