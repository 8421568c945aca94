"""Ray: starting it quietly, and running a schedule's jobs as trials of Ray Tune.

    Schedule --suggest--> Tune trial (trial.run_job) --results--> Schedule, view
         |                     actors are reused: a finished trial's process runs the next job
         +--next_pass--> thread: Ray Data (passes.py)

A lane without a ready job runs a `wait` trial, so its process (seconds of imports) stays warm.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.passes import run_pass
from orchestrator.resources import shortage, trial_ask, trial_resources
from orchestrator.schedule import Ask, Schedule
from orchestrator.trial import Settings, run_job, write_log
from orchestrator.view import View
from search_spaces import Space

WAIT = "wait"
_SETTINGS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    # Train's controller looks at its workers this often; at the default of 2 s every report waits.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C must reach us, not a handler that first saves an experiment nobody restores.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "600",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
_QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "RAY_DATA_LOG_LEVEL": "ERROR",
}


def set_environment(verbose: bool = True) -> None:
    """Set what Ray and the libraries read from the environment, in this process.

    Every process sets it for itself: passed on by Ray's runtime environment, it would make Ray
    throw away the worker processes that it starts ahead of time.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if not verbose:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)


def start(verbose: bool) -> None:
    """Start Ray here, or join the cluster that RAY_ADDRESS (or `ray job submit`) names."""
    set_environment(verbose)
    import ray

    ray.init(
        include_dashboard=False,
        log_to_driver=verbose,
        logging_level=logging.INFO if verbose else logging.ERROR,
    )
    if not verbose:
        for name in ("ray.tune", "ray.data", "ray.train"):
            logging.getLogger(name).setLevel(logging.ERROR)


def stop() -> None:
    """Leave the cluster; one that `start` started ends, with all its processes."""
    import ray

    ray.shutdown()


def capacity(space: Space) -> tuple[Ask, str | None]:
    """What the cluster has, and why a point can never run on it (None if it can)."""
    ray: Any = importlib.import_module("ray")
    total = ray.cluster_resources()
    there = Ask(total.get("CPU", 0), total.get("GPU", 0))
    ask = trial_ask(space)
    if can_grow():
        # The autoscaler only sees what is asked for and does not fit: ask for one more.
        return Ask(max(there.cpu, 0) + ask.cpu, max(there.gpu, 0) + ask.gpu), None
    return there, shortage(space, nodes())


def nodes() -> list[dict[str, float]]:
    """The resources of each node that is alive."""
    ray: Any = importlib.import_module("ray")
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def can_grow() -> bool:
    """Whether an autoscaler may add nodes (Ray's cluster launcher, or KubeRay)."""
    launched = Path("~/ray_bootstrap_config.yaml").expanduser().exists()
    return launched or "KUBERAY_GEN_RAY_START_CMD" in os.environ


