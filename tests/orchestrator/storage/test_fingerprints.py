"""Same bytes, same key: another spelling, place or time of a model changes nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from orchestrator.storage.provenance import fingerprint, fingerprints
from search_spaces import Stages, load_space, operating_points, point_stage

COMMIT = "0123456789" * 4


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "tokenizer").mkdir(parents=True)
    (directory / "config.json").write_text('{"model_type": "clip"}')
    (directory / "weights.bin").write_bytes(b"weights")
    (directory / "tokenizer" / "words.txt").write_text("words")
    return directory


def test_a_model_is_its_files(model: Path, tmp_path: Path) -> None:
    before = fingerprint(str(model))
    copy = shutil.copytree(model, tmp_path / "copy")
    for file in copy.rglob("*"):
        os.utime(file, (1, 1))
    (copy / "README.md").write_text("about")
    (copy / ".cache").mkdir()
    (copy / ".cache" / "lock").write_text("1")
    assert fingerprint(str(copy)) == before
    for name in ("weights.bin", "tokenizer/words.txt"):
        other = shutil.copytree(model, tmp_path / name.replace("/", "-"))
        (other / name).write_bytes(b"others!")
        assert fingerprint(str(other)) != before
    (renamed := shutil.copytree(model, tmp_path / "renamed")).joinpath("weights.bin").rename(
        renamed / "model.bin"
    )
    assert fingerprint(str(renamed)) != before


def test_each_spelling_of_a_model_gives_the_same_keys(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def keys(name: str) -> list[str]:
        settings = (f"teacher.model={name}", f"mllms=[{name}]")
        space = load_space("smoke", settings)
        stages = Stages(space, fingerprints(space))
        return [point_stage(stages, point).key for point in operating_points(space)]

    expected = keys(str(model))
    for name in (f"{model}/", "./model", "model", "model/", f"{tmp_path}/./model"):
        assert keys(name) == expected, name
    assert keys("shipped:clip-scenes") != expected


def test_a_snapshot_in_a_cache_of_the_hub_is_the_model_of_the_hub(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--lab--a-clip" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert (
        fingerprint(str(snapshot)) == f"lab/a-clip@{COMMIT}" == fingerprint(f"lab/a-clip@{COMMIT}")
    )
    (elsewhere := tmp_path / "snapshots" / COMMIT).mkdir(parents=True)
    assert fingerprint(str(elsewhere)).startswith("sha256:")


@pytest.mark.parametrize("name", ["{tmp}/w.pth", "shipped:nonsense", "{tmp}/models--lab--a-clip"])
def test_what_is_not_there_has_no_checksum(name: str, tmp_path: Path) -> None:
    """Else all missing files would be alike, and unlike the files that come later."""
    name = name.replace("{tmp}", str(tmp_path))
    if "models--" in name:
        name += f"/snapshots/{COMMIT}"
    with pytest.raises(FileNotFoundError, match="no such file or directory"):
        fingerprint(name)
