"""The back end of `workers_per_point >= 1`: Ray Train's workers train, actors evaluate.

    trial --TorchTrainer--> workers --report, checkpoint--> <storage>/train/<key>/ --> stage
    trial --evaluators.py--> actors --> stages of the evaluations

The trial's process only waits; a point that trains nothing, it makes itself.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import torch
from ray import train
from ray.train._internal.session import get_session
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchTrainer, get_device, prepare_model
from ray.tune.integration.ray_train import TuneReportCallback
from torch import nn

from orchestrator.execution.backends.checkpoint_list import keep_list, mend_list
from orchestrator.execution.backends.drain import LOOK_S, Reminder
from orchestrator.execution.cluster import can_grow, node_ids
from orchestrator.execution.devices import use_threads
from orchestrator.execution.evaluators import Standing, evaluate_in_pool
from orchestrator.execution.failures import Cause, GaveUpError, Tries, host_noted, original
from orchestrator.execution.fit_nodes import wait_until_fit
from orchestrator.execution.job_steps import (
    Json,
    Progress,
    Settings,
    accumulation_factor,
    commit_training,
    pass_name,
    slice_more,
    train_job,
    training_report,
    write_log,
)
from orchestrator.execution.looking import looking
from orchestrator.execution.mirror import CURVE
from orchestrator.execution.silence import failure_of, watch
from orchestrator.plan.jobs import EvaluationPass, Job, PassPart
from orchestrator.plan.resources import LANE_SHARE, resources_of, training_group
from orchestrator.storage.lease import Lease
from orchestrator.storage.outage import patiently
from orchestrator.storage.store import Store
from search_spaces.scenarios import scenario_of
from search_spaces.specs.evaluation import EVALUATION
from trainables.training.context import LocalContext, rewind_curve
from trainables.training.sealing import sealed_step

WAITING: Json = {"phase": "waiting for workers", "step": 0, "steps": 0}
REPORT_EVERY_S = 1.0
PASSED_ON_LOOK_S = 0.05
PASSED_ON_S = 60.0
"""How long a driver that is busy may leave reports where they are."""


def wait_until_passed_on() -> None:
    """Wait until the trial's session has passed on to Ray Tune what workers have reported.

    The session has room for one report. A worker's, which the session takes from a queue, and one
    of this process at the same moment would block it for ever. It takes an empty report, too, but
    passes none on: when it has taken that, it has passed on those before.
    """
    queue = getattr(get_session(), "_inter_actor_queue", None)  # Ray has no public way
    if queue is None:
        return
    queue.put({})
    end = time.monotonic() + PASSED_ON_S
    while not queue.empty() and time.monotonic() < end:
        time.sleep(PASSED_ON_LOOK_S)


class TrainBackend:
    """Trains in workers of a TorchTrainer and evaluates in the sweep's pool of evaluators.

    Args:
        settings: of the sweep.
        reports: makes what passes the workers' reports on to Ray Tune.
    """

    def __init__(
        self, settings: Settings, reports: Callable[[], train.UserCallback] = TuneReportCallback
    ) -> None:
        self._settings, self._reports = settings, reports

    def train(self, job: Job, work: Path, lease: Lease, progress: Progress) -> None:
        """Train and commit the job's stage, continuing from the last checkpoint of Ray Train.

        Lost machines cost no try, nor does waiting for room.

        Raises:
            GaveUpError: workers failed `resources.max_failures` times and once more, or with an
                error that would come again; or they found no room within `ROOM_S`.
            Exception: of a worker that did not reach a file, the storage or the network; the
                runner counts these.
        """
        if trains_nothing(self._settings, job):
            self._make_here(job, work, lease)
            return
        store = self._settings.store
        tries = Tries(self._settings.space.resources.max_failures)
        while True:
            nodes_before = node_ids()
            progress(WAITING)
            lease.check()
            if mended := mend_list(store, job.key):
                write_log(store, job, mended)
            keep = partial(keep_list, store, job.key)
            try:
                with ended_with(lease, job), looking(keep, LOOK_S, f"list of {job.key}"):
                    self._fit(job)
                break
            except train.TrainingFailedError as error:
                failure = failure_of(error, nodes_before, store, job.key, job.key)
                if failure.cause is Cause.UNREACHABLE:
                    raise original(error) from error
                if not tries.again(failure.cause):
                    raise GaveUpError(failure) from error
                patiently(lambda: store.exists("logs"))
                if failure.cause is Cause.OUT_OF_MEMORY:
                    slice_more(store, job.key)
                write_log(store, job, f"tried again: {failure.reason}")

    def _make_here(self, job: Job, work: Path, lease: Lease) -> None:
        """Make the stage of a point that trains nothing: a file or two need no workers."""
        store = self._settings.store
        context = LocalContext(work)
        with watch(store, job, job.stage.key, self._settings.space.resources.silence_s):
            out = store.new(job.stage.path)
            train_job(self._settings, store, job, out, context)
            lease.check()
            commit_training(self._settings, store, job, out, work / CURVE, context)

    def _fit(self, job: Job) -> None:
        """Train; ends when Ray Tune has what the workers have reported."""
        try:
            self._trainer(job).fit()
        finally:
            wait_until_passed_on()

    def _trainer(self, job: Job) -> TorchTrainer:
        """A trainer that continues the job's run, whichever process began it."""
        # Before Train reads it. One more process for each run, which a lone node has no use for.
        has_other_nodes = len(node_ids()) > 1 or can_grow()
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", str(int(has_other_nodes)))
        space = self._settings.space
        ask, workers = training_group(space, job)
        path, filesystem = _storage(self._settings.store)
        return TorchTrainer(
            train_in_worker,
            train_loop_config={"settings": self._settings.only(job), "key": job.key},
            scaling_config=train.ScalingConfig(
                num_workers=workers,
                use_gpu=ask.gpu > 0,
                resources_per_worker=ask.ray_resources(LANE_SHARE),
            ),
            run_config=train.RunConfig(
                # From the key alone: a later driver finds the run and continues it.
                name=job.key,
                storage_path=path,
                storage_filesystem=filesystem,
                failure_config=train.FailureConfig(  # type: ignore[call-arg]  # typed as version 1
                    # `Tries` counts: Train cannot tell a lost machine from a bug, nor a cluster
                    # without room from a worker that dies while it starts.
                    max_failures=0,
                    controller_failure_limit=0,
                ),
                checkpoint_config=train.CheckpointConfig(num_to_keep=1),
                callbacks=[self._reports()],  # type: ignore[list-item]  # typed as version 1
            ),
        )

    def evaluate(self, job: Job, passes: Sequence[EvaluationPass], progress: Progress) -> None:
        """Evaluate in actors: passes side by side, or the parts of each."""
        actors = self._settings.space.resources.of(EVALUATION).processes
        parts = [
            (made, PassPart(index, actors))
            for made in passes
            for index in range(actors)
            if actors > len(passes)
        ]
        if parts:
            self._side_by_side(job, parts, actors, progress)
        self._side_by_side(job, [(made, None) for made in passes], actors, progress)

    def _side_by_side(
        self,
        job: Job,
        parts: Sequence[tuple[EvaluationPass, PassPart | None]],
        actors: int,
        progress: Progress,
    ) -> None:
        """Evaluate parts of passes, or whole ones, in so many actors at a time."""
        told: dict[str, Standing] = {}
        progress(WAITING)

        def evaluate(evaluation_pass: EvaluationPass, part: PassPart | None) -> None:
            report = partial(told.__setitem__, pass_name(evaluation_pass, part))
            evaluate_in_pool(self._settings, job.key, evaluation_pass, report, part)
            report(Standing(1.0))

        threads = ThreadPoolExecutor(actors)
        try:
            left = {threads.submit(evaluate, *part) for part in parts}
            while left:
                done, left = wait(left, REPORT_EVERY_S, FIRST_COMPLETED)
                for future in done:
                    future.result()
                if told:
                    progress(_together([*told.values()], len(parts)))
        finally:
            threads.shutdown(cancel_futures=True)


