"""The command `status`: what it says of sweeps that run, ended, died, or are not there."""

import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.monitoring.state_file import SCHEMA, SweepState, failures, write_state
from orchestrator.monitoring.status import driver_of
from orchestrator.monitoring.status_text import Driver, status_text
from orchestrator.storage import lease_files
from orchestrator.storage.lease import only_driver
from orchestrator.storage.lease_files import LeaseState, Pace, Standing
from orchestrator.storage.process import Process
from orchestrator.storage.store import Store
from orchestrator.sweep import main

HERE = Process.current()
ELSEWHERE = Process("node-9", "0" * 12, 77, 1234)


def state_of(driver: Process = HERE, **changes: Any) -> SweepState:
    state: SweepState = {
        "schema": SCHEMA,
        "sweep": "night",
        "end": None,
        "reason": "",
        "command": "python -m orchestrator.sweep demo --name night",
        "driver": asdict(driver),
        "written": "2026-11-27 20:00:00+0000",
        "wall_s": 3661.0,
        "lanes": 2,
        "points": {"total": 21, "done": 5, "failed": 2, "cancelled": 0},
        "jobs": {"total": 34, "done": 9, "failed": 2, "cancelled": 0},
        "seconds_left": 754.0,
        "images_per_s": 412.4,
        "gpu_hours": 12.345,
        "running": [
            {
                "label": "hyperprior d1 lambda=0.02",
                "host": "node-7",
                "phase": "train",
                "step": 120.0,
                "steps": 600.0,
                "loss": 0.53219,
                "seconds": 65.0,
                "left_s": 260.0,
            },
            {
                "label": "teacher features",
                "host": "",
                "phase": "shards",
                "step": 3.0,
                "steps": 8.0,
                "loss": None,
                "seconds": 5.0,
                "left_s": None,
            },
        ],
        "failed": failures([("a", "out of memory (log: /logs/a.log)"), ("b", "out of memory")]),
        "retried": failures([("c", "a lost machine")]),
        "cancelled": [],
        "notes": ["MLflow is away"],
    }
    return {**state, **changes}  # type: ignore[typeddict-item]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def status(store: Store, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["status", "night", "--storage", store.uri, *words]) == 0
    return capsys.readouterr().out


