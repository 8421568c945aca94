"""The one place that knows where training happens; the training functions do not.

workers_per_point == 0:  Local   in the trial's own process, checkpoints in work/<key>/
workers_per_point >= 1:  Train   TorchTrainer, checkpoints in train/<key>/ of the storage;
                                 evaluation in actors (evaluators.py)
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.execution import worker as trial
from orchestrator.execution.evaluators import lent
from orchestrator.execution.worker import CURVE, Progress, Settings
from orchestrator.plan.jobs import Job
from orchestrator.plan.resources import worker_resources
from orchestrator.storage.store import Store
from search_spaces import Measurement, Stage

if TYPE_CHECKING:
    import torch
    from torch import nn


CONTROLLER_FAILURES = 3
Evaluation = tuple[Measurement, Stage]


class GaveUpError(RuntimeError):
    """Training failed as often as it may; trying it once more would be against the settings."""


class Backend(Protocol):
    """Trains and evaluates a job."""

    def train(self, job: Job, work: Path, progress: Progress) -> None:
        """Train and commit the job's stage, continuing from the last checkpoint."""
        ...

    def evaluate(self, job: Job, wanted: Sequence[Evaluation], progress: Progress) -> None:
        """Evaluate, and commit the stage of each evaluation."""
        ...


def choose(settings: Settings) -> Backend:
    """The backend that the space's resources ask for."""
    return Train(settings) if settings.space.resources.workers_per_point else Local(settings)


def warm_up(settings: Settings) -> None:
    """Import what any job will need (ten seconds and more of a core)."""
    import trainables.evaluation
    import trainables.training.train

    assert trainables.evaluation
    assert trainables.training.train
    use_threads(settings)


class Local:
    """In this process, with the threads that the trial asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        use_threads(settings)

    def train(self, job: Job, work: Path, progress: Progress) -> None:
        """See `Backend`."""
        from trainables.training.context import LocalContext

        store = self._settings.store
        if store.remote and not (work / "checkpoint").exists():
            store.load_work(job.key, "checkpoint", work / "checkpoint")

        def tell(metrics: Mapping[str, float]) -> None:
            told = {"phase": "train", "step": metrics["step"], "steps": metrics["steps"]}
            if "val_loss" in metrics:
                told["val_loss"] = metrics["val_loss"]
            progress(told)

        class Mirrored(LocalContext):
            """Also keeps checkpoints where another node can continue from them."""

            def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
                super().report(metrics, checkpoint)
                if checkpoint is not None:
                    store.save_work(job.key, work / "checkpoint", "checkpoint")

        kind = Mirrored if store.remote else LocalContext
        context = kind(work, tell, device_of(self._settings))
        out = store.new(job.stage.path)
        trial.train(self._settings, store, job, out, context)
        trial.commit_trained(self._settings, store, job, out, work / CURVE)

    def evaluate(self, job: Job, wanted: Sequence[Evaluation], progress: Progress) -> None:
        """See `Backend`."""
        device = device_of(self._settings)
        for measurement, stage in wanted:
            trial.evaluate(self._settings, job, measurement, stage, device, progress)


class Train:
    """In workers of a TorchTrainer; the trial's process only waits for them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def train(self, job: Job, work: Path, progress: Progress) -> None:
        """See `Backend`."""
        from ray import train
        from ray.train.torch import TorchTrainer

        settings, resources = self._settings, self._settings.space.resources
        store = settings.store
        storage: dict[str, Any] = {"storage_path": f"{store.uri}/train"}
        if store.remote:
            from pyarrow.fs import FSSpecHandler, PyFileSystem

            storage["storage_filesystem"] = PyFileSystem(FSSpecHandler(store.fs))
            storage["storage_path"] = store.path("train")
        # Without the second limit, workers that can never start are asked for again for ever.
        failure_config: Any = train.FailureConfig
        failures = failure_config(
            max_failures=resources.max_failures, controller_failure_limit=CONTROLLER_FAILURES
        )
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"settings": settings, "key": job.key},
            scaling_config=train.ScalingConfig(
                num_workers=resources.workers_per_point,
                use_gpu=resources.gpus_per_worker > 0,
                resources_per_worker=worker_resources(settings.space),
            ),
            run_config=train.RunConfig(
                # From the key alone: a later driver finds the run and continues it.
                name=job.key,
                failure_config=failures,
                checkpoint_config=train.CheckpointConfig(num_to_keep=1),
                callbacks=[_tell_tune()],
                **storage,
            ),
        )
        try:
            trainer.fit()
        except train.TrainingFailedError as error:
            # Ray Train has tried it `max_failures` times again already.
            failures = getattr(error, "worker_failures", {}) or {0: error}
            text = str(next(iter(failures.values()))).strip().splitlines()
            raise GaveUpError(text[-1] if text else "a worker died") from error
        if store.fs.exists(store.path("train", job.key)):
            store.fs.rm(store.path("train", job.key), recursive=True)

    def evaluate(self, job: Job, wanted: Sequence[Evaluation], progress: Progress) -> None:
        """See `Backend`; side by side, as many as there were workers."""
        import ray

        progress({"phase": "evaluate", "step": 0, "steps": len(wanted)})

        def one(evaluation: Evaluation) -> None:
            measurement, stage = evaluation
            with lent(job.key, stage.key, measurement.answerer) as evaluator:
                ray.get(evaluator.evaluate.remote(job.key, measurement, stage))

        with ThreadPoolExecutor(self._settings.space.resources.workers_per_point) as threads:
            for number, _ in enumerate(threads.map(one, wanted), 1):
                progress({"phase": "evaluate", "step": number, "steps": len(wanted)})


