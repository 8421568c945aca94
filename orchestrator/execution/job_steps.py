"""The steps of a job, in the caller's process: train, commit, evaluate.

inputs in the storage --train_job--> a directory --commit_training--> stage
stage + test images --evaluate_job--> a stage per task
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.execution.devices import device_of, mllm_gpus
from orchestrator.execution.mirror import CURVE, MirroredShards
from orchestrator.plan.jobs import EvaluationPass, Job, PassPart
from orchestrator.plan.subjects import subject_fields
from orchestrator.storage.files import StoreError
from orchestrator.storage.lease import Lease, Waits
from orchestrator.storage.provenance import ACCUMULATION_FACTOR
from orchestrator.storage.store import Store
from search_spaces import Measurement, Space, Stage
from search_spaces.settings.secrets import without_secrets
from search_spaces.specs.evaluation import EVALUATION
from search_spaces.specs.stage import VERSIONS

if TYPE_CHECKING:  # torch takes seconds, and the driver does not need it
    from trainables.evaluation.evaluate import PointFiles, TaskEvaluation
    from trainables.points.inputs import Inputs
    from trainables.training.context import Context

log = logging.getLogger(__name__)

Json = Mapping[str, object]
Progress = Callable[[Json], None]
"""Called with `phase` (str), `step` and `steps` (numbers), and `made` (a job's key) once its stage
is complete; from the process that computes also with `host` (the machine's name), and while
training with `metrics` (name to number) of the step."""
OUT_OF_MEMORY_FACTOR = 2


def training_report(metrics: Mapping[str, float]) -> dict[str, object]:
    """What a training reports of a step, as `Progress` takes it."""
    step = {name: int(metrics[name]) for name in ("step", "steps")}
    rest = {name: value for name, value in metrics.items() if name not in step}
    return {"phase": "train", **step, "metrics": rest, "host": socket.gethostname()}


@dataclass(frozen=True)
class Settings:
    """What a process needs to run any job of a sweep; pickled to every worker.

    Attributes:
        space: what is swept.
        storage: URI of the storage.
        jobs: by key; those of a whole sweep are `PickledJobs`.
        code: `provenance.code()` of the driver: workers may have no git tree.
        fit_nodes: ids of the nodes that the driver has found fit before the work (fit_nodes.py);
            None: any may work.
    """

    space: Space
    storage: str
    jobs: Mapping[str, Job]
    code: Json
    fit_nodes: frozenset[str] | None = None

    @property
    def store(self) -> Store:
        """The storage, opened in this process."""
        return Store(self.storage)

    def only(self, job: Job) -> Settings:
        """The settings for a process that runs no other job."""
        return replace(self, jobs={job.key: job})

    def space_of(self, job: Job) -> Space:
        """The space with the settings of the job's variant."""
        return self.space.of(job.subject.variant)


def waits_in(progress: Progress) -> Waits:
    """Shows what a process waits for as the phase of its job, and that it has got it."""
    host = socket.gethostname()
    return lambda line: progress({"phase": line or "starting", "step": 0, "steps": 0, "host": host})


def write_log(store: Store, job: Job, text: str) -> str:
    """Append to a job's log, unless the storage is away; returns its path.

    A link or pipe in its place is replaced.
    """
    name = f"logs/{job.key}.log"
    head = f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {socket.gethostname()} {job.label}\n"
    entry = head + without_secrets(text) + "\n"
    try:
        store.write(name, _log_so_far(store, name) + entry.encode())
    except Exception as error:  # each storage has its own; the failure to be logged matters more
        log.warning("the log of %s was not written (%s): %s", job.key, error, entry)
    return store.path(name)


def _log_so_far(store: Store, name: str) -> bytes:
    try:
        return store.read(name) or b""
    except StoreError:
        return b""


def inputs_of(store: Store, job: Job) -> Inputs:
    """The directories of a job's inputs on this machine."""
    from trainables.points.inputs import Inputs

    stages = (*job.inputs.values(), *job.rates)
    directories = store.fetch_all([stage.path for stage in stages])
    named = dict(zip(job.inputs, directories, strict=False))
    return Inputs(**named, rates=tuple(directories[len(named) :]))


def provenance_of(settings: Settings, job: Job, stage: Stage, seconds: float) -> dict[str, object]:
    """What a stage's manifest records besides its files.

    Args:
        job: makes the stage.
        seconds: of computing.
    """
    return {
        "spec": dict(stage.spec),
        "inputs": [parent.key for parent in stage.inputs],
        "subject": subject_fields(stage),
        "version": VERSIONS[stage.kind],
        "seconds": seconds,
        "cost": job.costs[stage.key],
        "code": dict(settings.code),
        "hardware": hardware(),
    }


def hardware() -> dict[str, str | int | None]:
    """What this process computes on."""
    about: dict[str, str | int | None] = {"machine": platform.machine(), "cpus": os.cpu_count()}
    info = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    if name is not None:
        about["cpu"] = name[1].strip()
    # The driver has no torch and must not wait for its import.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    return about


def train_job(settings: Settings, store: Store, job: Job, out: Path, context: Context) -> None:
    """Train a codec or an operating point in this process.

    Args:
        out: a directory for what is trained.
        context: receives the reports and keeps the checkpoints.
    """
    from trainables.evaluation.loaded_models import forget_models
    from trainables.training.train import train_codec, train_point

    if context.device.type != "cpu":
        # A process that trains and evaluates in turn: its GPU has not the room for both.
        forget_models()
    inputs = inputs_of(store, job)
    if job.subject.point is not None:
        train_point(settings.space_of(job), job.subject.point, inputs, out, context)
    else:
        assert job.subject.codec is not None
        assert job.subject.lmbda is not None
        train_codec(job.subject.codec, job.subject.lmbda, inputs, out, context)


def commit_training(
    settings: Settings, store: Store, job: Job, out: Path, curve: Path, context: Context
) -> None:
    """Make what a training wrote, and its curve, the stage.

    Args:
        curve: file of the training curve; it may be missing where nothing was trained.
        context: of the training.
    """
    if curve.exists():
        shutil.copy(curve, out / CURVE)
    seconds = json.loads((out / "info.json").read_text(encoding="utf-8"))["seconds"]
    about = provenance_of(settings, job, job.stage, seconds)
    if context.accumulation_factor > 1:
        about[ACCUMULATION_FACTOR] = context.accumulation_factor
    store.commit(job.stage.path, out, about)


def accumulation_factor(store: Store, key: str) -> int:
    """By how much more a job's training is sliced than its settings say; 1 unless memory ran out.

    Args:
        key: of the job.

    Raises:
        StoreError: the file that keeps it is damaged.
    """
    text = store.read(_factor_file(key)) or b"1"
    if re.fullmatch(rb"[1-9]\d{0,8}", text) is None:
        raise StoreError(f"{store.path(_factor_file(key))} holds no number above 0; delete it")
    return int(text)


def slice_more(store: Store, key: str) -> None:
    """Let the next try of a job's training compute with half of the memory for each slice.

    Args:
        key: of the job.
    """
    factor = accumulation_factor(store, key) * OUT_OF_MEMORY_FACTOR
    store.write(_factor_file(key), str(factor).encode())


def _factor_file(key: str) -> str:
    return f"work/{key}/{ACCUMULATION_FACTOR}.txt"


def evaluate_job(
    settings: Settings,
    job: Job,
    evaluation_pass: EvaluationPass,
    work: Path,
    lease: Lease,
    progress: Progress,
    part: PassPart | None = None,
) -> None:
    """Measure an operating point in this process and commit the evaluations of a pass.

    Args:
        work, lease: of `Store.evaluation_work`.
        part: only answer these shards, and keep them for the process that commits; None for all
            that no part has answered.

    Raises:
        LeaseLostError: another process evaluates it by now.
    """
    from trainables.evaluation.evaluate import evaluate_point

    store, space, point = settings.store, settings.space_of(job), job.subject.point
    assert point is not None
    left = [stage for _, stage in evaluation_pass.evaluations if not store.has(stage.path)]
    if not left:
        return
    shards = MirroredShards(store, job.key, work)
    shards.load()
    if part is None:
        shards.take_parts()
    else:
        # Where an evaluation was begun without parts, or its commit failed.
        shards.take(f"evaluation-{evaluation_pass.key}")

    def report(share: float) -> None:
        lease.check()
        shards.save(lease)
        host = socket.gethostname()
        progress({"phase": "evaluate", "step": round(100 * share), "steps": 100, "host": host})

    evaluations = [
        _task_evaluation(store, measurement, stage)
        for measurement, stage in evaluation_pass.evaluations
        if stage in left
    ]
    files = _point_files(store, job, left[0])
    resources = space.resources.of(EVALUATION)
    device, gpus = device_of(resources), mllm_gpus(resources)
    every = None if part is None else (part.index, part.count)
    seconds = evaluate_point(space, point, evaluations, files, work, device, report, every, gpus)
    if part is not None:
        shards.save(lease)
        shards.leave()
        return
    for stage, evaluation in zip(left, evaluations, strict=True):
        lease.check()
        spent = seconds[evaluation.measurement.task]
        store.commit(stage.path, evaluation.out, provenance_of(settings, job, stage, spent))
    shards.leave()


def pass_name(evaluation_pass: EvaluationPass, part: PassPart | None) -> str:
    """What names the working directory, the lease and the loan of a pass, or of a part of it."""
    key = evaluation_pass.key
    return key if part is None else f"{key}-{part.index}-of-{part.count}"


def _task_evaluation(store: Store, measurement: Measurement, stage: Stage) -> TaskEvaluation:
    """What an evaluation reads, and a directory for its result."""
    from trainables.evaluation.evaluate import TaskEvaluation

    images = stage.reads["images"]
    samples = stage.reads.get("samples", images)
    assert isinstance(images, Stage)
    assert isinstance(samples, Stage)
    directories = store.fetch(images.path), store.fetch(samples.path)
    return TaskEvaluation(measurement, *directories, store.new(stage.path))


def _point_files(store: Store, job: Job, evaluation: Stage) -> PointFiles:
    """The directories that a job's operating point is loaded from for an evaluation."""
    from trainables.evaluation.evaluate import PointFiles

    codec, text = job.inputs.get("codec"), evaluation.reads.get("text")
    return PointFiles(
        store.fetch(job.stage.path),
        codec=None if codec is None else store.fetch(codec.path),
        text=store.fetch(text.path) if isinstance(text, Stage) else None,
    )
