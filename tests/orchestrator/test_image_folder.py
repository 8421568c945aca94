"""A sweep over a folder of images, from its files to the report: zero-shot, without an MLLM."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from orchestrator.sweep import main
from tests.orchestrator.conftest import ROOT
from tests.trainables.image_folders import write_folder
from trainables.datasets.images.source import read_source

Sweep = Callable[..., subprocess.CompletedProcess[str]]


def space_of(clip: Path | str, folder: Path, **data: object) -> dict[str, object]:
    return {
        "codecs": [
            {
                "arch": "mbt2018-mean",
                "name": "hyperprior",
                "N": 8,
                "M": 16,
                "lambdas": [0.02],
                "train": {"steps": 2, "batch_size": 4, "validate_every": 2, "checkpoint_every": 2},
            }
        ],
        "scenarios": ["d1"],
        "baselines": ["uncompressed", "reconstruction"],
        "data": {"kind": "folder", "uri": str(folder), "size": 128, "shard_size": 8, **data},
        "teacher": {"model": str(clip)},
        "mllms": [],
        "tasks": ["classification"],
        "d1": {"steps": 3, "batch_size": 4, "validate_every": 3, "checkpoint_every": 3},
        "resources": {"workers_per_point": 0},
    }


def write_space(path: Path, content: dict[str, object]) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_a_folder_of_images_is_swept(
    tmp_path: Path, models: tuple[Path, Path], execute: Sweep
) -> None:
    counts = {"train/n02119789": 9, "train/n01580077": 9, "val/n02119789": 5, "val/n01580077": 5}
    folder = write_folder(tmp_path / "birds", counts, side=150)
    (folder / "train" / "n02119789" / "000.JPEG").write_bytes(b"")
    (folder / "names.txt").write_text("n02119789 kit fox, Vulpes macrotis\nn01580077 jay\n")
    space = space_of(models[0], folder, names=str(folder / "names.txt"), val=4, max_unreadable=0.06)
    file = write_space(tmp_path / "birds.yaml", space)
    command = [sys.executable, "-m", "orchestrator.sweep", file, "--storage", f"{tmp_path}/storage"]
    done = execute(command, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    points = pd.read_parquet(tmp_path / "storage" / "birds" / "points.parquet")
    assert set(points.scenario) == {"uncompressed", "reconstruction", "d1"}
    assert set(points.task) == {"classification"}
    assert set(points.dataset) == {"birds"}
    assert set(points.mllm) == {models[0].name}
    assert set(points.metric) == {"accuracy", "accuracy_top5"}
    assert (points.n_samples == 10).all()
    assert points.value.between(0, 1).all()
    assert set(points[points.scenario == "uncompressed"].bpp) == {24.0}
    (world,) = (tmp_path / "storage").glob("stages/train_images/*")
    manifest = json.loads((world / "manifest.json").read_text())
    assert manifest["unreadable"] == 1
    assert manifest["images"] == 17
    assert manifest["treated"] == {}
    assert manifest["ignored"] == ["names.txt"]
    assert json.loads((world / "classes.json").read_text())["names"] == ["jay", "kit fox"]
    # Asked again, nothing is read; new test images are measured, and nothing is trained.
    plan = execute([*command, "--plan"]).stdout
    assert "0 of" in plan
    assert "reuse    training images of birds" in plan
    write_folder(folder, {"val/n01580077": 6}, side=150)
    plan = execute([*command, "--plan"]).stdout
    assert "prepare  test images of birds" in plan
    assert "reuse    training images of birds" in plan
    assert "prepare  teacher features" not in plan
    shutil.copytree(folder, tmp_path / "birds copied", copy_function=shutil.copyfile)
    moved = ["--set", f"data.uri={tmp_path / 'birds copied'}", "--plan"]
    assert execute([*command, *moved]).stdout.replace("birds copied", "birds") == plan


CRASHING_DECODER = """
import io, os, signal
import PIL.Image
opened = PIL.Image.open
def open_or_crash(file, *rest, **more):
    if isinstance(file, io.BytesIO) and file.getvalue().endswith(b"crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return opened(file, *rest, **more)
PIL.Image.open = open_or_crash
"""


def test_an_image_that_crashes_its_decoder_is_listed_and_the_sweep_goes_on(
    tmp_path: Path, models: tuple[Path, Path], environment: dict[str, str]
) -> None:
    """Every process of the sweep has a decoder that dies of one image."""
    folder = write_folder(tmp_path / "birds", {"train/jay": 12, "val/jay": 5}, side=150)
    bad = folder / "train" / "jay" / "003.JPEG"
    bad.write_bytes(bad.read_bytes() + b"crash")
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(CRASHING_DECODER)
    space = {**space_of(models[0], folder, val=4, max_unreadable=0.1), "scenarios": []}
    file = write_space(tmp_path / "birds.yaml", space)
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.sweep", file, "--storage", f"{tmp_path}/storage"],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": f"{tmp_path}/python:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (listed,) = (tmp_path / "storage").glob("stages/train_images/*/unreadable.json")
    ((_, image, reason),) = json.loads(listed.read_text())
    assert image == "train/jay/003.JPEG"
    assert "crashed" in reason


def test_mistakes_about_the_data_are_said_with_all_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "set", {"n02119789": 3})
    space = space_of("hub/teacher", folder, test=9)
    file = write_space(tmp_path / "space.yaml", space)
    read_source.cache_clear()
    assert main([file, "--storage", f"{tmp_path}/new", "--only=scenario=d9", "--plan"]) == 2
    said = capsys.readouterr().err
    assert "data.test = 9: " in said
    assert "synset" in said
    assert "scenario d9" in said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": ["vqa"], "mllms": ["a"]}, "tasks: vqa "),
        ({"data": {"kind": "scenes"}}, "tasks: classification "),
        ({"data": {"kind": "folder"}}, "data: uri "),
        ({"data": {"kind": "tar"}}, "'scenes', 'tabletop', 'folder', 'parquet' or 'datasets'"),
    ],
)
def test_spaces_that_do_not_fit_their_data_are_refused(
    settings: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {**space_of("hub/teacher", tmp_path), **settings}
    file = write_space(tmp_path / "space.yaml", space)
    assert main([file, "--storage", f"{tmp_path}/new"]) == 2
    assert message in capsys.readouterr().err


def test_images_without_classes_cannot_be_classified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "set", {"train/jay": 4, "test": 4})
    file = write_space(tmp_path / "space.yaml", space_of("hub/teacher", folder))
    read_source.cache_clear()
    assert main([file, "--storage", f"{tmp_path}/new"]) == 2
    said = capsys.readouterr().err
    assert "tasks: classification " in said
    for picture in (folder / "train" / "jay").iterdir():
        picture.rename(folder / "train" / picture.name)
    read_source.cache_clear()
    assert main([file, "--storage", f"{tmp_path}/new"]) == 2
    assert "surrogate.phases: " in capsys.readouterr().err


def test_the_plan_says_what_the_data_set_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "set", {"train/jay": 20, "val/jay": 4, "extra": 1})
    (folder / "readme.md").write_text("about")
    file = write_space(tmp_path / "space.yaml", space_of("hub/teacher", folder))
    read_source.cache_clear()
    assert main([file, "--storage", f"{tmp_path}/new", "--plan"]) == 0
    said = capsys.readouterr().out
    assert "data set: 19 train images (of 'train'), 1 val (of 'train'), 4 test (of 'val')" in said
    assert "1 class (jay); 1 other file is ignored (readme.md)" in said
    assert "128 x 128" in said
