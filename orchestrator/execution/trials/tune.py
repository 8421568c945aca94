"""Ray Tune: each job of a schedule is a trial, and a finished trial's process runs the next one.

Import it after `cluster.running` has set the environment that Ray Tune reads.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ray
from ray import cloudpickle, tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from orchestrator.execution.cluster import trusted_bytes
from orchestrator.execution.job_steps import Settings
from orchestrator.execution.trials.killed import errors_fail_trials
from orchestrator.execution.trials.runner import Runner
from orchestrator.execution.trials.trial import JOB, RESOURCES, WAIT, run_trial
from orchestrator.plan.jobs import DATA
from orchestrator.plan.resources import trial_resources

log = logging.getLogger(__name__)

Result = dict[str, object]


class Unpickled:
    """A hook of Tune that is pickled without its state.

    Tune pickles its hooks to restore an experiment. A sweep is continued from its storage instead.
    """

    def __getstate__(self) -> dict[str, object]:
        return {}


def tune_jobs(runner: Runner, verbose: bool) -> None:
    """Block until every job is done or has failed."""
    schedule, settings = runner.schedule, runner.settings
    trials = _TrialListener(runner)

    def bridgesweep(config: Mapping[str, str], settings: Settings) -> None:
        run_trial(config, settings)

    # In the object store: Tune unpickles the function itself for every trial, in the driver, too.
    with_settings = tune.with_parameters(bridgesweep, settings=settings)

    def resources(config: Mapping[str, Mapping[str, float]]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([dict(config[RESOURCES])])

    with tune_directory() as directory, errors_fail_trials():
        tuner = tune.Tuner(
            tune.with_resources(with_settings, resources),
            tune_config=tune.TuneConfig(
                search_alg=_JobSearcher(runner, trials.kill),
                num_samples=-1,
                reuse_actors=runner.keeps_warm,
            ),
            run_config=tune.RunConfig(
                name="jobs",
                storage_path=directory,
                verbose=1 if verbose else 0,
                callbacks=[trials],
                # A job that failed goes back to the schedule (`trial_failed`): Tune itself would
                # not try a trial again whose process died while it started.
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )
        try:
            tuner.fit()
        except Exception as error:
            if not schedule.over:
                raise
            # Behind the last job Tune reads its state back, which a full disk may have cut.
            log.warning("Ray Tune could not read what it had written: %s", error)
    runner.join()


@contextlib.contextmanager
def tune_directory() -> Iterator[str]:
    """A directory on the driver's machine for the state of an experiment, which nobody restores.

    Tune unpickles what it finds there, so nobody else may write it: it is never in a storage.
    """
    with tempfile.TemporaryDirectory(
        prefix="bridgesweep-tune-", ignore_cleanup_errors=True
    ) as directory:
        yield directory


class _JobSearcher(Unpickled, Searcher):
    """Gives Tune the next job whose inputs are complete.

    Args:
        runner: knows the jobs.
        kill: ends the process of a trial.
    """

    def __init__(self, runner: Runner, kill: Callable[[str], None]) -> None:
        super().__init__()
        self._runner, self._kill = runner, kill

    def suggest(self, trial_id: str) -> dict[str, object] | str | None:  # type: ignore[override]
        """The parameters of a new trial."""
        for ending in self._runner.trials_to_end():
            self._kill(ending)
        if self._runner.schedule.close_if_over():
            self._runner.end_waits()
            return str(Searcher.FINISHED)
        key = self._runner.next_trial(trial_id)
        if key is None:
            return None
        space, jobs = self._runner.settings.space, self._runner.schedule.jobs
        # A process that waits stands where any job may follow: all ask for the same then.
        in_lanes = (job for job in jobs.values() if job.kind not in DATA)
        job = next(in_lanes) if key == WAIT else jobs[key]
        return {JOB: key, RESOURCES: trial_resources(space, job)}

    def on_trial_complete(
        self, trial_id: str, result: Result | None = None, error: bool = False
    ) -> None:
        """A trial ended; reports and errors go to `_TrialListener`."""
        if not error:
            self._runner.trial_completed(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: what is done is read from the storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing."""


class _TrialListener(Unpickled, Callback):
    """Passes reports on, and returns the job of a failed trial, to the runner."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._running: dict[str, Trial] = {}

    def kill(self, trial_id: str) -> None:
        """End the process of a trial, if it has started: it may compute without ever reporting.

        Tune then calls `on_trial_error`; to Tune's `stop`, a process answers at its next report.
        """
        trial = self._running.pop(trial_id, None)
        actor = None if trial is None else trial.temporary_state.ray_actor
        if actor is not None:
            ray.kill(actor)

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        """The process of a trial has started."""
        self._running[trial.trial_id] = trial
        self._runner.trial_started(trial.trial_id)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        """A trial ended; the searcher is told, too."""
        self._running.pop(trial.trial_id, None)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Result, **info: object
    ) -> None:
        """A trial reported; the searcher would get its nested metrics as flat ones."""
        self._runner.trial_reported(trial.trial_id, result)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        """A trial failed."""
        self._running.pop(trial.trial_id, None)
        self._runner.trial_failed(trial.trial_id, exception_of(trial))


def exception_of(trial: Trial) -> BaseException | None:
    """The last exception of a trial; None if its process could not say.

    Tune's hooks get it only as a file in Ray's directory, which others on the machine may be able
    to write: it is unpickled only if this user wrote it.
    """
    # `Trial.get_pickled_error` looks in the storage, where the file comes later.
    file = trial.pickled_error_file
    content = None if file is None else trusted_bytes(Path(file))
    error: BaseException | None = None if content is None else cloudpickle.loads(content)
    return error


def error_of(trial: Trial) -> str:
    """What Tune wrote down about a trial's last error."""
    file = Path(trial.error_file) if trial.error_file else None
    return file.read_text(encoding="utf-8") if file is not None and file.exists() else ""