def _tell_tune() -> Any:
    from ray.tune.integration.ray_train import TuneReportCallback

    return TuneReportCallback()  # type: ignore[no-untyped-call]


def _worker(config: Mapping[str, Any]) -> None:
    """What every Ray Train worker runs."""
    settings: Settings = config["settings"]
    job = settings.jobs[config["key"]]
    store = settings.store
    use_threads(settings)
    with tempfile.TemporaryDirectory() as scratch:
        context = TrainContext(_report_every(settings, job), Path(scratch))
        out = store.new(job.stage.path) if context.rank == 0 else Path(scratch) / "out"
        trial.train(settings, store, job, out, context)
        if context.rank == 0:
            trial.commit_trained(settings, store, job, out, context.curve)


class TrainContext:
    """`trainables.training.context.Context` on top of Ray Train.

    Args:
        report_every: steps between two reports that carry no checkpoint; the workers meet at each
            report, so all must leave out the same ones.
        scratch: a local directory that lives as long as the worker.
    """

    def __init__(self, report_every: int, scratch: Path) -> None:
        from ray import train
        from ray.train.torch import get_device

        where = train.get_context()
        self.rank: int = where.get_world_rank()
        self.world_size: int = where.get_world_size()
        self.device: torch.device = get_device()
        self.curve = scratch / CURVE
        self._every = report_every
        self._latest: Path | None = None
        if (kept := train.get_checkpoint()) is not None:
            self._latest = Path(kept.to_directory(str(scratch / "checkpoint")))
            if (self._latest / CURVE).exists():
                self.curve.write_bytes((self._latest / CURVE).read_bytes())

    def prepare(self, module: nn.Module) -> nn.Module:
        """Wrap in DistributedDataParallel where there are several workers."""
        from ray.train.torch import prepare_model

        prepared: nn.Module = prepare_model(module)
        return prepared

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Append to the curve (rank 0) and, at the agreed steps, tell Ray Train."""
        from ray import train

        assert all(math.isfinite(value) for value in metrics.values()), metrics
        if self.rank == 0:
            with self.curve.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dict(metrics), allow_nan=False) + "\n")
        step, steps = int(metrics["step"]), int(metrics["steps"])
        if step % self._every and step != steps:
            assert checkpoint is None, f"a checkpoint at step {step}, not every {self._every}"
            return
        short = {"phase": "train", "step": step, "steps": steps}
        if checkpoint is None:
            train.report(short)
            return
        (checkpoint / CURVE).write_bytes(self.curve.read_bytes())
        train.report(short, checkpoint=train.Checkpoint.from_directory(str(checkpoint)))

    def latest_checkpoint(self) -> Path | None:
        """What Ray Train kept last, as a local directory."""
        return self._latest


def _report_every(settings: Settings, job: Job) -> int:
    """A divisor of the checkpoint interval, about a tenth of it but at least 10 steps."""
    if job.point is None:
        assert job.codec is not None
        every = job.codec.train.checkpoint_every
    else:
        space, point = settings.space_of(job), job.point
        training = space.d1 if job.kind == "neck" else space.training(point.scenario)
        every = 1 if training is None else training.checkpoint_every
    return next(n for n in range(min(every, max(10, every // 10)), every + 1) if every % n == 0)


def device_of(settings: Settings) -> str:
    """Where models run."""
    return "cuda" if settings.space.resources.gpus_per_worker > 0 else "cpu"


def use_threads(settings: Settings) -> None:
    """Let this process compute with as many threads as it asked for CPUs."""
    import torch

    threads = settings.space.resources.cpus_per_worker
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)


__all__ = ["Backend", "Local", "Store", "Train", "TrainContext", "choose"]
