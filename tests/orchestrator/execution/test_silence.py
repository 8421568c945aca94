"""A process without progress ends itself, and says what it waited for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from ray.exceptions import ActorDiedError

from orchestrator.execution import failures
from orchestrator.execution.failures import Cause
from orchestrator.execution.job_steps import Settings
from orchestrator.execution.silence import EXIT_CODE, failure_of, take_silence
from orchestrator.plan.jobs import Job, Plan
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points

START = """
import ctypes, sys, time
from pathlib import Path
from orchestrator.execution import silence
from orchestrator.execution.backends import local
from orchestrator.execution.job_run import run_job
from orchestrator.execution.silence import watch
from tests.orchestrator.execution.test_silence import codec_job, settings_in

settings = settings_in(Path(sys.argv[1]))
store, job = settings.store, codec_job(settings)
"""


def settings_in(directory: Path) -> Settings:
    space = load_space("smoke", ("resources.silence_s=2",))
    plan = Plan(space, operating_points(space), {}, Store(str(directory)))
    return Settings(space, str(directory), plan.jobs, {})


def codec_job(settings: Settings) -> Job:
    return next(job for job in settings.jobs.values() if job.kind == "codec")


def run_child(storage: Path, script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START + script, str(storage)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_training_that_hangs_ends_its_process_with_a_note_and_all_stacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """
def wait_for_a_rank_that_never_comes(settings, store, job, out, context):
    context.report({"step": 10, "steps": 200})
    time.sleep(600)

local.train_job = wait_for_a_rank_that_never_comes
run_job(settings, job.key, lambda: local.LocalBackend(settings), lambda metrics: None)
"""
    child = run_child(tmp_path, script)
    assert child.returncode == EXIT_CODE, child.stderr
    settings = settings_in(tmp_path)
    store, job = settings.store, codec_job(settings)
    log = (store.read(f"logs/{job.key}.log") or b"").decode()
    assert "in wait_for_a_rank_that_never_comes" in log
    monkeypatch.setattr(failures, "node_ids", frozenset)
    line = "no progress for 2 s: train step 10 of 200"
    for expected in ((Cause.SILENT, line), (Cause.PROCESS_DIED, str(Cause.PROCESS_DIED))):
        # The second process died without a note.
        failure = failure_of(ActorDiedError(), frozenset(), store, job.key, job.key)
        assert (failure.cause, failure.reason) == expected


def test_a_hang_that_stops_all_of_python_ends_too(tmp_path: Path) -> None:
    script = """
silence.BACKSTOP_S = 1
with watch(store, job, job.key, 1.0):
    ctypes.PyDLL(None).sleep(600)  # it holds Python's global lock
"""
    child = run_child(tmp_path, script)
    assert child.returncode == 1
    assert "Timeout (" in child.stderr


def test_progress_and_bytes_that_are_written_keep_a_process_alive(tmp_path: Path) -> None:
    script = """
with watch(store, job, job.key, 2.0) as show_life:
    for step in range(12):
        show_life({"phase": "train", "step": step, "steps": 12})
        time.sleep(0.25)
    out = store.new("stages/codec/x")
    for number in range(12):  # a download
        (out / str(number)).write_bytes(b"x")
        time.sleep(0.25)
time.sleep(3)
"""
    child = run_child(tmp_path, script)
    assert child.returncode == 0, child.stderr
    settings = settings_in(tmp_path)
    job = codec_job(settings)
    assert take_silence(settings.store, job.key, job.key) is None


def test_who_waits_for_an_evaluation_of_another_process_is_not_silent(tmp_path: Path) -> None:
    script = """
import threading
from orchestrator.execution.job_steps import pass_name

job = next(job for job in settings.jobs.values() if job.passes)
held, told = threading.Event(), []

def hold():
    with store.evaluation_work(job.key, pass_name(job.passes[0], None)):
        held.set()
        time.sleep(6)  # the limit of silence is 2 s

threading.Thread(target=hold).start()
held.wait()
silence.evaluate_job = lambda *arguments: told.append("evaluated")
silence.evaluate_watched(settings, job, job.passes[0], lambda metrics: told.append(metrics))
assert told[-1] == "evaluated"
assert "waiting for" in told[0]["phase"]
"""
    child = run_child(tmp_path, script)
    assert child.returncode == 0, child.stderr


@pytest.mark.parametrize(
    ("stage", "code"), [("job.stage.inputs[0].path", 0), ("'stages/codec/other'", EXIT_CODE)]
)
def test_who_waits_for_a_download_of_another_process_lives_as_long_as_that_grows(
    stage: str, code: int, tmp_path: Path
) -> None:
    script = f"""
import os
if os.fork() == 0:
    out = store.new({stage})
    for number in range(12):  # a download
        (out / str(number)).write_bytes(b"x")
        time.sleep(0.25)
    os._exit(0)
with watch(store, job, job.key, 1.0):
    os.wait()
"""
    child = run_child(tmp_path, script)
    assert child.returncode == code, child.stderr


def test_who_compares_checksums_lives_as_long_as_files_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    script = """
record = store.verification(job.stage.inputs[0].path)
record.parent.mkdir(parents=True)
with watch(store, job, job.key, 1.0):
    for number in range(12):
        with record.open("a") as file:
            file.write("x")
        time.sleep(0.25)
"""
    child = run_child(tmp_path, script)
    assert child.returncode == 0, child.stderr


def test_the_limit_changes_no_stage_and_must_be_a_time() -> None:
    keys = [
        set(Plan(space, operating_points(space), {}, None).jobs)
        for space in (load_space("smoke"), load_space("smoke", ("resources.silence_s=7",)))
    ]
    assert keys[0] == keys[1]
    for value in ("0", ".inf"):
        with pytest.raises((ValidationError, ValueError), match="silence_s"):
            load_space("smoke", (f"resources.silence_s={value}",))