def _together(told: Sequence[Standing], parts: int) -> Json:
    """How far the parts of an evaluation are, or what all of them that are left wait for."""
    waits = [standing.waits_for for standing in told if standing.share < 1]
    if waits and all(waits):
        return {"phase": waits[0], "step": 0, "steps": 0}
    return {"phase": "evaluate", "step": sum(s.share for s in told), "steps": parts}


@contextlib.contextmanager
def ended_with(lease: Lease, job: Job) -> Iterator[None]:
    """End this process, and so its workers, as soon as another process has taken the lease."""

    def look() -> None:
        if lease.is_taken:
            print(f"another process trains {job.label} by now: this one ends", flush=True)
            os._exit(1)

    with looking(look, LOOK_S, f"lease of {job.key}"):
        yield


def _storage(store: Store) -> tuple[str, object | None]:
    """Where Ray Train keeps its checkpoints: the path, and the file system of a remote one."""
    if not store.remote:
        return f"{store.uri}/train", None
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return store.path("train"), PyFileSystem(FSSpecHandler(store.fs))


def train_in_worker(config: dict[str, object]) -> None:
    """Train a job in one of Ray Train's workers; rank 0 commits the stage.

    Args:
        config: `settings` (`Settings`) and `key` (the job's).
    """
    settings = config["settings"]
    assert isinstance(settings, Settings)
    with host_noted():
        _train_in_worker(settings, str(config["key"]))


