"""What Tune writes and reads back is this user's, and lies in no storage."""

from __future__ import annotations

import json
import os
import pickle
import signal
import stat
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.execution.trials.tune import exception_of, tune_directory
from orchestrator.stopping import STOP_AGAIN_S, interrupt
from tests.orchestrator.sleeping_sweep import SleepingSweep
from tests.orchestrator.waiting import wait_until


class Payload:
    """Runs a program where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._mark),)


def failed_trial(file: Path) -> Any:
    return SimpleNamespace(pickled_error_file=str(file))


def test_an_error_that_another_user_wrote_is_not_unpickled(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make another user's file")
    file = tmp_path / "error.pkl"
    file.write_bytes(pickle.dumps(Payload(tmp_path / "run")))
    os.chown(file, 54321, 54321)
    assert exception_of(failed_trial(file)) is None
    assert not (tmp_path / "run").exists()


def test_the_error_of_a_trial_is_read(tmp_path: Path) -> None:
    file = tmp_path / "error.pkl"
    assert exception_of(failed_trial(file)) is None
    file.write_bytes(pickle.dumps(ValueError("of the job")))
    assert str(exception_of(failed_trial(file))) == "of the job"


def test_only_this_user_writes_where_tune_keeps_its_state() -> None:
    with tune_directory() as directory:
        assert stat.S_IMODE(Path(directory).stat().st_mode) == 0o700
    assert not Path(directory).exists()


def test_the_storage_holds_no_pickles_and_a_signal_that_comes_twice_stops_a_sweep_once(
    tmp_path: Path, environment: dict[str, str], empty_database: Path
) -> None:
    sweep = SleepingSweep(environment, empty_database, tmp_path, 120.0)
    driver = sweep.start("[0.02]")
    try:
        is_alive = lambda: driver.poll() is None  # noqa: E731
        wait_until((sweep.storage / "status" / "smoke.json").exists, 300, is_alive)
        wait_until(lambda: sweep.runs("hyperprior codec lambda=0.02"), 300, is_alive)
        assert not list(sweep.storage.rglob("*.pkl"))
        assert not list((sweep.storage / "tmp").glob("tune*"))
        for _ in range(2):
            driver.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        said, _ = driver.communicate(timeout=120)
    finally:
        driver.kill()
        driver.wait()
    assert driver.returncode == 130, said
    assert "stopped; the same command continues" in said
    assert "Traceback" not in said
    assert "SIGTERM received" not in said, "Ray's handler would have ended the process"
    (lease,) = (sweep.storage / "leases" / "sweep-smoke").iterdir()
    assert json.loads(lease.read_text())["released"] is True


def test_the_clean_up_is_not_interrupted_by_the_same_signal() -> None:
    before = signal.setitimer(signal.ITIMER_REAL, 0)  # the time limit of this test
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupt(signal.SIGTERM, None)
        interrupt(signal.SIGTERM, None)
        signal.setitimer(signal.ITIMER_REAL, STOP_AGAIN_S / 2)
        with pytest.raises(KeyboardInterrupt):  # somebody waits, and asks again
            interrupt(signal.SIGTERM, None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
