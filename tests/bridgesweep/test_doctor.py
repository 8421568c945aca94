"""`bridgesweep doctor`: what it says of packages, storage and models."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from bridgesweep import doctor


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")


def test_packages_that_lack_or_are_too_old_are_named_with_the_way_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def changed(name: str) -> str:
        if name == "optuna":
            raise PackageNotFoundError(name)
        return "2.0" if name == "torch" else version(name)

    monkeypatch.setattr(doctor, "version", changed)
    assert doctor.missing_of("search") == ["optuna>=4"]
    assert doctor.missing_of("sweep") == ["torch>=2.11"]
    assert doctor.missing_of("") == []
    assert doctor.main(["--storage", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert 'pip install "bridgesweep[search]"' in shown
    assert 'pip install "bridgesweep[sweep]"' in shown


def test_a_machine_that_can_run_the_demo_is_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main(["--storage", str(tmp_path / "new")]) == 0
    shown = capsys.readouterr().out
    assert f"torch {version('torch')}" in shown
    assert "shipped:llava-scenes" in shown
    assert "MISSING" not in shown
    assert not (tmp_path / "new").exists(), "nothing is made"


def test_what_a_space_and_a_storage_lack_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "models--lab--model").mkdir()
    (tmp_path / "file").touch()
    space = tmp_path / "mine.yaml"
    space.write_text("extends: demo\nmllms: [llava-hf/nowhere-7b, ./lost]\n")
    assert doctor.main([str(space), "--storage", str(tmp_path / "file" / "x")]) == 1
    shown = capsys.readouterr().out.splitlines()
    missing = [line for line in shown if line.startswith("MISSING")]
    assert any("storage" in line and "is a file" in line for line in missing)
    assert any("'llava-hf/nowhere-7b' is not here" in line for line in missing)
    assert any("lost': no such directory" in line for line in missing)
    assert any("lab/model" in line for line in shown)
