"""A remote storage keeps the MLflow runs of a sweep, for drivers on any machine."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils

from orchestrator.storage.store import Store
from orchestrator.tracking import mlflow_copy
from orchestrator.tracking.mlflow_client import AwayError
from orchestrator.tracking.open_tracker import default_uri, open_tracker

SWEEP = ("sweep", "bridgesweep", "ada")


def machine(tmp_path: Path, name: str) -> Store:
    # MLflow remembers where a run's artifacts are; other machines are other processes.
    utils._artifact_repos_cache.clear()
    return Store(f"file://{tmp_path}/storage", cache=tmp_path / name, remote=True)


@pytest.fixture
def first(tmp_path: Path, empty_database: Path) -> Store:
    """A machine whose cache has MLflow's empty tables; creating them takes seconds."""
    store = machine(tmp_path, "first")
    store.local("mlflow", "sweep").mkdir(parents=True)
    shutil.copy(empty_database, store.local("mlflow", "sweep", "mlflow.db"))
    return store


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_another_machine_continues_the_runs_and_finds_their_artifacts(
    first: Store, tmp_path: Path
) -> None:
    tracker = open_tracker(first, None, *SWEEP)
    client = MlflowClient(default_uri(first, "sweep"))
    client.log_artifact(tracker.parent, str(write(tmp_path / "points.csv", "one")))
    assert tracker.copy is not None
    tracker.copy.save()
    shutil.rmtree(first.local())

    second = machine(tmp_path, "second")
    later = open_tracker(second, None, *SWEEP)
    assert later.parent == tracker.parent
    uri = default_uri(second, "sweep")
    assert uri == f"sqlite:///{tmp_path}/second/mlflow/sweep/mlflow.db"
    client = MlflowClient(uri)
    assert Path(client.download_artifacts(tracker.parent, "points.csv")).read_text() == "one"
    client.set_tag(later.parent, "of", "second")
    client.log_artifact(later.parent, str(write(tmp_path / "points.csv", "two")))
    assert later.copy is not None
    later.copy.save()

    third = machine(tmp_path, "third")
    assert open_tracker(third, None, *SWEEP).parent == tracker.parent
    client = MlflowClient(default_uri(third, "sweep"))
    assert client.get_run(tracker.parent).data.tags["of"] == "second"
    assert Path(client.download_artifacts(tracker.parent, "points.csv")).read_text() == "two"


def test_the_artifacts_of_all_experiments_follow(first: Store, tmp_path: Path) -> None:
    parents = {}
    for experiment in ("one", "two"):
        tracker = open_tracker(first, None, "sweep", experiment, "ada")
        parents[experiment] = tracker.parent
        client = MlflowClient(default_uri(first, "sweep"))
        client.log_artifact(tracker.parent, str(write(tmp_path / "points.csv", experiment)))
    assert tracker.copy is not None
    tracker.copy.save()
    shutil.rmtree(first.local())
    second = machine(tmp_path, "second")
    for experiment, parent in parents.items():
        assert open_tracker(second, None, "sweep", experiment, "ada").parent == parent
        client = MlflowClient(default_uri(second, "sweep"))
        text = Path(client.download_artifacts(parent, "points.csv")).read_text()
        assert text == experiment


def test_another_machine_gets_all_files_with_one_call(
    first: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So an object store is asked for many files at a time."""
    copy = mlflow_copy.MlflowCopy(first, "sweep")
    artifacts = [f"mlruns/{number}/spec.json" for number in range(3)]
    for name in artifacts:
        (copy.directory / name).parent.mkdir(parents=True)
        write(copy.directory / name, name)
    copy.save()
    second = machine(tmp_path, "second")
    sources: list[list[str]] = []
    get = second.fs.get

    def count(source: list[str], target: list[str], **options: object) -> None:
        sources.append(source)
        get(source, target, **options)

    monkeypatch.setattr(second.fs, "get", count)
    fetched = mlflow_copy.MlflowCopy(second, "sweep")
    fetched.fetch()
    (call,) = sources
    assert sorted(call) == sorted(second.path("mlflow/sweep", n) for n in ("mlflow.db", *artifacts))
    assert [(fetched.directory / name).read_text() for name in artifacts] == artifacts
    assert not list(fetched.directory.rglob("*.tmp"))


def test_what_has_not_changed_is_not_copied_again(first: Store, tmp_path: Path) -> None:
    tracker = open_tracker(first, None, *SWEEP)
    client = MlflowClient(default_uri(first, "sweep"))
    client.log_artifact(tracker.parent, str(write(tmp_path / "points.csv", "one")))
    assert tracker.copy is not None
    tracker.copy.save()
    before = first.below("mlflow/sweep")
    tracker.copy.save()
    assert first.below("mlflow/sweep") == before
    again = mlflow_copy.MlflowCopy(first, "sweep")
    again.fetch()
    again.save()
    assert first.below("mlflow/sweep") == before
    assert len(before) == 2


def test_while_a_sweep_runs_a_copy_is_a_minute_old_at_most(
    first: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = open_tracker(first, None, *SWEEP)
    copy = tracker.copy
    assert copy is not None
    copy.save_if_due()
    assert not first.below("mlflow/sweep"), "it was opened a moment ago"
    monkeypatch.setattr(mlflow_copy, "SAVE_EVERY_S", 0.0)
    copy.save_if_due()
    with sqlite3.connect(first.path("mlflow/sweep/mlflow.db")) as connection:
        assert connection.execute("SELECT run_uuid FROM runs").fetchall() == [(tracker.parent,)]


def test_a_storage_that_is_away_ends_nothing(first: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = mlflow_copy.MlflowCopy(first, "sweep")
    monkeypatch.setattr(mlflow_copy, "SAVE_EVERY_S", 0.0)

    def refuse(*arguments: object) -> None:
        raise OSError("no answer")

    with monkeypatch.context() as away:
        away.setattr(first, "put_file", refuse)
        copy.save_if_due()
        away.setattr(first, "below", refuse)
        with pytest.raises(AwayError, match="no answer"):
            open_tracker(first, None, *SWEEP)
    copy.save_if_due()
    assert list(first.below("mlflow/sweep")) == ["mlflow/sweep/mlflow.db"]


def test_a_name_in_the_storage_does_not_lead_out_of_the_cache(first: Store) -> None:
    class Hostile(Store):
        def below(self, directory: str) -> dict[str, float | None]:
            return {f"{directory}/../../escaped": None}

    store = Hostile(first.uri, cache=first.local(), remote=True)
    with pytest.raises(AwayError, match="leads out of"):
        open_tracker(store, None, *SWEEP)
