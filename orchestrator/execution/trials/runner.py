"""Runs the jobs of a schedule: starts them, counts their failures, reports what happens to them.

    Schedule --next_job-->  a trial of Ray Tune (tune.py, trial.py)  --reports--> Schedule, listener
    Schedule --next_pass--> a thread: one pass of Ray Data (passes.py) --------------^

A free lane without a ready job runs a trial that waits, so its process stays warm: starting one
takes seconds of imports.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from orchestrator.execution.cluster import node_ids
from orchestrator.execution.failures import (
    Cause,
    GaveUpError,
    JobFailure,
    Tries,
    cause_of_type,
    original,
    reason_of,
)
from orchestrator.execution.features.passes import Passes
from orchestrator.execution.job_steps import Json, Settings, slice_more, write_log
from orchestrator.execution.silence import BACKSTOP_S, failure_of
from orchestrator.execution.trials.frozen import FrozenTrials
from orchestrator.execution.trials.shared_causes import SharedCauses
from orchestrator.execution.trials.trial import WAIT
from orchestrator.execution.trials.waiting import WaitingTrials, can_wait, end_wait
from orchestrator.plan.job_events import JobEvent, JobListener
from orchestrator.plan.resources import evaluation_ask
from orchestrator.plan.room import Cluster, Group
from orchestrator.scheduling.schedule import Schedule
from orchestrator.storage.lease import Lease
from orchestrator.storage.outage import not_visible, patiently

log = logging.getLogger(__name__)

CAPACITY_EVERY_S = 10.0
NODES_EVERY_S = 1.0


class Runner:
    """Runs the jobs of a schedule to their end.

    Args:
        settings: of the sweep.
        schedule: decides which job is next.
        listener: called with what happens.
        look: called with the processes that could run; returns what the cluster has now.
        keep_evaluators: called with how many evaluators have room beside what trains, and with the
            keys of the jobs that run.
        lease: of the sweep; None where no other driver can run it.
    """

    def __init__(
        self,
        settings: Settings,
        schedule: Schedule,
        listener: JobListener,
        look: Callable[[Sequence[Group]], Cluster],
        keep_evaluators: Callable[[int, frozenset[str]], None],
        lease: Lease | None = None,
    ) -> None:
        self._lease = lease
        self.settings = settings
        self.schedule = schedule
        self._listener = listener
        self._look = look
        self._keep_evaluators = keep_evaluators
        self._capacity_checked = time.monotonic()
        self._trials: dict[str, str] = {}
        """Trial id -> key of its job."""
        self._waiting = WaitingTrials(end_wait)
        self._nodes: dict[str, frozenset[str]] = {}
        """Trial id -> ids of the nodes that were alive when it started its job."""
        self._latest_nodes: frozenset[str] = frozenset()
        self._nodes_listed = -math.inf
        self._frozen = FrozenTrials(settings.store, settings.space.resources.silence_s + BACKSTOP_S)
        self._tries: dict[str, Tries] = {}
        self._examined: list[threading.Thread] = []
        self._shared_causes = SharedCauses(schedule)
        self._evaluator = evaluation_ask(settings.space)
        self.keeps_warm = can_wait(settings)
        self._passes = Passes(
            settings, schedule, listener, self._finish, self._fail, self._retry_or_give_up
        )

    def grow(self, settings: Settings) -> None:
        """Run the jobs of a larger sweep from now on; its resources are the same.

        Args:
            settings: with all its jobs.
        """
        self.settings = settings
        self._passes.settings = settings
        self.keeps_warm = self.keeps_warm and can_wait(settings)

    def join(self) -> None:
        """Wait for passes that still run, and for failures that are examined."""
        self._passes.join()
        for thread in self._examined:
            thread.join()

    # Called by Tune's hooks, in the driver's main thread.

    def next_trial(self, trial_id: str) -> str | None:
        """The key of the job that a new trial runs, or `WAIT`; None: no trial now, ask again.

        Raises:
            LeaseLostError: another driver runs the sweep.
        """
        if self._lease is not None:
            self._lease.check()
        if time.monotonic() - self._capacity_checked > CAPACITY_EVERY_S:
            self._capacity_checked = time.monotonic()
            self.schedule.cluster = self._look(self.schedule.processes_that_could_run())
            self._frozen.look(self._trials)
        self._passes.tend()
        job = self.schedule.next_job()
        if job is not None:
            self._trials[trial_id] = job.key
            self._nodes[trial_id] = self._alive_nodes()
            self._listener(JobEvent("started", job.key))
        self._limit_evaluators()
        self.end_waits()
        if job is not None:
            return job.key
        if len(self._waiting) < self._warm_lanes():
            self._waiting.add(trial_id)
            return WAIT
        return None

    def trials_to_end(self) -> list[str]:
        """Ids of the trials whose jobs a person has cancelled, or whose processes are frozen."""
        ending, frozen = self.schedule.ending, self._frozen.ids
        return [i for i, key in self._trials.items() if key in ending or i in frozen]

    def trial_started(self, trial_id: str) -> None:
        """The process of a trial has started its job."""
        self._frozen.heard(trial_id)

    def _alive_nodes(self) -> frozenset[str]:
        """The ids of the nodes that were alive within the last second: listing them takes long."""
        if time.monotonic() - self._nodes_listed > NODES_EVERY_S:
            self._latest_nodes, self._nodes_listed = node_ids(), time.monotonic()
        return self._latest_nodes

    def end_waits(self) -> None:
        """End the trials that wait in lanes which a job takes, or which no job will need."""
        self._waiting.keep(self._warm_lanes())

    def trial_reported(self, trial_id: str, metrics: Json) -> None:
        """Record the progress of a trial's job."""
        if trial_id in self._waiting:
            self._waiting.warm(trial_id)
            self.end_waits()
            return
        key = self._trials.get(trial_id)
        if key is None:
            return
        self._frozen.heard(trial_id)
        if "made" in metrics:
            self.schedule.stage_made(key)
        step, steps = metrics.get("step"), metrics.get("steps")
        if isinstance(step, int | float) and isinstance(steps, int | float):
            phase = str(metrics["phase"])
            of_step = cast("Mapping[str, float]", metrics.get("metrics", {}))
            host = str(metrics.get("host", ""))
            self._listener(
                JobEvent("progressed", key, "", phase, step, steps, metrics=of_step, host=host)
            )

    def trial_completed(self, trial_id: str) -> None:
        """A trial ended without an error: its job is done if all its stages are complete."""
        if trial_id in self._waiting:
            self._waiting.remove(trial_id)
            return
        key = self._trials.pop(trial_id, None)
        if key is None:
            return
        del self._nodes[trial_id]
        self._frozen.forget(trial_id)
        if self._shows_stages(key):
            self._finish(key)
        else:
            self._examine(self._wait_for_stages, key)

    def trial_failed(self, trial_id: str, error: BaseException | None) -> None:
        """A trial failed: its job is tried again, if that can help.

        Args:
            error: None if its process could not say.
        """
        if trial_id in self._waiting:
            self._waiting.remove(trial_id)
            return
        key = self._trials.pop(trial_id, None)
        if key is None:
            return
        nodes_before = self._nodes.pop(trial_id)
        failure = self._frozen.failure(trial_id)
        self._frozen.forget(trial_id)
        if key in self.schedule.ending:
            self._end_cancelled(key)
        elif failure is not None:
            self._examine(self._retry_frozen, key, failure)
        else:
            self._examine(self._find_cause, key, error, nodes_before)

    def _examine(self, look: Callable[..., None], key: str, *arguments: object) -> None:
        """Examine how a job ended, in a thread; the job counts as running meanwhile.

        It may take a minute, in which Tune's thread would serve no trial.
        """

        def look_safely() -> None:
            try:
                look(key, *arguments)
            except Exception as error:  # or the sweep would wait for the job for ever
                log.warning("how %s ended was not found out", key, exc_info=True)
                if key in self.schedule.running:
                    self._retry_or_give_up(key, JobFailure.of_caught(error))

        thread = threading.Thread(target=look_safely, name=f"end of {key}", daemon=True)
        self._examined = [*(t for t in self._examined if t.is_alive()), thread]
        thread.start()

    def _wait_for_stages(self, key: str) -> None:
        """Wait until a shared disk shows what a trial has written."""
        job = self.settings.jobs[key]
        missing = not_visible((stage.path for stage in job.stages), self._is_stored)
        if not missing:
            self._finish(key)
            return
        reason = f"it ended without writing {', '.join(missing)}"
        write_log(self.settings.store, job, reason)
        self._retry_or_give_up(key, JobFailure(Cause.UNREACHABLE, reason))

    def _retry_frozen(self, key: str, failure: JobFailure) -> None:
        write_log(self.settings.store, self.settings.jobs[key], failure.reason)
        self._retry_or_give_up(key, failure)

    def _find_cause(
        self, key: str, error: BaseException | None, nodes_before: frozenset[str]
    ) -> None:
        """Find the cause of a failure."""
        job, store = self.settings.jobs[key], self.settings.store
        keys = [job.key, *(evaluation_pass.key for evaluation_pass in job.passes)]
        try:
            failure = patiently(lambda: failure_of(error, nodes_before, store, key, *keys))
        except Exception as outage:  # the storage or Ray's head is away for too long
            cause = cause_of_type(outage)
            failure = JobFailure(cause, reason_of(outage, cause))
        if failure.cause in (Cause.MACHINE_LOST, Cause.PROCESS_DIED):
            # It could not write its log itself.
            write_log(store, job, str(error or failure.reason))
        has_given_up = error is not None and isinstance(original(error), GaveUpError)
        self._retry_or_give_up(key, failure, has_given_up)

    def _shows_stages(self, key: str) -> bool:
        """Whether the storage answers now, and shows all stages of a job."""
        try:
            return all(self.settings.store.has(s.path) for s in self.settings.jobs[key].stages)
        except Exception:  # it is waited for in another thread: Tune's one serves all trials
            return False

    def _is_stored(self, stage: str) -> bool:
        return patiently(lambda: self.settings.store.has(stage))

    def _limit_evaluators(self) -> None:
        limit = self.schedule.evaluators_beside_training(self._evaluator)
        self._keep_evaluators(limit, frozenset(self._trials.values()))

    def _warm_lanes(self) -> int:
        """Free lanes that will be needed again, by jobs for which a process may wait."""
        if not self.keeps_warm:
            return 0
        return min(self.schedule.free_lanes(), self.schedule.open_lane_jobs())

    def _retry_or_give_up(self, key: str, failure: JobFailure, has_given_up: bool = False) -> None:
        if key in self.schedule.ending:
            self._end_cancelled(key)
            return
        reason = f"{failure.reason} (log: {self.settings.store.path('logs', key)}.log)"
        job = self.settings.jobs[key]
        is_hopeless = has_given_up or self._shared_causes.is_stopped(job, failure.environment)
        tries = self._tries.setdefault(key, Tries(self.settings.space.resources.max_failures))
        if not is_hopeless and tries.again(failure.cause):
            if failure.cause is Cause.OUT_OF_MEMORY:
                try:
                    patiently(lambda: slice_more(self.settings.store, key))
                except Exception as outage:  # the storage is away for too long
                    self._fail(key, JobFailure.of_caught(outage))
                    return
            if failure.cause is Cause.MACHINE_LOST:
                self._capacity_checked = -math.inf  # before anything starts: its lanes are gone
            self._tell(JobEvent("retried", key, reason))  # before anybody may start it again
            self.schedule.retry(key)
        else:
            self._fail(key, replace(failure, reason=reason))

    # Also called from the threads of passes and of failures.

    def _end_cancelled(self, key: str) -> None:
        """A cancelled job runs no more; unless a job that was added meanwhile needs it."""
        self.schedule.retry(key)
        if key in self.schedule.cancelled:
            self._tell(JobEvent("cancelled", key))
        else:
            self._tell(JobEvent("retried", key, "it was cancelled, and an added job needs it"))

    def _tell(self, event: JobEvent) -> None:
        """Tell of a job that may run again by now: an error here is none of how it ended."""
        try:
            self._listener(event)
        except Exception:
            log.warning("a view of the jobs fails", exc_info=True)

    def _finish(self, key: str) -> None:
        # While it counts as running, no job that makes more takes its place.
        try:
            self._listener(JobEvent("finished", key))
        finally:
            self.schedule.finish(key)

    def _fail(self, key: str, failure: JobFailure) -> None:
        """Record that a job failed for good, and with it the jobs that need it or would fail so."""
        # First, as its end makes room in which another job would start at once.
        withdrawn = self._shared_causes.add(self.settings.jobs[key], failure, len(node_ids()))
        lost = self.schedule.give_up(key, failure.reason, failure.environment)
        for failed in (key, *(job.key for job in lost)):
            self._listener(JobEvent("failed", failed, self.schedule.failed[failed]))
        if withdrawn:
            assert failure.environment is not None
            self._listener(JobEvent("withdrawn", key, failure.environment, others=withdrawn))
