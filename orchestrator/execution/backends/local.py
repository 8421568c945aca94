"""The back end of `workers_per_point: 0`: everything in the trial's own process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.execution.backends.drain import Reminder, node_notice
from orchestrator.execution.devices import device_of, use_threads
from orchestrator.execution.job_steps import (
    Progress,
    Settings,
    accumulation_factor,
    commit_training,
    train_job,
    training_report,
)
from orchestrator.execution.mirror import CURVE, save_checkpoint, take_newest_checkpoint
from orchestrator.execution.silence import evaluate_watched, watch
from orchestrator.plan.jobs import EvaluationPass, Job
from orchestrator.plan.resources import resources_of
from orchestrator.storage.lease import Lease
from orchestrator.storage.store import Store
from trainables.training.context import LocalContext

log = logging.getLogger(__name__)


class LocalBackend:
    """Trains and evaluates in this process, with the threads that the trial asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def train(self, job: Job, work: Path, lease: Lease, progress: Progress) -> None:
        """Train and commit the job's stage; checkpoints are kept in its working directory."""
        store, resources = self._settings.store, resources_of(self._settings.space, job)
        use_threads(resources)

        def report(metrics: Mapping[str, float]) -> None:
            reported = training_report(metrics)
            show_life(reported)
            progress(reported)

        limit_s = self._settings.space.resources.silence_s
        fetch_meanwhile(store, job)
        with watch(store, job, job.stage.key, limit_s) as show_life, node_notice() as is_draining:
            if store.remote:
                take_newest_checkpoint(store, job.key, work)
            device = device_of(resources)
            context = TrialContext(store, job.key, work, lease, report, device, is_draining)
            out = store.new(job.stage.path)
            train_job(self._settings, store, job, out, context)
            lease.check()
            commit_training(self._settings, store, job, out, work / CURVE, context)

    def evaluate(self, job: Job, passes: Sequence[EvaluationPass], progress: Progress) -> None:
        """Make the passes one after the other, and commit the stages of their evaluations."""
        use_threads(resources_of(self._settings.space, job))
        for evaluation_pass in passes:
            evaluate_watched(self._settings, job, evaluation_pass, progress)


def fetch_meanwhile(store: Store, job: Job) -> None:
    """Fetch from a remote storage, in a thread, what a job will measure its point on.

    The job trains meanwhile: the GPU that it holds must not wait for the download later.
    """
    read = {stage.path for _, made in job.evaluations for stage in made.inputs} - {job.stage.path}
    if not store.remote or not read:
        return

    def fetch() -> None:
        try:
            for stage in sorted(read):  # the end of the process waits for the threads of a pool
                store.fetch(stage)
        except Exception as error:  # each storage has its own; the evaluation fetches again
            log.info("the inputs of %s were not fetched ahead: %s", job.key, error)

    threading.Thread(target=fetch, name=f"inputs of {job.key}", daemon=True).start()


class TrialContext(LocalContext):
    """Trains in a trial's process.

    Each checkpoint is kept on a remote storage, too, where another node can continue from it.

    Args:
        key: of the job.
        lease: of the directory.
        directory, on_report, device: of `LocalContext`.
        is_draining: whether this node will be taken away.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        directory: Path,
        lease: Lease,
        on_report: Callable[[Mapping[str, float]], None],
        device: str,
        is_draining: Callable[[], bool],
    ) -> None:
        factor = accumulation_factor(store, key)
        super().__init__(directory, on_report, device, factor)
        self._store, self._key, self._lease = store, key, lease
        self._is_draining, self._reminder = is_draining, Reminder()

    def must_checkpoint(self, step: int) -> bool:
        """At the notice of a drain, and again every few seconds."""
        return self._reminder.is_due(self._is_draining())

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Append to the curve, keep the checkpoint and upload it.

        Raises:
            LeaseLostError: another process trains by now, in the same directory.
        """
        self._lease.check()
        super().report(metrics, checkpoint)
        if checkpoint is not None and self._store.remote:
            save_checkpoint(self._store, self._key, self.directory, self._lease)
