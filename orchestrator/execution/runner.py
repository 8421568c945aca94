"""Between a schedule and what runs its jobs: who runs what, what failed, what comes next.

    Schedule --suggest--> trial (trial.run_job, in tuning.py) --results--> Schedule, view
         +--next_pass--> thread: Ray Data (passes.py)

A lane without a ready job runs a `wait` trial, so its process (seconds of imports) stays warm.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.driver.view import View
from orchestrator.execution.feature_pass import needs_gpu, pool_size, run_pass
from orchestrator.execution.worker import Settings, write_log
from orchestrator.plan.schedule import Ask, Schedule

WAIT = "wait"
CAPACITY_EVERY_S = 10.0


class Runner:
    """Runs the jobs of a schedule to their end.

    Args:
        on_done: called, in the driver, when a job is done.
        on_failed: called, in the driver, with the reason when one has failed for good.
        capacity: what the cluster has now.
        keep: told how many evaluators have room beside what trains, and which jobs run.
    """

    def __init__(
        self,
        settings: Settings,
        schedule: Schedule,
        view: View,
        on_done: Callable[[str], None],
        on_failed: Callable[[str, str], None],
        capacity: Callable[[], Ask],
        keep: Callable[[int, frozenset[str]], None] = lambda n, running: None,
    ) -> None:
        self.settings = settings
        self.schedule = schedule
        self.view = view
        self._on_done, self._on_failed = on_done, on_failed
        self._capacity = capacity
        self._keep = keep
        self._capacity_checked = time.monotonic()
        self._trials: dict[str, str] = {}
        self._failures: Counter[str] = Counter()
        self._pass: threading.Thread | None = None
        resources = settings.space.resources
        # An idle process would hold its GPU, which a Ray Data pass may be waiting for.
        self.reuse = resources.workers_per_point == 0 and resources.gpus_per_worker == 0

    def end(self) -> None:
        """Wait for a pass that is still running."""
        if self._pass is not None:
            self._pass.join()

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles what listens to it, to restore experiments; ours are never restored."""
        return (str, ("a runner is not pickled",))

    # What Tune asks and tells; all in the driver's main thread.

    def suggest(self, trial_id: str) -> str | None:
        """The job for a new trial; None to ask again later."""
        if time.monotonic() - self._capacity_checked > CAPACITY_EVERY_S:
            self._capacity_checked = time.monotonic()
            self.schedule.capacity = self._capacity()
        self._start_pass()
        job = self.schedule.next_trial()
        if job is not None:
            self._trials[trial_id] = job.key
            self.view.started(job.key)
            if self.settings.store.has(job.stage.path):
                self.schedule.stage_made(job.key)
            self._make_room()
            return job.key
        self._make_room()
        if self.reuse and self.waiting() < self.warm_lanes():
            self._trials[trial_id] = WAIT
            return WAIT
        return None

    def _make_room(self) -> None:
        lanes = self.schedule.lanes_to_evaluate()
        workers = self.settings.space.resources.workers_per_point
        self._keep(lanes * workers, frozenset(self._trials.values()))

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
            error = f"it ended without writing {', '.join(missing)}"
            write_log(store, job, error)
            self._failed_once(key, error)
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
        lines = error.strip().splitlines()
        if "The actor died" in error or not lines:
            # It could not write its own log.
            write_log(store, job, error)
            lines = ["its process died (killed, or out of memory)"]
        reason = f"{lines[-1]} (log: {store.path('logs', key)}.log)"
        again = self._failures[key] <= self.settings.space.resources.max_failures
        if again and "GaveUpError" not in lines[-1]:
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
        lost = [job.key for job in self.schedule.fail(key, reason)]
        for one in (key, *lost):
            self.view.failed(one, self.schedule.failed[one])
            self._on_failed(one, self.schedule.failed[one])

    def _start_pass(self) -> None:
        if self._pass is not None and self._pass.is_alive():
            return
        gpu = self.settings.space.resources.gpus_per_worker
        if gpu and not self.schedule.reserve_gpus(gpu):
            return
        jobs = self.schedule.next_pass()
        if gpu and not needs_gpu(jobs):
            self.schedule.release_gpus(gpu)
            gpu = 0
        if not jobs:
            return
        for job in jobs:
            self.view.started(job.key)
        pool = pool_size(jobs, self.schedule.capacity.cpu, bool(gpu))

        def work() -> None:
            try:
                run_pass(
                    self.settings,
                    jobs,
                    pool,
                    lambda key, why: self.done(key) if why is None else self.failed(key, why),
                    lambda key, n, total: self.view.progress(key, "shards", n, total),
                )
            except Exception as error:
                # Whatever it was, nobody must wait for these jobs for ever.
                for job in jobs:
                    if job.key in self.schedule.running:
                        write_log(self.settings.store, job, traceback.format_exc())
                        self.failed(job.key, f"{type(error).__name__}: {error}")
            finally:
                if gpu:
                    self.schedule.release_gpus(gpu)

        self._pass = threading.Thread(target=work, name="ray-data-pass", daemon=True)
        self._pass.start()