def _train_in_worker(settings: Settings, key: str) -> None:
    wait_until_fit(settings)
    job, store = settings.jobs[key], settings.store
    use_threads(resources_of(settings.space, job))
    limit_s = settings.space.resources.silence_s
    with (
        watch(store, job, job.stage.key, limit_s) as show_life,
        tempfile.TemporaryDirectory() as scratch,
    ):
        factor = accumulation_factor(store, job.key)
        context = TrainContext(report_interval(settings, job), Path(scratch), show_life, factor)
        out = store.new(job.stage.path) if context.rank == 0 else Path(scratch) / "out"
        train_job(settings, store, job, out, context)
        if context.rank == 0:
            commit_training(settings, store, job, out, context.curve, context)


class TrainContext:
    """`trainables.training.context.Context` on top of Ray Train.

    Args:
        report_every: steps between two reports that carry no checkpoint; the workers meet at each
            report, so all must leave out the same ones.
        scratch: a local directory that lives as long as the worker.
        show_life: called at every report.
        accumulation_factor: as of the protocol, the same for all workers.
    """

    def __init__(
        self, report_every: int, scratch: Path, show_life: Progress, accumulation_factor: int
    ) -> None:
        ray_context = train.get_context()
        self.rank: int = ray_context.get_world_rank()
        self.world_size: int = ray_context.get_world_size()
        self.device: torch.device = get_device()
        self.curve = scratch / CURVE
        self._every = report_every
        self._show_life = show_life
        self.accumulation_factor = accumulation_factor
        self._reminder = Reminder()
        self._looked_at: tuple[int, float] | None = None
        self._next_look, self._noticed_step = 0, 0
        self._latest: Path | None = None
        if (checkpoint := train.get_checkpoint()) is not None:
            self._latest = Path(checkpoint.to_directory(str(scratch / "checkpoint")))
            if (self._latest / CURVE).is_file():
                self.curve.write_bytes((self._latest / CURVE).read_bytes())
                # With a checkpoint that is damaged, the training begins anew, and so its curve.
                rewind_curve(self.curve, sealed_step(self._latest) or 0)

    def prepare(self, module: nn.Module) -> nn.Module:
        """Wrap in DistributedDataParallel where there are several workers."""
        return prepare_model(module)

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Append to the curve (rank 0) and, at the agreed steps, report to Ray Train."""
        assert all(math.isfinite(value) for value in metrics.values()), metrics
        if self.rank == 0:
            with self.curve.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dict(metrics), allow_nan=False) + "\n")
        step, steps = int(metrics["step"]), int(metrics["steps"])
        progress = training_report(metrics)
        self._show_life(progress)
        if step % self._every and step not in (steps, self._noticed_step):
            assert checkpoint is None, f"a checkpoint at step {step}, not every {self._every}"
            return
        if checkpoint is None:
            train.report(progress)
            return
        (checkpoint / CURVE).write_bytes(self.curve.read_bytes())
        train.report(progress, checkpoint=train.Checkpoint.from_directory(str(checkpoint)))

    def must_checkpoint(self, step: int) -> bool:
        """At the notice of a drain of any worker's node, and again every few seconds.

        The workers look at the same steps, some seconds apart.
        """
        if step < self._next_look:
            return False
        now = time.monotonic()
        per_look = 1
        if self._looked_at is not None:
            steps, seconds = step - self._looked_at[0], now - self._looked_at[1]
            per_look = max(1, int(steps * LOOK_S / max(seconds, 1e-3)))
        self._looked_at = step, now
        is_due = self._reminder.is_due(train.get_preemption_info() is not None)
        # The first worker's clock decides.
        agreed: tuple[int, bool] = broadcast_from_rank_zero((per_look, is_due))
        self._next_look = step + agreed[0]
        if agreed[1]:
            self._noticed_step = step
        return agreed[1]

    def latest_checkpoint(self) -> Path | None:
        """The checkpoint that Ray Train kept last, as a local directory."""
        return self._latest


def trains_nothing(settings: Settings, job: Job) -> bool:
    """Whether a job's stage is made without training, and without loading any weights."""
    point = job.subject.point
    if point is None or point.released is not None:
        return False
    return scenario_of(point.scenario).training(settings.space_of(job), point) is None


def report_interval(settings: Settings, job: Job) -> int:
    """Steps between reports: a divisor of the checkpoint interval, about a tenth, at least 10."""
    if job.subject.point is None:
        assert job.subject.codec is not None
        every = job.subject.codec.train.checkpoint_every
    else:
        space, point = settings.space_of(job), job.subject.point
        training = scenario_of(point.scenario).training(space, point)
        every = 1 if training is None else training.checkpoint_every
    return next(n for n in range(min(every, max(10, every // 10)), every + 1) if every % n == 0)
