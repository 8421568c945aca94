"""A process that the system has stopped cannot keep the limit of silence; the driver ends it."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from orchestrator.execution.failures import Cause
from orchestrator.execution.trials.frozen import FrozenTrials
from orchestrator.storage import lease_files
from orchestrator.storage.lease import hold
from orchestrator.storage.lease_files import Pace
from orchestrator.storage.store import Store
from orchestrator.storage.work import lease_of_job
from tests.orchestrator.sleeping_sweep import SleepingSweep
from tests.orchestrator.waiting import wait_until

QUICK = Pace(beat=0.05, stale=0.5, look=0.02)
JOBS = {"trial": "a"}


def look_for(trials: FrozenTrials, seconds: float) -> None:
    """Look again and again, as the driver does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not trials.ids:
        trials.look(JOBS)
        time.sleep(0.02)


def test_only_a_silent_trial_whose_lease_is_not_renewed_is_frozen(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    trials = FrozenTrials(store, limit_s=0.1, pace=QUICK)
    look_for(trials, 1.0)
    assert not trials.ids, "no process of it has started"
    trials.heard("trial")
    with hold(store, lease_of_job("a"), pace=QUICK):
        look_for(trials, 1.5)
        assert not trials.ids, "its process renews the lease"
    assert trials.failure("trial") is None
    look_for(trials, 30.0)
    assert trials.ids == {"trial"}
    failure = trials.failure("trial")
    assert failure is not None
    assert failure.cause is Cause.SILENT
    assert failure.reason.startswith("its process showed no sign of life for ")
    trials.forget("trial")
    look_for(trials, 1.0)
    assert not trials.ids


def test_a_trial_that_reports_is_not_frozen_and_neither_is_any_while_the_storage_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = FrozenTrials(Store(str(tmp_path)), limit_s=0.1, pace=QUICK)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        trials.heard("trial")
        trials.look(JOBS)
        time.sleep(0.02)
    assert not trials.ids

    def away(*arguments: object) -> list[int]:
        raise OSError("the storage is away")

    with monkeypatch.context() as patched:
        patched.setattr(lease_files, "lease_numbers", away)
        look_for(trials, 1.0)
        assert not trials.ids
    look_for(trials, 30.0)
    assert trials.ids == {"trial"}


def test_a_stopped_process_is_ended_and_its_job_runs_again(
    tmp_path: Path, environment: dict[str, str], empty_database: Path
) -> None:
    sweep = SleepingSweep(environment, empty_database, tmp_path, 30.0)
    codec = "hyperprior codec lambda=0.02"
    # Processes of trials renew their leases every 10 s.
    changes = """
from orchestrator.execution.trials import runner
from orchestrator.storage import lease_files
runner.BACKSTOP_S, runner.CAPACITY_EVERY_S = 1.0, 1.0
lease_files.SHARED_DISK = lease_files.Pace(stale=15.0)
"""
    driver = sweep.start("[0.02]", "resources.silence_s=6", changes=changes)
    try:
        status, is_alive = sweep.storage / "status" / "smoke.json", lambda: driver.poll() is None
        wait_until(status.exists, 300, is_alive)
        wait_until(lambda: sweep.runs(codec), 300, is_alive)
        leases = [json.loads(f.read_text()) for f in sweep.storage.glob("leases/job-*/*.json")]
        (pid,) = {lease["holder"]["pid"] for lease in leases if not lease["released"]}
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: not psutil.pid_exists(pid), 300, is_alive)
        sweep.wake(codec, "hyperprior d1 lambda=0.02 seed=0")
        said, _ = driver.communicate(timeout=300)
    finally:
        driver.kill()
        driver.wait()
    assert driver.returncode == 0, said
    assert f"again {codec}: its process showed no sign of life for " in said
    assert sweep.state["points"] == {"total": 1, "done": 1, "failed": 0, "cancelled": 0}
