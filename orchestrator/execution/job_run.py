"""Runs one job in the process of its Tune trial, from stored inputs to stored outputs.

    lock work/<key> --> the back end trains --> stage
                    --> per MLLM and data set: the back end evaluates --> a stage per task

Every step whose stage is complete is skipped, so a job can be killed at any moment and started
again.
"""

from __future__ import annotations

import contextlib
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from orchestrator.execution.fit_nodes import wait_until_fit
from orchestrator.execution.job_steps import (
    Json,
    Progress,
    Settings,
    provenance_of,
    waits_in,
    write_log,
)
from orchestrator.execution.silence import watch
from orchestrator.plan.jobs import EvaluationPass, Job
from orchestrator.storage.lease import Lease
from orchestrator.storage.outage import patiently
from orchestrator.storage.provenance import image_counts
from orchestrator.storage.store import Store
from search_spaces import Space
from trainables.datasets.worlds.world import Split

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

    def evaluate(self, job: Job, passes: Sequence[EvaluationPass], progress: Progress) -> None:
        """Make passes over test images, and commit the stages of their evaluations."""
        ...


def run_job(
    settings: Settings, key: str, open_backend: Callable[[], Backend], progress: Progress
) -> None:
    """Run a job; a failure is written to `logs/<key>.log` and raised.

    Args:
        key: of the job.
        open_backend: called where there is something to train or evaluate; scenes, samples and
            benchmarks are made in this process.
        progress: called at most once a second, and whenever a stage is complete.
    """
    job, store = settings.jobs[key], settings.store
    try:
        wait_until_fit(settings)
        write = {
            "scenes": partial(_write_scenes, settings.space, job),
            "samples": partial(_write_samples, settings.space, store, job),
            "benchmark": partial(_write_benchmark, settings.space, job),
        }.get(job.kind)
        if write is not None:
            _make(settings, store, job, write, progress)
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
    """Pass on at most one report a second, and the first of a phase and of a complete stage."""
    last, phase = 0.0, None

    def report(metrics: Json) -> None:
        nonlocal last, phase
        is_due = time.monotonic() - last >= REPORT_EVERY_S
        if "made" in metrics or metrics["phase"] != phase or is_due:
            last, phase = time.monotonic(), metrics["phase"]
            progress(metrics)

    return report


def _make(
    settings: Settings,
    store: Store,
    job: Job,
    write: Callable[[Path], None],
    progress: Progress,
) -> None:
    """Make a stage of images or samples, unless it is complete."""
    with store.work(job.key, waits_in(progress)) as (_, lease):
        if not store.has(job.stage.path):
            out, began = store.new(job.stage.path), time.monotonic()
            with watch(store, job, job.stage.key, settings.space.resources.silence_s):
                write(out)
            seconds = time.monotonic() - began
            lease.check()
            store.commit(job.stage.path, out, provenance_of(settings, job, job.stage, seconds))
        store.remove_work(job.key)


def _write_scenes(space: Space, job: Job, out: Path) -> None:
    from trainables.datasets.made import world_of
    from trainables.datasets.worlds.write import write_world  # imports torch
    from trainables.tasks import scene_tasks

    counts = {**image_counts(space.data), "episodes": space.data.episodes}
    made = {"train_images": ("train", "val"), "test_images": ("test",)}
    sizes = {f"n_{name}": counts[name] for name in made.get(job.stage.kind, ("episodes",))}
    data = space.data
    tasks = scene_tasks(data.kind, world_of(data))
    write_world(out, tasks, size=data.size, seed=data.seed, **sizes)


def _write_samples(space: Space, store: Store, job: Job, out: Path) -> None:
    from trainables.datasets.images.convert import write_samples_of_stored
    from trainables.datasets.made import world_of
    from trainables.datasets.worlds.write import write_scene_samples
    from trainables.tasks import TASKS

    tasks = {name: TASKS.get(name) for name in sorted(job.subject.tasks)}
    read = job.inputs["images"]
    images = store.fetch(read.path)
    if not space.data.is_made:
        write_samples_of_stored(images, out, tasks)
        return
    world = world_of(space.data)
    splits: tuple[Split, ...] = ("test",) if read.kind == "test_images" else ("train", "val")
    for split in splits:
        write_scene_samples(world, images, out, split, tasks, space.data.seed)


def _write_benchmark(space: Space, job: Job, out: Path) -> None:
    from trainables.datasets.benchmarks.write import write_benchmark  # imports torch

    assert job.subject.benchmark is not None
    write_benchmark(job.subject.benchmark, space.data.size, space.data.max_unreadable, out)


def _train_and_evaluate(store: Store, job: Job, backend: Backend, progress: Progress) -> None:
    with store.work(job.key, waits_in(progress)) as (work, lease):
        if not store.has(job.stage.path):
            backend.train(job, work, lease, progress)
        host = socket.gethostname()
        progress({"made": job.key, "phase": "trained", "step": 1, "steps": 1, "host": host})
        if missing := _missing(store, job.passes):
            backend.evaluate(job, missing, progress)
        store.remove_work(job.key)


def _missing(store: Store, passes: Sequence[EvaluationPass]) -> list[EvaluationPass]:
    """The passes with the evaluations that are not complete."""
    missing = []
    for evaluation_pass in passes:
        evaluations = [e for e in evaluation_pass.evaluations if not store.has(e[1].path)]
        if evaluations:
            missing.append(replace(evaluation_pass, evaluations=tuple(evaluations)))
    return missing