def test_a_running_sweep_is_a_table_with_hosts_losses_failures_and_time_left(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    write_state(store, state_of())
    with only_driver(store, "night"):
        lines = status(store, capsys).splitlines()
    assert lines[1] == f"running (process {os.getpid()} on {HERE.host})"
    assert lines[2].split("  ") == [
        *("points 5/21", "jobs 9/34", "2 jobs failed", "for 1:01:01", "about 12:34 left"),
        *("12.35 GPU-hours", "412 images/s"),
    ]
    table = [line.split() for line in lines[4:7]]
    assert table[0] == ["host", "job", "phase", "step", "loss", "for", "left"]
    assert table[1][0] == "node-7"
    assert table[1][-5:] == ["train", "120/600", "0.5322", "1:05", "4:20"]
    assert table[2] == ["-", "teacher", "features", "shards", "3/8", "-", "0:05", "-"]
    text = "\n".join(lines)
    assert text.count("out of memory") == 1
    assert "    a, b\n    log: /logs/a.log" in text
    assert "tried again:\n  a lost machine\n    c" in text
    assert "MLflow is away" in text


def test_a_sweep_that_ended_says_how_and_how_to_go_on(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with only_driver(store, "night"):
        pass
    write_state(store, state_of(end="incomplete", running=[]))
    output = status(store, capsys)
    assert "\nincomplete\n" in output
    assert "--name night" in output
    write_state(store, state_of(end="complete", running=[]))
    output = status(store, capsys)
    assert "\ncomplete\n" in output
    assert "--name night" not in output


def test_a_complete_sweep_with_cancelled_points_says_how_to_do_them() -> None:
    points = {"total": 21, "done": 20, "failed": 0, "cancelled": 1}
    ended = state_of(end="complete", running=[], points=points, cancelled=["a point"])
    assert status_text(ended, Driver.ENDED).splitlines()[1:4] == [
        "complete",
        "the same command continues:",
        "  python -m orchestrator.sweep demo --name night",
    ]


@pytest.mark.parametrize("end", ["complete", "incomplete", "stopped"])
def test_a_sweep_that_ended_notes_no_phase_as_if_it_went_on(end: str) -> None:
    phases = ["starting Ray", "writing the report"]
    running = status_text(state_of(notes=[*phases, "MLflow is away"]), Driver.ALIVE)
    assert all(f"\n  {phase}" in running for phase in phases)
    ended = status_text(state_of(end=end, notes=[*phases, "MLflow is away"]), Driver.ENDED)
    assert ended.endswith("\nnotes:\n  MLflow is away")
    assert "notes:" not in status_text(state_of(end=end, notes=phases), Driver.ENDED)


KILLED = """
import os, signal, sys
from orchestrator.storage.lease import only_driver
from orchestrator.storage.store import Store
from tests.orchestrator.monitoring.test_status import state_of
from orchestrator.monitoring.state_file import write_state
from orchestrator.storage.process import Process
store = Store(sys.argv[1])
with only_driver(store, "night"):
    write_state(store, state_of(Process.current()))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_driver_that_was_killed_here_is_dead_at_once(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, store.root], check=False)
    assert done.returncode == -signal.SIGKILL
    output = status(store, capsys)
    assert "its driver died (process" in output
    assert "--name night" in output
    assert "node-7" not in output, "what runs no more"
    assert " left" not in output, "nobody works on it"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_files, "SHARED_DISK", Pace(beat=0.1, stale=2.0, look=0.05))


def hold_elsewhere(store: Store, beat: int) -> None:
    """Write the lease as a driver on another machine does."""
    store.write("leases/sweep-night/000001.json", LeaseState(ELSEWHERE, beat).dump())


@pytest.mark.usefixtures("quick")
def test_a_driver_elsewhere_is_dead_when_its_lease_has_not_beaten_for_long(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """No clock of another machine is read."""
    write_state(store, state_of(ELSEWHERE))
    hold_elsewhere(store, 1)
    output = status(store, capsys)
    assert "node-7" in output, "the table comes before the driver is known to be dead"
    assert output.rstrip().splitlines()[-3:] == [
        "its driver died (process 77 on node-9)",
        "the same command continues:",
        "  python -m orchestrator.sweep demo --name night",
    ]


def test_a_driver_elsewhere_is_alive_when_its_lease_beats(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(store, state_of(ELSEWHERE))
    hold_elsewhere(store, 1)
    monkeypatch.setattr("time.sleep", lambda seconds: hold_elsewhere(store, 2))
    assert status(store, capsys).rstrip().splitlines()[-1] == "running (process 77 on node-9)"


def test_a_new_driver_is_not_taken_for_the_writer_of_the_state() -> None:
    """Each line: standing and holder of the lease, end in the file, what is output."""
    other = replace(ELSEWHERE, pid=78)
    for standing, holder, end, expected in (
        (Standing.ALIVE, ELSEWHERE, None, Driver.ALIVE),
        (Standing.UNKNOWN, ELSEWHERE, None, Driver.UNKNOWN),
        (Standing.ALIVE, other, None, Driver.SUCCEEDED),
        (Standing.ALIVE, other, "stopped", Driver.SUCCEEDED),
        (Standing.FREE, other, "stopped", Driver.ENDED),
        (Standing.FREE, None, None, Driver.DIED),
    ):
        assert driver_of(state_of(ELSEWHERE, end=end), standing, holder) is expected


def test_an_unknown_sweep_is_a_message_with_the_sweeps_that_there_are(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    write_state(store, state_of(sweep="night"))
    write_state(store, state_of(sweep="v1.2"))
    assert main(["status", "day", "--storage", store.uri]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'day'" in line
    assert line.endswith("night, v1.2")
    assert main(["status", "day", "--storage", f"{store.uri}/none"]) == 2
    assert not Path(f"{store.uri}/none").exists()


def test_a_damaged_file_and_one_of_another_version_are_messages(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in (b"{", b"[]", b"{}"):
        store.write("status/night.json", content)
        assert main(["status", "night", "--storage", store.uri]) == 2
        assert "status/night.json" in capsys.readouterr().err


def test_control_characters_from_the_storage_do_not_reach_the_terminal() -> None:
    label = "evil\x1b[2Jlabel"
    state = state_of(
        notes=[label],
        failed=failures([(label, label)]),
        reason=label,
        end="error",
        sweep=label,
        written=label,
    )
    state["running"][0]["label"] = label
    assert "\x1b" not in status_text(state, Driver.ENDED)
    assert "evil" in status_text(state, Driver.ENDED)


def test_watching_ends_with_the_sweep(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write_state(store, state_of(end="complete", running=[]))
    assert "points 5/21" in status(store, capsys, "--watch")


def test_cancelled_points_are_named_apart_from_failed_ones() -> None:
    points = {"total": 21, "done": 5, "failed": 0, "cancelled": 12}
    labels = [f"point {number}" for number in range(12)]
    text = status_text(state_of(points=points, failed=[], cancelled=labels), Driver.ALIVE)
    assert "12 points cancelled" in text
    listed = text.partition("cancelled (the same command does them again):\n")[2].splitlines()[0]
    assert listed.strip() == f"{', '.join(labels[:8])} and 4 more"
    assert "failed:" not in text
