"""Jobs that compute nothing and record where Ray put them, for `placements.py`.

    driver: install() --> trials run `run_trial`, the pool is `PlacedPool`, passes use `PlacedStep`
    worker, evaluator, actor of a pass --> a line of placements.jsonl in `directory`

Trials, Ray Train's workers, the pool of evaluators and Ray Data's actors are the real ones; what a
worker or an evaluator makes comes from `instant_jobs`. The GPUs are fake, so no process may ask
torch for one.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import ray
import torch
from ray import train as ray_train

from orchestrator.execution import evaluators
from orchestrator.execution.evaluators import Evaluator, Pool
from orchestrator.execution.features import steps, stream
from orchestrator.execution.features.steps import ComputeStep, ShardRow
from orchestrator.execution.job_steps import Settings
from orchestrator.execution.trials import trial
from orchestrator.plan.jobs import EvaluationPass, Job, PassPart
from orchestrator.plan.resources import kind_of
from tests.benchmarks.instant_jobs import DIRECTORY, SLEEP, InstantBackend
from trainables.training.precompute import ShardModel

PLACEMENTS: Final = "placements.jsonl"


@contextlib.contextmanager
def recorded(process: str, kind: str, job: Job) -> Iterator[None]:
    """Record the node and the GPUs of this process, and how long it had a job.

    Args:
        process: what it is, such as `worker`.
        kind: in `resources.by_kind`.
    """
    context, began = ray.get_runtime_context(), time.time()
    try:
        yield
    finally:
        assigned: dict[str, float] = context.get_assigned_resources()
        row = {
            "process": process,
            "kind": kind,
            "job": job.label,
            "pid": os.getpid(),
            "node": node_name(context.get_node_id()),
            "gpus": [int(gpu) for gpu in context.get_accelerator_ids().get("GPU", [])],
            "share": assigned.get("GPU", 0.0),
            "began": began,
            "ended": time.time(),
        }
        with Path(os.environ[DIRECTORY], PLACEMENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def node_name(node_id: str) -> str:
    """The name of a node of the benchmark: its resource `name:NAME`."""
    (node,) = (node for node in ray.nodes() if node["NodeID"] == node_id)
    (name,) = (name for name in node["Resources"] if name.startswith("name:"))
    return str(name.removeprefix("name:"))


def install() -> None:
    """Let the driver in this process run jobs that record where they are."""
    from orchestrator.execution.trials import tune

    tune.run_trial = run_trial  # type: ignore[attr-defined]
    evaluators.Pool = PlacedPool  # type: ignore[misc]
    stream.ComputeStep = PlacedStep  # type: ignore[attr-defined]


def run_trial(config: Mapping[str, str], settings: Settings) -> None:
    """Run the project's trial with workers that only record."""
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    from orchestrator.execution.backends import train

    # Without a process group, which NCCL refuses to make on fake GPUs.
    train.TorchTrainer = DataParallelTrainer  # type: ignore[attr-defined, assignment]
    train.train_in_worker = train_in_worker
    if config[trial.JOB] == trial.WAIT:
        project_trial(config, settings)
        return
    with recorded("trial", "", settings.jobs[config[trial.JOB]]):
        project_trial(config, settings)


project_trial = trial.run_trial


def train_in_worker(config: dict[str, Any]) -> None:
    """Record this worker; rank 0 commits an empty stage."""
    settings, key = config["settings"], str(config["key"])
    assert isinstance(settings, Settings)
    job = settings.jobs[key]
    with recorded("worker", kind_of(job), job):
        if ray_train.get_context().get_world_rank() == 0:
            with settings.store.work(f"{key}-placed") as (work, lease):
                InstantBackend(settings).train(job, work, lease, lambda metrics: None)
        else:
            time.sleep(float(os.environ[SLEEP]))


class PlacedEvaluator(Evaluator):
    """Records itself and commits empty evaluations."""

    @ray.method
    def evaluate(
        self,
        settings: Settings,
        key: str,
        evaluation_pass: EvaluationPass,
        part: PassPart | None = None,
    ) -> None:
        job = settings.jobs[key]
        with recorded("evaluator", "evaluation", job):
            time.sleep(float(os.environ[SLEEP]))
            InstantBackend(settings).evaluate(job, [evaluation_pass], lambda metrics: None)


class PlacedPool(Pool):
    """Lends evaluators that record themselves."""

    def _start(self, job: str, answerer: str) -> evaluators._Loan:
        evaluators.Evaluator = PlacedEvaluator  # type: ignore[misc]
        return super()._start(job, answerer)


class _Zeros(ShardModel):
    def __init__(self, name: str) -> None:
        self._name = name

    def compute(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {self._name: torch.zeros(len(images), 4)}


class PlacedStep(ComputeStep):
    """Records itself at each shard; text embeddings are computed, on the CPU."""

    def _compute(self, row: ShardRow) -> ShardRow:
        steps.device_of = lambda resources: "cpu"  # type: ignore[attr-defined]
        with recorded("pass actor", "features", self._settings.jobs[row.shard.key]):
            return super()._compute(row)

    def _load(self, job: Job) -> ShardModel:
        return _Zeros("tokens" if job.subject.codec is None else "latents")
