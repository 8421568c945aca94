"""A sweep that runs gets points added, prioritised and cancelled by commands of other processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from orchestrator.monitoring.state_file import read_state
from orchestrator.storage.store import Store
from tests.orchestrator.sleeping_sweep import ROOT, SleepingSweep
from tests.orchestrator.waiting import wait_until

D1 = "hyperprior d1 lambda={} seed=0"


def test_points_are_added_prioritised_and_cancelled_while_a_sweep_runs(
    tmp_path: Path, environment: dict[str, str], empty_database: Path
) -> None:
    sweep = SleepingSweep(environment, empty_database, tmp_path, 600.0)
    codec, cancelled, added = "hyperprior codec lambda=0.02", D1.format(0.02), D1.format(0.002)
    driver = sweep.start("[0.02]")
    try:
        status = sweep.storage / "status" / "smoke.json"
        is_alive = lambda: driver.poll() is None  # noqa: E731
        wait_until(status.exists, 300, is_alive)
        wait_until(lambda: sweep.runs(codec), 300, is_alive)
        changed = sweep.call(*sweep.words("[0.02, 0.002]", "d1.steps=16"))
        assert changed.returncode == 2, changed.stdout + changed.stderr
        assert "d1.steps = 16, in the sweep that runs 8" in changed.stderr
        larger = sweep.call(*sweep.words("[0.02, 0.002]"))
        assert larger.returncode == 0, larger.stderr
        (line,) = larger.stdout.splitlines()
        assert line.startswith("added 1 operating point to the sweep that runs on ")
        assert f"orchestrator.sweep status smoke --storage {sweep.storage}`" in line
        first = sweep.steer("prioritise", "lambda=0.002")
        assert first.returncode == 0, first.stderr
        assert added in first.stdout
        unknown = sweep.steer("cancel", "scenario=d2")
        assert unknown.returncode == 2
        assert "there are d1" in unknown.stderr
        sweep.wake(codec, "hyperprior codec lambda=0.002", added)
        wait_until(lambda: sweep.runs(cancelled), 300, is_alive)
        ended = sweep.steer("cancel", cancelled)
        assert ended.returncode == 0, ended.stderr
        assert "ends now, and keeps its checkpoint" in ended.stdout
        said, _ = driver.communicate(timeout=300)
    finally:
        driver.kill()
        driver.wait()
    assert driver.returncode == 0, said
    assert f"cancelled: {cancelled}; the next run of the same command does them again" in said
    check_end(sweep, cancelled)
    again = SleepingSweep(environment, empty_database, tmp_path, 0.1)
    continued = again.start("[0.02, 0.002]")
    said, _ = continued.communicate(timeout=300)
    assert continued.returncode == 0, said
    points = pd.read_parquet(sweep.storage / "smoke" / "points.parquet")
    assert set(points.lmbda) == {0.02, 0.002}
    assert not list((sweep.storage / "work").iterdir())
    assert again.run_in_mlflow(0.02).data.tags["bridgesweep.status"] == "complete"
    assert again.steer("cancel", cancelled).returncode == 2, "it does not run any more"


def check_end(sweep: SleepingSweep, cancelled: str) -> None:
    """One of two points is complete, the other one cancelled, and nothing has failed."""
    points = pd.read_parquet(sweep.storage / "smoke" / "points.parquet")
    assert set(points.lmbda) == {0.002}
    manifest = json.loads((sweep.storage / "smoke" / "sweep.json").read_text())
    (gone,) = manifest["missing"]
    assert (gone["lmbda"], gone["reason"]) == (0.02, "cancelled")
    assert (sweep.storage / "work" / gone["point_key"]).is_dir(), "with its checkpoint"
    state = sweep.state
    assert state["end"] == "complete"
    assert state["points"] == {"total": 2, "done": 1, "failed": 0, "cancelled": 1}
    assert state["cancelled"] == [cancelled]
    assert "0.002" in state["command"], "the command that continues is the larger one"
    run = sweep.run_in_mlflow(0.02)
    assert run.info.status == "KILLED"
    assert run.data.tags["bridgesweep.status"] == "cancelled"
    assert sweep.run_in_mlflow(0.002).data.tags["bridgesweep.status"] == "complete"
    assert not (sweep.storage / "requests" / "smoke" / "added.json").exists()


@pytest.mark.slow
def test_added_points_get_train_workers_and_the_evaluators_of_the_sweep_that_runs(
    tmp_path: Path,
    command: Callable[..., list[str]],
    execute: Callable[..., subprocess.CompletedProcess[str]],
    environment: dict[str, str],
) -> None:
    settings = ["resources.workers_per_point=1", "scenarios=[d1]", "baselines=[]"]
    words = command(tmp_path, *(word for setting in settings for word in ("--set", setting)))
    first = [*words, "--set", "codecs.0.lambdas=[0.02]"]
    with (tmp_path / "said").open("w") as said:
        driver = subprocess.Popen(
            first, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            is_alive = lambda: driver.poll() is None  # noqa: E731
            wait_until((tmp_path / "status" / "smoke.json").exists, 300, is_alive)
            added = execute([*words, "--set", "codecs.0.lambdas=[0.02, 0.002]"])
            assert added.returncode == 0, added.stderr
            assert added.stdout.startswith("added 1 operating point"), added.stdout
            driver.wait(timeout=600)
        finally:
            driver.kill()
            driver.wait()
    assert driver.returncode == 0, (tmp_path / "said").read_text()
    state = read_state(Store(str(tmp_path)), "smoke")
    assert state is not None
    assert state["points"] == {"total": 2, "done": 2, "failed": 0, "cancelled": 0}
    points = pd.read_parquet(tmp_path / "smoke" / "points.parquet")
    assert set(points.lmbda) == {0.02, 0.002}
    assert points.groupby("lmbda").size().nunique() == 1, "both with every row"
