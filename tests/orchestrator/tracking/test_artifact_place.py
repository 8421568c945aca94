"""The artifacts of a storage's runs lie in the storage, whatever others write to its database."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.tracking._tracking_service import utils

from orchestrator.storage.store import Store
from orchestrator.tracking import mlflow_copy
from orchestrator.tracking.mlflow_client import AwayError, RefusedError
from orchestrator.tracking.mlflow_runs import Tracker
from orchestrator.tracking.open_tracker import open_tracker
from tests.orchestrator.tracking.test_mlflow_runs import point, subject

SWEEP = ("sweep", "bridgesweep", "ada")


def opened(root: Path) -> Tracker:
    # MLflow remembers where a run's artifacts are; other drivers are other processes.
    utils._artifact_repos_cache.clear()
    return open_tracker(Store(str(root)), None, *SWEEP)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory of whoever runs the sweep."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "spec.json").write_text("mine")
    return tmp_path / "home"


@pytest.fixture(params=["storage", "runs [2024] 100% #1"])
def root(request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path) -> Path:
    """A storage with MLflow's empty tables; creating them takes seconds."""
    root = tmp_path / str(request.param)
    root.mkdir()
    shutil.copy(empty_database, root)
    return root


def change(root: Path, statement: str, *values: str) -> None:
    with sqlite3.connect(root / "mlflow.db") as connection:
        assert connection.execute(statement, values).rowcount > 0


def spec(root: Path, run_id: str) -> Path:
    return root / "mlruns" / run_id / "artifacts" / "spec.json"


def test_a_storage_that_was_moved_keeps_its_runs_and_their_artifacts(
    root: Path, tmp_path: Path
) -> None:
    run_id = opened(root).log_point(point())
    assert spec(root, run_id).exists()
    moved = root.rename(tmp_path / "moved")
    tracker = opened(moved)
    assert tracker.log_point(point()) == run_id
    assert spec(moved, tracker.log_point(point("k2"))).exists()
    assert not root.exists()


@pytest.mark.parametrize(
    "place", ["{home}", "file://{home}", "FILE://{home}", "{ours}/../home", "{ours}/%2e%2e/home"]
)
def test_a_run_whose_artifacts_are_elsewhere_gets_none(root: Path, home: Path, place: str) -> None:
    tracker = opened(root)
    tracker.log_failed(subject(), "away")
    place = place.format(home=home, ours=(root / "mlruns").as_uri())
    change(root, "UPDATE runs SET artifact_uri = ?", place)
    with pytest.raises(RefusedError, match=r"is elsewhere than .*; delete .*mlflow\.db"):
        opened(root).log_point(point())
    assert [file.read_text() for file in home.rglob("*")] == ["mine"]


def test_an_experiment_that_was_sent_elsewhere_is_brought_back(root: Path, home: Path) -> None:
    opened(root)
    change(root, "UPDATE experiments SET artifact_location = ?", home.as_uri())
    run_id = opened(root).log_point(point())
    assert spec(root, run_id).exists()
    tracker = opened(root)
    change(root, "UPDATE experiments SET artifact_location = ?", home.as_uri())
    with pytest.raises(RefusedError, match="is elsewhere than"):
        tracker.log_point(point("k2"))
    assert [file.read_text() for file in home.rglob("*")] == ["mine"]


@pytest.mark.parametrize("name", ["mlruns", "mlruns/{run}", "mlruns/{run}/artifacts"])
def test_no_artifact_is_written_behind_a_link(root: Path, home: Path, name: str) -> None:
    tracker = opened(root)
    place = root / name.format(run=tracker.parent)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        shutil.rmtree(place)
    place.symlink_to(home)
    (home / "new.txt").write_text("new")
    with pytest.raises(RefusedError, match="is a link"):
        tracker.sweep_run.finish(home, "space", True, "done")
    assert sorted(file.name for file in home.rglob("*")) == ["new.txt", "spec.json"]


@pytest.mark.parametrize("name", ["mlflow.db", "mlflow.db-journal", "mlflow.db-wal"])
def test_no_link_is_opened_as_the_database_or_beside_it(root: Path, home: Path, name: str) -> None:
    (root / name).unlink(missing_ok=True)
    (root / name).symlink_to(home / "spec.json")
    with pytest.raises(RefusedError, match=f"{name} is a link"):
        opened(root)
    assert (home / "spec.json").read_text() == "mine"


def test_a_database_that_is_none_is_named_with_what_to_do(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"garbage " * 200)
    with pytest.raises(RefusedError, match=f"{re.escape(str(database))}: file is not.*move it"):
        opened(tmp_path)


def test_a_database_that_cannot_be_written_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(root).log_point(point())

    def connect(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)

    moved = root.rename(root.with_name("moved"))  # what is to be written: where artifacts are now
    monkeypatch.setattr(mlflow_copy, "sqlite3", SimpleNamespace(connect=connect))
    with pytest.raises(AwayError, match=f"{re.escape(str(moved / 'mlflow.db'))}: .*readonly"):
        opened(moved)
