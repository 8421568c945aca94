"""The status file on a disk and on S3."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.monitoring.state_file import failures, read_state, sweeps_in, write_state
from orchestrator.storage.store import Store
from orchestrator.sweep import main
from tests.orchestrator.monitoring.test_status import state_of
from tests.orchestrator.storage.conftest import s3_endpoint, s3_storage

__all__ = ["s3_endpoint"]


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "disk":
        return Store(str(tmp_path / "storage"))
    uri = s3_storage(request.getfixturevalue("s3_endpoint"), tmp_path.name, monkeypatch)
    return Store(uri, cache=tmp_path / "cache")


def test_a_state_is_read_as_it_was_written_and_the_newest_one_wins(store: Store) -> None:
    assert sweeps_in(store) == []
    assert read_state(store, "night") is None
    write_state(store, state_of())
    newest = state_of(end="complete", running=[])
    write_state(store, newest)
    assert read_state(store, "night") == newest
    assert sweeps_in(store) == ["night"]


def test_the_command_reads_any_storage(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write_state(store, state_of(end="complete", running=[]))
    assert main(["status", "night", "--storage", store.uri]) == 0
    assert "\ncomplete\n" in capsys.readouterr().out
    assert main(["status", "night", "--storage", f"{store.uri}/nothing"]) == 2
    assert "no sweep 'night': nothing is stored in" in capsys.readouterr().err
    assert main(["status", "day", "--storage", store.uri]) == 2
    assert capsys.readouterr().err.rstrip().endswith("sweeps there: night")


@pytest.mark.parametrize("verb", [["status"], ["cancel"]])
def test_a_path_is_no_name_of_a_sweep(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_state(Store(str(tmp_path / "storage")), state_of())
    points = ["x"] * (verb == ["cancel"])
    command = [*verb, "../../night", *points, "--storage", str(tmp_path / "storage")]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no sweep '../../night'" in line
    assert line.endswith("sweeps there: night")


@pytest.mark.parametrize("command", [["status", "night"], ["gc"]])
def test_a_bucket_that_does_not_exist_is_named(
    command: list[str],
    s3_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    s3_storage(s3_endpoint, "any", monkeypatch)
    assert main([*command, "--storage", "s3://lba/sweeps"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no bucket 'lba' for s3://lba/sweeps" in line


def test_a_cause_counts_all_jobs_names_some_and_keeps_no_secret() -> None:
    reasons = [(f"job {n}", f"no answer of s3://me:hunter2@b (log: /l/{n}.log)") for n in range(99)]
    (failure,) = failures([("first", "no answer of s3://me:hunter2@b"), *reasons])
    assert failure["cause"] == "no answer of s3://***@b"
    assert failure["count"] == 100
    assert failure["labels"][:2] == ["first", "job 0"]
    assert len(failure["labels"]) < 100
    assert failure["log"] == "/l/0.log"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": 5}, "points: "),
        ({"points": {"total": True, "done": 0, "failed": 0, "cancelled": 0}}, "points: "),
        ({"running": {}}, "running: "),
        ({"running": [5]}, "running: "),
        ({"failed": [["a"]]}, "failed: "),
        ({"notes": [5]}, "notes: "),
        ({"driver": []}, "driver: "),
        ({"driver": {"evil\x1b": []}}, "driver: "),
        ({"wall_s": float("nan")}, "wall_s: "),
        ({"seconds_left": 1e300}, "seconds_left: "),
        ({"gpu_hours": "many"}, "gpu_hours: "),
        (b"[" * 100_000, "Invalid JSON: recursion limit"),
        (b'{"schema": ' + b"9" * 5000, "Invalid JSON: "),
        (b"\xff", "Invalid JSON: "),
    ],
)
def test_a_file_of_another_shape_is_one_clear_line_and_other_sweeps_are_shown(
    changes: bytes | dict[str, Any],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Store(str(tmp_path))
    write_state(store, state_of(sweep="day", end="complete", running=[]))
    data = changes
    if isinstance(changes, dict):
        data = json.dumps({**state_of(), **changes}).encode()
    assert isinstance(data, bytes)
    store.write("status/night.json", data)
    assert main(["status", "night", "--storage", store.uri]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"error: status/night.json in {store.uri} is damaged: {message}" in line
    assert "evil" not in line
    assert main(["status", "day", "--storage", store.uri]) == 0
    assert "\ncomplete\n" in capsys.readouterr().out
    assert main(["status", "noon", "--storage", store.uri]) == 2
    assert capsys.readouterr().err.rstrip().endswith("sweeps there: day, night")


def test_a_sweep_is_called_as_its_file_whatever_name_the_file_holds(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("status/night.json", json.dumps(state_of(sweep="../day")).encode())
    state = read_state(store, "night")
    assert state is not None
    assert state["sweep"] == "night"
