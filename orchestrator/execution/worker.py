"""What runs inside a trial's process: one job, from its inputs in the storage to its outputs there.

    lock work/<key> --> train (backends.py) --> commit stage
                    --> per answerer and data set: evaluate --> commit stage

Every step that is already there is skipped, so a job can be killed anywhere and started again.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.plan.jobs import Job
from orchestrator.storage.provenance import image_counts
from orchestrator.storage.store import Store
from search_spaces import Measurement, Space, Stage

if TYPE_CHECKING:
    from trainables.training.train import Inputs

Progress = Callable[[Mapping[str, Any]], None]
"""Called with `phase`, `step`, `steps`; in a trial it tells Ray Tune."""
REPORT_EVERY_S = 1.0
CURVE = "curve.jsonl"


@dataclass(frozen=True)
class Settings:
    """What a process needs to know to run any job of a sweep; pickled to every worker."""

    space: Space
    storage: str
    jobs: Mapping[str, Job]
    code: Mapping[str, Any]
    """`provenance.code()` of the driver: workers may have no git tree."""

    @property
    def store(self) -> Store:
        """The storage, opened in this process."""
        return Store(self.storage)

    def space_of(self, job: Job) -> Space:
        """The settings of a job: those of its variant."""
        return self.space.of(job.variant)


def run_job(settings: Settings, key: str, progress: Progress) -> None:
    """Run a job; a failure is written to `logs/<key>.log` and raised."""
    job, store = settings.jobs[key], settings.store
    try:
        if job.kind == "world":
            _make(settings, store, job, _world)
        elif job.kind == "benchmark":
            _make(settings, store, job, _benchmark)
        else:
            _train_and_evaluate(settings, store, job, throttled(progress))
    except Exception:
        write_log(store, job, traceback.format_exc())
        raise


def write_log(store: Store, job: Job, text: str) -> str:
    """Append to a job's log; returns its path."""
    name = f"logs/{job.key}.log"
    head = f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {socket.gethostname()} {job.label}\n"
    return store.write(name, (store.read(name) or b"") + (head + text + "\n").encode())


def throttled(progress: Progress) -> Progress:
    """Pass on at most one report a second, and every one that says a stage is made."""
    last = 0.0

    def report(metrics: Mapping[str, Any]) -> None:
        nonlocal last
        if "made" in metrics or time.monotonic() - last >= REPORT_EVERY_S:
            last = time.monotonic()
            progress(metrics)

    return report


def inputs_of(store: Store, job: Job) -> Inputs:
    """The directories of a job's inputs, on this machine."""
    from trainables.training.train import Inputs

    rates = tuple(store.fetch(stage.path) for stage in job.rates)
    own = {name: store.fetch(stage.path) for name, stage in job.inputs.items()}
    return Inputs(**own, rates=rates)


def about(settings: Settings, stage: Stage, seconds: float) -> dict[str, Any]:
    """What a stage's manifest says besides its files."""
    return {
        "spec": dict(stage.spec),
        "inputs": [one.key for one in stage.inputs],
        "seconds": seconds,
        "code": dict(settings.code),
        "hardware": hardware(),
    }


def hardware() -> dict[str, Any]:
    """What this process computes on."""
    found: dict[str, Any] = {"machine": platform.machine(), "cpus": os.cpu_count()}
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text(encoding="utf-8").splitlines() if "model name" in x]
        if names:
            found["cpu"] = names[0].partition(":")[2].strip()
    # The driver has no torch and must not wait for its import.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _make(
    settings: Settings, store: Store, job: Job, write: Callable[[Settings, Job, Path], None]
) -> None:
    """Make a stage that needs no other, unless it is there."""
    with store.work(job.key):
        if store.has(job.stage.path):
            return
        out, began = store.new(job.stage.path), time.monotonic()
        write(settings, job, out)
        store.commit(job.stage.path, out, about(settings, job.stage, time.monotonic() - began))
    store.done_with(job.key)


def _world(settings: Settings, job: Job, out: Path) -> None:
    from trainables.datasets.scenes.write import write_world
    from trainables.tasks import scene_tasks

    data = settings.space.data
    counts = image_counts(data)
    write_world(
        out,
        scene_tasks(settings.space.tasks),
        size=data.size,
        seed=data.seed,
        n_train=counts["train"],
        n_val=counts["val"],
        n_test=counts["test"],
        n_episodes=data.episodes,
    )


def _benchmark(settings: Settings, job: Job, out: Path) -> None:
    from trainables.datasets.benchmarks.write import write_benchmark

    assert job.benchmark is not None
    data = settings.space.data
    write_benchmark(job.benchmark, data.size, data.max_unreadable, out)


def _train_and_evaluate(settings: Settings, store: Store, job: Job, progress: Progress) -> None:
    from orchestrator.execution import backends

    backend = backends.choose(settings)
    with store.work(job.key) as work:
        if not store.has(job.stage.path):
            backend.train(job, work, progress)
        progress({"made": job.key, "phase": "trained", "step": 1, "steps": 1})
        left = [one for one in job.evaluations if not store.has(one[1].path)]
        if left:
            backend.evaluate(job, left, progress)
    store.done_with(job.key)


def train(settings: Settings, store: Store, job: Job, out: Path, context: Any) -> None:
    """Train a codec or an operating point in this process, with whatever context."""
    from trainables.training.train import train_codec, train_point, train_shared_neck

    inputs = inputs_of(store, job)
    if job.kind == "neck":
        assert job.point is not None
        train_shared_neck(settings.space_of(job), job.point, inputs, out, context)
    elif job.point is not None:
        train_point(settings.space_of(job), job.point, inputs, out, context)
    else:
        assert job.codec is not None
        assert job.lmbda is not None
        train_codec(job.codec, job.lmbda, inputs, out, context)


def commit_trained(settings: Settings, store: Store, job: Job, out: Path, curve: Path) -> None:
    """Make what a training wrote, and its curve, the stage."""
    if curve.exists():
        shutil.copy(curve, out / CURVE)
    seconds = json.loads((out / "info.json").read_text(encoding="utf-8"))["seconds"]
    store.commit(job.stage.path, out, about(settings, job.stage, seconds))


def evaluate(
    settings: Settings,
    job: Job,
    measurement: Measurement,
    stage: Stage,
    device: str,
    progress: Progress,
) -> None:
    """Measure an operating point in this process and commit the evaluation."""
    from trainables.evaluation import evaluate_point
    from trainables.training.train import Inputs

    assert job.point is not None
    store = settings.store
    point_dir = store.fetch(job.stage.path)
    codec, text = job.inputs.get("codec"), stage.inputs[2:]
    inputs = Inputs(
        world=store.fetch(stage.inputs[1].path),
        codec=None if codec is None else store.fetch(codec.path),
        text=store.fetch(text[0].path) if text else None,
    )

    def tell(share: float) -> None:
        progress({"phase": "evaluate", "step": round(100 * share), "steps": 100})

    space = settings.space_of(job)
    with store.evaluation_work(job.key, stage.key) as work:
        if store.has(stage.path):
            return
        out, began = store.new(stage.path), time.monotonic()
        evaluate_point(space, job.point, measurement, inputs, point_dir, out, work, device, tell)
        store.commit(stage.path, out, about(settings, stage, time.monotonic() - began))