class Runner:
    """Runs the jobs of a schedule to their end.

    Args:
        on_done: called, in the driver, when a job is done.
        on_failed: called with a job's key, the reason and whether it is a consequence only.
    """

    def __init__(
        self,
        settings: Settings,
        schedule: Schedule,
        view: View,
        on_done: Callable[[str], None],
        on_failed: Callable[[str, str], None],
    ) -> None:
        self.settings = settings
        self.schedule = schedule
        self.view = view
        self._on_done = on_done
        self._on_failed = on_failed
        self._trials: dict[str, str] = {}
        self._failures: Counter[str] = Counter()
        self._pass: threading.Thread | None = None
        resources = settings.space.resources
        # An idle process would hold its GPU, which a Ray Data pass may be waiting for.
        self._reuse = resources.workers_per_point == 0 and resources.gpus_per_worker == 0

    def run(self, verbose: bool) -> None:
        """Block until every job is done or has failed."""
        from ray import tune

        schedule, settings = self.schedule, self.settings
        os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(max(2, schedule.free_lanes())))
        storage: dict[str, Any] = {"storage_path": f"{settings.storage}/work"}
        if settings.store.remote:
            from pyarrow.fs import FSSpecHandler, PyFileSystem

            storage["storage_filesystem"] = PyFileSystem(FSSpecHandler(settings.store.fs))
            storage["storage_path"] = settings.store.path("work")
        tuner = tune.Tuner(
            tune.with_resources(
                _trainable(settings), tune.PlacementGroupFactory([trial_resources(settings.space)])
            ),
            tune_config=tune.TuneConfig(
                search_alg=_searcher(self), num_samples=-1, reuse_actors=self._reuse
            ),
            run_config=tune.RunConfig(
                name="tune",
                verbose=1 if verbose else 0,
                stop=_stopper(self),
                callbacks=[_callback(self)],
                # A job that failed goes back to the schedule (`failed_once`): Tune itself would not
                # try a trial again whose process died while it started.
                failure_config=tune.FailureConfig(max_failures=0),
                **storage,
            ),
        )
        try:
            tuner.fit()
        finally:
            settings.store.done_with("tune")
        if self._pass is not None:
            self._pass.join()

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles what listens to it, to restore experiments; ours are never restored."""
        return (str, ("a runner is not pickled",))

    # What Tune asks and tells; all in the driver's main thread.

    def suggest(self, trial_id: str) -> str | None:
        """The job for a new trial; None to ask again later."""
        self._start_pass()
        job = self.schedule.next_trial()
        if job is not None:
            self._trials[trial_id] = job.key
            self.view.started(job.key)
            return job.key
        if self._reuse and self.waiting() < self.warm_lanes():
            self._trials[trial_id] = WAIT
            return WAIT
        return None

    def waiting(self) -> int:
        """Lanes that run a `wait` trial."""
        return sum(key == WAIT for key in self._trials.values())

    def warm_lanes(self) -> int:
        """Idle lanes that will be needed again."""
        return min(self.schedule.free_lanes(), self.schedule.trials_left())

    def should_stop(self, trial_id: str) -> bool:
        """Whether a trial that only waits should make room."""
        if self._trials.get(trial_id) != WAIT:
            return False
        self._start_pass()
        return self.schedule.peek() is not None or self.waiting() > self.warm_lanes()

    def result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """A trial reported."""
        key = self._trials.get(trial_id)
        if key is None or key == WAIT:
            return
        if "made" in result:
            self.schedule.stage_made(key)
        if "step" in result:
            self.view.progress(key, str(result["phase"]), result["step"], result["steps"])

    def completed(self, trial_id: str) -> None:
        """A trial ended well."""
        key = self._trials.pop(trial_id, WAIT)
        if key == WAIT:
            return
        job, store = self.settings.jobs[key], self.settings.store
        wanted = [job.stage, *(stage for _, stage in job.evaluations)]
        missing = [stage.path for stage in wanted if not store.has(stage.path)]
        if missing:
            self._failed_once(key, f"it ended without writing {', '.join(missing)}")
        else:
            self.done(key)

    def failed_once(self, trial_id: str, error: str) -> None:
        """A trial failed: its job is tried again, `max_failures` times."""
        key = self._trials.pop(trial_id, WAIT)
        if key != WAIT:
            self._failed_once(key, error)

    def _failed_once(self, key: str, error: str) -> None:
        self._failures[key] += 1
        job, store = self.settings.jobs[key], self.settings.store
        if "Traceback" not in error:
            # The process was killed and could not write its own log.
            write_log(store, job, error)
        lines = error.strip().splitlines() or ["the trial's process died"]
        reason = f"{lines[-1]} (log: {store.path('logs', key)}.log)"
        if self._failures[key] <= self.settings.space.resources.max_failures:
            self.schedule.retry(key)
            self.view.retrying(key, reason)
        else:
            self.failed(key, reason)

    # Outcomes; also from the thread of a pass.

    def done(self, key: str) -> None:
        """A job is done."""
        self.schedule.finish(key)
        self.view.finished(key)
        self._on_done(key)

    def failed(self, key: str, reason: str) -> None:
        """A job failed for good, and with it what needs it."""
        lost = self.schedule.fail(key, reason)
        self.view.failed(key, reason)
        self._on_failed(key, reason)
        for job in lost:
            why = self.schedule.failed[job.key]
            self.view.failed(job.key, why)
            self._on_failed(job.key, why)

    def _start_pass(self) -> None:
        if self._pass is not None and self._pass.is_alive():
            return
        gpu = self.settings.space.resources.gpus_per_worker
        if gpu and not self.schedule.reserve_gpus(gpu):
            return
        jobs = self.schedule.next_pass()
        if not jobs:
            if gpu:
                self.schedule.release_gpus(gpu)
            return
        for job in jobs:
            self.view.started(job.key)
        pool = max(1, int(self.schedule.capacity.cpu) // 2)
        if gpu:
            pool = 1

        def work() -> None:
            try:
                run_pass(
                    self.settings,
                    jobs,
                    pool,
                    lambda key, why: self.done(key) if why is None else self.failed(key, why),
                    lambda key, n, total: self.view.progress(key, "shards", n, total),
                )
            finally:
                if gpu:
                    self.schedule.release_gpus(gpu)

        self._pass = threading.Thread(target=work, name="ray-data-pass", daemon=True)
        self._pass.start()


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

    from orchestrator import backends

    tune.report({WAIT: 1})
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


def _error_of(trial: Any) -> str:
    """What Tune wrote down about a trial's last error."""
    file = Path(trial.error_file) if trial.error_file else None
    return file.read_text(encoding="utf-8") if file is not None and file.exists() else ""


def _callback(runner: Runner) -> Any:
    from ray.tune import Callback

    class Listen(Callback):
        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            runner.failed_once(trial.trial_id, _error_of(trial))

    return Listen()


__all__ = ["Runner", "capacity", "start", "stop"]
