"""The log of a job: it hides no failure, and no secret gets into it."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

import trainables.evaluation.evaluate
from orchestrator.execution import job_run
from orchestrator.execution.job_run import run_job, throttled
from orchestrator.execution.job_steps import (
    Settings,
    accumulation_factor,
    write_log,
)
from orchestrator.execution.silence import evaluate_watched
from orchestrator.plan.jobs import Plan
from orchestrator.storage import lease
from orchestrator.storage.files import StoreError
from orchestrator.storage.process import Process
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points
from tests.orchestrator.waiting import wait_until


def refuse(*arguments: object) -> None:
    raise NotImplementedError


class NoBackend:
    """Neither trains nor evaluates."""

    train = staticmethod(refuse)
    evaluate = staticmethod(refuse)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    space = load_space("smoke")
    plan = Plan(space, operating_points(space), {}, Store(str(tmp_path)))
    return Settings(space, str(tmp_path), plan.jobs, {})


def test_a_log_that_cannot_be_written_does_not_hide_the_failure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = next(job for job in settings.jobs.values() if job.kind == "codec")

    def refuse(*arguments: object) -> str:
        raise OSError("full")

    def fail() -> None:
        monkeypatch.setattr(Store, "write", refuse)
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_job(settings, job.key, fail, lambda metrics: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["codec", "scenes"])
def test_a_job_that_another_process_has_shows_what_it_waits_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(lease, "WAIT_IS_SAID_S", 0.1)
    job = next(job for job in settings.jobs.values() if job.kind == kind)
    phases: list[str] = []

    def run() -> None:
        with contextlib.suppress(NotImplementedError):
            backend = NoBackend()
            run_job(settings, job.key, lambda: backend, lambda m: phases.append(str(m["phase"])))

    thread = threading.Thread(target=run)
    with settings.store.work(job.key) as (_, held):
        monkeypatch.setattr(settings.store.__class__, "has", lambda *stage: False)
        monkeypatch.setattr(job_run, "_write_scenes", refuse)
        thread.start()
        wait_until(lambda: bool(phases), 30)
        held.check()
    thread.join(30)
    waited_for = f"waiting for {Process.current()}, which works on it"
    assert phases == [waited_for, "starting"], "what it waited for is over"


def test_the_first_report_of_a_phase_is_passed_on_at_once() -> None:
    """Nothing more is reported while a job waits for workers."""
    told: list[object] = []
    report = throttled(lambda metrics: told.append(metrics["phase"]))
    for phase in ("train", "train", "trained", "waiting for workers", "waiting for workers"):
        report({"phase": phase, "step": 0, "steps": 0})
    assert told == ["train", "trained", "waiting for workers"]


@pytest.mark.parametrize("linked", ["the log", "its directory"])
def test_a_log_that_is_a_link_copies_no_file_of_this_user(
    settings: Settings, tmp_path: Path, linked: str
) -> None:
    job = next(iter(settings.jobs.values()))
    home, logs = tmp_path / "home", tmp_path / "logs"
    home.mkdir()
    (home / f"{job.key}.log").write_text("private")
    if linked == "the log":
        logs.mkdir()
        (logs / f"{job.key}.log").symlink_to(home / f"{job.key}.log")
    else:
        logs.symlink_to(home)
    write_log(settings.store, job, "a failure")
    assert (home / f"{job.key}.log").read_text() == "private"
    if linked == "the log":
        text = (settings.store.read(f"logs/{job.key}.log") or b"").decode()
        assert "a failure" in text
        assert "private" not in text


@pytest.mark.parametrize("text", [b"many", b"0", b"-1", b"\xff", b"9" * 5000])
def test_a_damaged_factor_is_an_error_that_says_what_to_delete(
    settings: Settings, text: bytes
) -> None:
    settings.store.write("work/key/accumulation_factor.txt", text)
    with pytest.raises(StoreError, match=r"accumulation_factor.txt .*delete"):
        accumulation_factor(settings.store, "key")


def test_secrets_do_not_get_into_a_log(settings: Settings) -> None:
    job = next(iter(settings.jobs.values()))
    write_log(settings.store, job, "cannot read https://host/x.parquet?sig=abc")
    text = (settings.store.read(f"logs/{job.key}.log") or b"").decode()
    assert "https://host/x.parquet?***" in text
    assert "abc" not in text


def test_a_try_ends_when_the_storage_is_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended before, it would be tried again at once, and fail again, until no try is left."""
    job = next(job for job in settings.jobs.values() if job.kind == "codec")
    exists, asked = Store.exists, 0

    def answer_at_the_third_time(store: Store, name: str) -> bool:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise OSError("away")
        return exists(store, name)

    def fail() -> None:
        monkeypatch.setattr(Store, "exists", answer_at_the_third_time)
        raise OSError("away")

    monkeypatch.setattr("orchestrator.storage.outage.LOOK_S", 0.0)
    with pytest.raises(OSError, match="away"):
        run_job(settings, job.key, fail, lambda metrics: None)  # type: ignore[arg-type]
    assert asked == 3
    assert settings.store.read(f"logs/{job.key}.log") is not None


@pytest.mark.parametrize(
    ("gpus", "device", "mllm_gpus"),
    [(0, "cpu", 1), (0.25, "cuda", 1), (1, "cuda", 1), (3, "cuda", 3)],
)
def test_an_evaluation_gets_the_device_and_the_gpus_that_it_asks_for(
    gpus: float, device: str, mllm_gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_kind = f"{{evaluation: {{gpus_per_worker: {gpus}}}}}"
    space = load_space("smoke", [f"resources={{workers_per_point: 1, by_kind: {by_kind}}}"])
    plan = Plan(space, operating_points(space), {}, Store(str(tmp_path)))
    settings = Settings(space, str(tmp_path), plan.jobs, {})
    job = next(job for job in settings.jobs.values() if job.passes)

    class EvaluatedError(Exception):
        pass

    def evaluate_point(*arguments: object) -> None:
        assert arguments[5] == device
        assert arguments[8] == mllm_gpus
        raise EvaluatedError

    monkeypatch.setattr(trainables.evaluation.evaluate, "evaluate_point", evaluate_point)
    monkeypatch.setattr(Store, "fetch", lambda store, stage: tmp_path)
    with pytest.raises(EvaluatedError):
        evaluate_watched(settings, job, job.passes[0], lambda metrics: None)
