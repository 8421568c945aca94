"""The log of a job: it hides no failure, and no secret gets into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.execution.job_run import run_job
from orchestrator.execution.job_steps import Settings, write_log
from orchestrator.plan.jobs import Plan
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points


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
