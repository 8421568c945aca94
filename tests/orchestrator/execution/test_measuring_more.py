"""A finished sweep with more test images, episodes or tasks measures these and trains nothing."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.execution.backends.local import LocalBackend
from orchestrator.execution.job_run import run_job
from orchestrator.execution.job_steps import Settings
from search_spaces import Stage
from tests.orchestrator.models import settings_of

SPACE = (
    *("scenarios=[]", "baselines=[uncompressed, reconstruction]", "codecs.0.lambdas=[0.02]"),
    *("data.train=8", "data.val=4", "data.test=4", "data.episodes=2"),
)


def run(settings: Settings) -> None:
    done: set[str] = set()
    while left := [job for job in settings.jobs.values() if job.key not in done]:
        job = next(job for job in left if done.issuperset(job.needs))
        run_job(settings, job.key, lambda: LocalBackend(settings), lambda metrics: None)
        done.add(job.key)


def made(settings: Settings) -> dict[str, set[str]]:
    """Label of each job -> the tasks that it measures."""
    return {
        job.label: {measurement.task for measurement, _ in job.evaluations}
        for job in settings.jobs.values()
    }


def answers(settings: Settings, stage: Stage) -> dict[str, str]:
    rows = pq.read_table(Path(settings.storage) / stage.path / "samples.parquet").to_pylist()
    return {row["sample_id"]: row["answer"] for row in rows}


def test_only_what_is_new_is_measured_and_in_one_pass(
    tmp_path: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = ("uncompressed", "hyperprior reconstruction lambda=0.02 seed=0")
    first = settings_of(tmp_path, models, *SPACE, "tasks=[vqa]")
    assert made(first) == {
        "training images": set(),
        "test images": set(),
        "hyperprior codec lambda=0.02": set(),
        **{point: {"vqa"} for point in points},
    }
    run(first)
    monkeypatch.setattr(LocalBackend, "train", None)

    # Another answer to `evaluation.batch_size` and the like is no reason to do anything.
    again = ("evaluation.batch_size=3", "evaluation.examples=0", "data.shard_size=5")
    assert made(settings_of(tmp_path, models, *SPACE, "tasks=[vqa]", *again)) == {}

    more = settings_of(tmp_path, models, *SPACE, "tasks=[fewshot, rec, vqa]")
    assert made(more) == {"test episodes": set(), **{point: {"fewshot", "rec"} for point in points}}
    assert [len(job.passes) for job in more.jobs.values() if job.evaluations] == [1, 1]
    run(more)

    larger = settings_of(tmp_path, models, *SPACE, "tasks=[fewshot, rec, vqa]", "data.test=6")
    assert made(larger) == {"test images": set(), **{point: {"rec", "vqa"} for point in points}}
    run(larger)
    assert made(settings_of(tmp_path, models, *SPACE, "tasks=[vqa]", "data.test=6")) == {}
    of_fewer, of_more = (
        next(
            answers(settings, stage)
            for job in settings.jobs.values()
            for measurement, stage in job.evaluations
            if job.label == points[1] and measurement.task == "rec"
        )
        for settings in (more, larger)
    )
    assert len(of_fewer) == 4
    assert of_fewer.items() <= of_more.items(), "the first test images are the same"
    assert len(of_more) == 6
