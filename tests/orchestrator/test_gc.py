"""`python -m orchestrator.sweep gc`: lists with sizes and ages, deletes when told to."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from orchestrator.driver.run import _record_references
from orchestrator.plan.jobs import Plan
from orchestrator.recording.request import Request
from orchestrator.storage import outage
from orchestrator.storage.lease import hold
from orchestrator.storage.references import DELETION, read_references, record_references
from orchestrator.storage.store import Store
from orchestrator.sweep import main
from search_spaces import load_space, operating_points
from tests.orchestrator.waiting import wait_until

LOST = "stages/point/0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A storage with a stage of 3 MB, two days old, that no sweep refers to."""
    monkeypatch.setattr(outage, "VISIBLE_S", 0.0)
    store = Store(str(tmp_path / "storage"))
    out = store.new(LOST)
    (out / "model.safetensors").write_bytes(bytes(3_000_000))
    store.commit(LOST, out, {"spec": {}, "inputs": []})
    then = time.time() - 48.1 * 3600
    for file in Path(store.path(LOST)).iterdir():
        os.utime(file, (then, then))
    record_references(store, "mine", ["stages/point/kept"], searches=False)
    return store


def test_it_lists_sizes_and_ages_and_deletes_nothing_by_itself(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gc", "--storage", store.uri]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "1 stage, 3.0 MB" in lines[0]
    assert lines[1].split() == [LOST, "3.0", "MB", "2", "days"]
    assert store.has(LOST)


def test_a_link_among_stages_is_left_alone_with_a_line(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    Path(store.path("stages/features")).symlink_to(tmp_path / "elsewhere")
    assert main(["gc", "--storage", store.uri]) == 2
    assert "stages/features is a link" in capsys.readouterr().err
    Path(store.path("stages/features")).unlink()
    Path(store.path("stages/point/old")).symlink_to(tmp_path / "elsewhere")
    assert main(["gc", "--storage", store.uri, "--delete"]) == 0
    assert "left alone: stages/point/old is a link" in capsys.readouterr().out
    assert (tmp_path / "elsewhere").exists()


def test_it_deletes_when_told_to_and_counts_bytes(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gc", "--storage", store.uri, "--delete", "--older-than", "49"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "deleted 0 stages, 0 bytes" in lines
    assert lines[-1].startswith("kept 1 stage, 3.0 MB: younger than 49 hours")
    assert store.has(LOST)
    assert main(["gc", "--storage", store.uri, "--delete"]) == 0
    assert "deleted 1 stage, 3.0 MB" in capsys.readouterr().out.splitlines()
    assert not store.exists(LOST)
    assert store.exists("mine/stages.json")


def test_names_of_files_that_others_wrote_cannot_steer_the_terminal(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write("stages/evil\x1b[2J\u202e/dead/manifest.json", b"{}")
    Path(store.path("stages/point/\x1b[2Jlink")).symlink_to("/etc")
    assert main(["gc", "--storage", store.uri]) == 0
    out = capsys.readouterr().out
    assert r"  stages/evil\x1b[2J\u202e/dead  " in out
    assert r"left alone: stages/point/\x1b[2Jlink is a link" in out
    assert "\x1b" not in out


def test_a_file_that_says_it_is_endless_is_no_crash(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write("huge/stages.json", b"{}")
    os.truncate(store.path("huge/stages.json"), 2**40)
    assert main(["gc", "--storage", store.uri]) == 0
    assert "sweep 'huge' has no stages.json that can be read" in capsys.readouterr().out


def test_it_keeps_everything_and_names_the_sweep_without_a_record(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write("before/sweep.json", b"{}")
    assert main(["gc", "--storage", store.uri, "--delete", "--older-than", "0"]) == 0
    out = capsys.readouterr().out
    assert "sweep 'before' has no stages.json" in out
    assert "deleted 0 stages, 0 bytes" in out
    assert store.has(LOST)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--storage", "{tmp}/nothing"], "nothing is stored in "),
        (["--storage", "{tmp}", "--older-than=-1"], "--older-than -1: hours"),
        (["--storage", "s4://me:hunter2@bucket"], "s4://***"),
    ],
)
def test_bad_input_exits_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gc", *(word.replace("{tmp}", str(tmp_path)) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "hunter2" not in error
    assert not list(tmp_path.iterdir())


def test_a_sweep_records_all_stages_of_its_space_whatever_was_selected(tmp_path: Path) -> None:
    space = load_space("smoke", [])
    points = operating_points(space)
    store = Store(str(tmp_path))
    request = Request(space, points[:1], store, "mine", None, False, 0.0, "")
    _record_references(request, {})
    jobs = Plan(space, points, {}, None).jobs.values()
    expected = {stage.path for job in jobs for stage in job.stages}
    assert read_references(store).stages == expected
    assert sum(path.startswith("stages/point/") for path in expected) == len(points)
    assert sum(path.startswith("stages/codec/") for path in expected) == 2
    assert json.loads(store.read("mine/stages.json") or b"")["search"] is False


def test_a_sweep_records_its_stages_then_waits_while_stages_are_deleted(tmp_path: Path) -> None:
    space = load_space("smoke", [])
    store = Store(str(tmp_path))
    request = Request(space, operating_points(space)[:1], store, "mine", None, False, 0.0, "")
    driver = threading.Thread(target=_record_references, args=(request, {}))
    with hold(store, DELETION):
        driver.start()
        wait_until(lambda: store.is_file("mine/stages.json"), 60)
        driver.join(1.0)
        assert driver.is_alive()
    driver.join(60)
    assert not driver.is_alive()
