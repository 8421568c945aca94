"""Runs one job in the process of its Tune trial, from stored inputs to stored outputs.

    lock work/<key> --> the back end trains --> stage
                    --> per MLLM and benchmark: the back end evaluates --> stage

Every step whose stage is complete is skipped, so a job can be killed at any moment and started
again.
"""

from __future__ import annotations

import contextlib
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from orchestrator.execution.job_steps import Json, Progress, Settings, provenance_of, write_log
from orchestrator.execution.silence import watch
from orchestrator.plan.jobs import Job
from orchestrator.storage.lease import Lease
from orchestrator.storage.outage import patiently
from orchestrator.storage.provenance import image_counts
from orchestrator.storage.store import Store
from search_spaces import Measurement, Space, Stage

REPORT_EVERY_S = 1.0


class Backend(Protocol):
    """Where a job is trained and evaluated: in this process or in workers."""

    def train(self, job: Job, work: Path, lease: Lease, progress: Progress) -> None:
        """Train and commit the job's stage, continuing from the last checkpoint.

        Args:
            work: the job's working directory.
            lease: of that directory.

        Raises:
            LeaseLostError: another process trains it by now.
        """
        ...

    def evaluate(
        self, job: Job, evaluations: Sequence[tuple[Measurement, Stage]], progress: Progress
    ) -> None:
        """Evaluate, and commit the stage of each evaluation."""
        ...


def run_job(
    settings: Settings, key: str, open_backend: Callable[[], Backend], progress: Progress
) -> None:
    """Run a job; a failure is written to `logs/<key>.log` and raised.

    Args:
        key: of the job.
        open_backend: called where there is something to train or evaluate; worlds and benchmarks
            are made in this process.
        progress: called at most once a second, and whenever a stage is complete.
    """
    job, store = settings.jobs[key], settings.store
    try:
        if job.kind == "world":
            _make(settings, store, job, partial(_write_world, settings.space))
        elif job.kind == "benchmark":
            _make(settings, store, job, partial(_write_benchmark, settings.space, job))
        else:
            _train_and_evaluate(store, job, open_backend(), throttled(progress))
    except Exception:
        text = traceback.format_exc()
        # Another try that began while the storage is away would fail, too.
        with contextlib.suppress(Exception):
            patiently(lambda: store.exists("logs"))
        write_log(store, job, text)
        raise


def throttled(progress: Progress) -> Progress:
    """Pass on at most one report a second, and every report of a complete stage."""
    last = 0.0

    def report(metrics: Json) -> None:
        nonlocal last
        if "made" in metrics or time.monotonic() - last >= REPORT_EVERY_S:
            last = time.monotonic()
            progress(metrics)

    return report


def _make(settings: Settings, store: Store, job: Job, write: Callable[[Path], None]) -> None:
    """Make a stage that has no inputs, unless it is complete."""
    with store.work(job.key) as (_, lease):
        if not store.has(job.stage.path):
            out, began = store.new(job.stage.path), time.monotonic()
            with watch(store, job, job.stage.key, settings.space.resources.silence_s):
                write(out)
            seconds = time.monotonic() - began
            lease.check()
            store.commit(job.stage.path, out, provenance_of(settings, job.stage, seconds))
        store.remove_work(job.key)


def _write_world(space: Space, out: Path) -> None:
    from trainables.datasets.scenes.write import write_world  # imports torch
    from trainables.tasks import scene_tasks

    counts = {f"n_{split}": count for split, count in image_counts(space.data).items()}
    data, tasks = space.data, scene_tasks(space.tasks)
    write_world(out, tasks, size=data.size, seed=data.seed, n_episodes=data.episodes, **counts)


def _write_benchmark(space: Space, job: Job, out: Path) -> None:
    from trainables.datasets.benchmarks.write import write_benchmark  # imports torch

    assert job.subject.benchmark is not None
    write_benchmark(job.subject.benchmark, space.data.size, space.data.max_unreadable, out)


def _train_and_evaluate(store: Store, job: Job, backend: Backend, progress: Progress) -> None:
    with store.work(job.key) as (work, lease):
        if not store.has(job.stage.path):
            backend.train(job, work, lease, progress)
        host = socket.gethostname()
        progress({"made": job.key, "phase": "trained", "step": 1, "steps": 1, "host": host})
        missing = [(m, stage) for m, stage in job.evaluations if not store.has(stage.path)]
        if missing:
            backend.evaluate(job, missing, progress)
        store.remove_work(job.key)
