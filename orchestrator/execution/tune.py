"""Ray Tune: each job of a schedule is a trial, and a finished trial's process runs the next one."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.execution.cluster import set_environment
from orchestrator.execution.runner import WAIT, Runner
from orchestrator.execution.worker import Settings, run_job
from orchestrator.plan.resources import trial_resources


def tune_jobs(runner: Runner, verbose: bool) -> None:
    """Block until every job is done or has failed."""
    from ray import tune

    schedule, settings = runner.schedule, runner.settings
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(max(2, schedule.free_lanes())))
    # Nothing of ours is in it: Tune's own state is never restored.
    directory = settings.store.new("tmp/tune")
    tuner = tune.Tuner(
        tune.with_resources(
            _trainable(settings), tune.PlacementGroupFactory([trial_resources(settings.space)])
        ),
        tune_config=tune.TuneConfig(
            search_alg=_searcher(runner), num_samples=-1, reuse_actors=runner.reuse
        ),
        run_config=tune.RunConfig(
            name=directory.name,
            storage_path=str(directory.parent),
            verbose=1 if verbose else 0,
            stop=_stopper(runner),
            callbacks=[_callback(runner)],
            # A job that failed goes back to the schedule (`failed_once`): Tune itself would not
            # try a trial again whose process died while it started.
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    runner.end()


def _trainable(settings: Settings) -> Callable[[Mapping[str, Any]], None]:
    def bridgesweep(config: Mapping[str, Any]) -> None:
        set_environment()
        from ray import tune

        if config["job"] == WAIT:
            _wait_warm(settings)
        else:
            run_job(settings, config["job"], lambda metrics: tune.report(dict(metrics)))

    return bridgesweep


def _wait_warm(settings: Settings) -> None:
    """Import what the next job will need, then wait until the driver ends this trial."""
    from ray import tune

    from orchestrator.execution import backends

    # No report before this: a trial that is told to stop must stop at once.
    backends.warm_up(settings)
    while True:
        tune.report({WAIT: 1})
        time.sleep(0.2)


def _searcher(runner: Runner) -> Any:
    from ray.tune.search import Searcher

    class Suggest(Searcher):
        """Gives Tune the next job whose inputs are there."""

        def suggest(self, trial_id: str) -> Any:
            if runner.schedule.over:
                return Searcher.FINISHED
            job = runner.suggest(trial_id)
            return None if job is None else {"job": job}

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            runner.result(trial_id, result)

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            if not error:
                runner.completed(trial_id)

        def save(self, checkpoint_path: str) -> None:
            """Nothing: what is done is known from the storage."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing."""

    return Suggest(metric="training_iteration", mode="max")


def _stopper(runner: Runner) -> Any:
    from ray.tune import Stopper

    class EndWaiting(Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return WAIT in result and runner.should_stop(trial_id)

        def stop_all(self) -> bool:
            return False

    return EndWaiting()


def error_of(trial: Any) -> str:
    """What Tune wrote down about a trial's last error."""
    file = Path(trial.error_file) if trial.error_file else None
    return file.read_text(encoding="utf-8") if file is not None and file.exists() else ""


def _callback(runner: Runner) -> Any:
    from ray.tune import Callback

    class Listen(Callback):
        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            runner.failed_once(trial.trial_id, error_of(trial))

    return Listen()
