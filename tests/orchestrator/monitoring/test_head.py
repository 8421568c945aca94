"""A head that does not answer any more ends a driver, whose own calls would wait for ever."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from orchestrator.execution.cluster import NoClusterError
from orchestrator.monitoring import head as watched
from tests.orchestrator.heads import head
from tests.orchestrator.sleeping_sweep import SleepingSweep
from tests.orchestrator.waiting import wait_until

GIVE_UP_SOON = """
import os, threading, time
from orchestrator.monitoring import head
head.LOOK_S = 1.0
def hasten():
    while not Path(sys.argv[1], "lost").exists():
        time.sleep(0.1)
    os.environ["RAY_py_gcs_connect_timeout_s"], head.SILENT_S = "3", 5.0
threading.Thread(target=hasten, daemon=True).start()
"""
DO_NOT_HEAR = "from orchestrator import stopping; stopping.STOP_HARD_S = 5.0"
"""Statements: the head is given up within seconds, once it is lost: a busy machine is slow before;
a driver that does not stop is ended then."""


@contextlib.contextmanager
def head_lost(address: str) -> Iterator[None]:
    """Stop the process of a head that others ask, as if its network were away."""
    (process,) = (
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] == "gcs_server"
        and f"--gcs_server_port={address.rpartition(':')[2]}" in process.cmdline()
    )
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def end(driver: subprocess.Popen[str]) -> None:
    """End a driver, and print what it has said that no test has read: pytest shows it."""
    driver.kill()
    said, _ = driver.communicate()
    print(said)


def test_the_line_about_a_lost_head_has_the_seconds_that_it_was_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0

    def ask(address: str) -> bool:
        nonlocal now
        now += 42.0
        raise NoClusterError

    @contextlib.contextmanager
    def three_looks(look: Callable[[], None], every_s: float, what: str) -> Iterator[None]:
        nonlocal now
        for _ in range(3):
            look()
            now += every_s
        yield

    monkeypatch.setattr(watched, "gives_its_identity", ask)
    monkeypatch.setattr(watched, "looking", three_looks)
    monkeypatch.setattr(watched, "time", SimpleNamespace(monotonic=lambda: now))
    said: list[str] = []
    with watched.head_watched("10.0.0.9:6379", said.append):
        pass
    (line,) = said
    # Three questions of 42 s, and 30 s between two.
    assert "10.0.0.9:6379 has not answered for 186 s" in line


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "code"), [(GIVE_UP_SOON, 1), (DO_NOT_HEAR, 130)])
def test_a_driver_without_a_head_says_so_and_ends(
    changes: str,
    code: int,
    tmp_path: Path,
    environment: dict[str, str],
    empty_database: Path,
) -> None:
    (tmp_path / "token").write_text("0" * 64)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    sweep = SleepingSweep({**environment, **token}, empty_database, tmp_path, 600.0)
    with head(**sweep.environment) as address:
        sweep.environment["RAY_ADDRESS"] = address
        driver = sweep.start("[0.02]", changes=changes)
        is_alive = lambda: driver.poll() is None  # noqa: E731
        try:
            wait_until((sweep.storage / "status" / "smoke.json").exists, 300, is_alive)
            wait_until(lambda: sweep.runs("hyperprior codec lambda=0.02"), 300, is_alive)
            with head_lost(address):
                (tmp_path / "jobs" / "lost").touch()
                if changes is DO_NOT_HEAR:
                    driver.send_signal(signal.SIGTERM)
                said, _ = driver.communicate(timeout=300)
        finally:
            end(driver)
    assert driver.returncode == code, said
    assert "orchestrator.sweep smoke" in said.splitlines()[-1], "the command that goes on"
    if changes is GIVE_UP_SOON:
        assert re.search(
            f"the head of the Ray cluster at {address} has not answered for \\d+ s:", said
        )
        assert sweep.state["end"] == "error"
        (lease,) = (sweep.storage / "leases" / "sweep-smoke").iterdir()
        assert json.loads(lease.read_text())["released"] is True


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_driver_whose_own_ray_dies_says_so_and_ends(
    name: str, tmp_path: Path, environment: dict[str, str], empty_database: Path
) -> None:
    sweep = SleepingSweep({**environment, "RAY_ADDRESS": "local"}, empty_database, tmp_path, 600.0)
    driver = sweep.start("[0.02]")
    try:
        wait_until((sweep.storage / "status" / "smoke.json").exists, 300)
        wait_until(lambda: sweep.runs("hyperprior codec lambda=0.02"), 300)
        children = psutil.Process(driver.pid).children()
        (process,) = (child for child in children if child.name() == name)
        process.kill()
        said, _ = driver.communicate(timeout=50)
    finally:
        end(driver)
    assert driver.returncode == 1, said
    assert f"Ray's process {name} ({process.pid}) has died" in said
    assert "orchestrator.sweep smoke" in said.splitlines()[-1], "the command that goes on"
    assert sweep.state["end"] == "error"
