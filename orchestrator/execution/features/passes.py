"""The passes of Ray Data that run beside the trials, and the room that each may use.

    Schedule --next_pass--> a thread: one pass (run_pass.py) --done--> Schedule, listener

A pass starts as soon as a model has room, beside other passes. It grows to all GPUs that neither a
running nor a ready trial needs, and gives them back when a trial becomes ready.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Sequence

from orchestrator.execution.failures import JobFailure
from orchestrator.execution.features.run_pass import run_pass
from orchestrator.execution.features.shards import need_models
from orchestrator.execution.features.stream import Room
from orchestrator.execution.job_steps import Settings, write_log
from orchestrator.plan.job_events import JobEvent, JobListener
from orchestrator.plan.jobs import Job
from orchestrator.plan.resources import actor_ask
from orchestrator.plan.room import Ask
from orchestrator.scheduling.schedule import Schedule
from orchestrator.storage.outage import patiently

GROW_AFTER_S = 30.0
"""So long GPUs must be free before a pass grows to them."""
Finish = Callable[[str], None]
Fail = Callable[[str, JobFailure], None]


class Passes:
    """Starts passes, and gives each its share of the cluster.

    Args:
        settings: of the sweep.
        schedule: says which jobs may run, and what is free.
        listener: called with what happens.
        finish: called with the key of a job that is done, from the thread of its pass.
        give_up: called with the key of a job that failed for good, and the failure.
        retry: called with the key of a job whose pass failed as a whole, and the failure.

    Attributes:
        settings: as above; others once the sweep has grown.
    """

    def __init__(
        self,
        settings: Settings,
        schedule: Schedule,
        listener: JobListener,
        finish: Finish,
        give_up: Fail,
        retry: Fail,
    ) -> None:
        self.settings, self._schedule, self._listener = settings, schedule, listener
        self._finish, self._give_up, self._retry = finish, give_up, retry
        self._running: dict[threading.Thread, Room | None] = {}
        """The room of each pass with models; None for a pass that only reads images."""
        self._actor = actor_ask(settings.space)
        self._idle_since: float | None = None
        """Since when GPUs are free that a pass may grow to, by `time.monotonic`."""

    def join(self) -> None:
        """Wait for the passes that still run."""
        for thread in list(self._running):
            thread.join()

    def tend(self) -> None:
        """Start a pass if jobs for one are ready and a model has room; share out what is free."""
        self._running = {t: room for t, room in self._running.items() if t.is_alive()}
        rooms = [room for room in self._running.values() if room is not None]
        jobs = self._schedule.next_pass() if self._has_room_for_a_model(rooms) else []
        if jobs:
            room = self._start(jobs, rooms)
            rooms += [room] if need_models(jobs) else []
        self._share_out(rooms, at_once=bool(jobs))

    def _has_room_for_a_model(self, rooms: Sequence[Room]) -> bool:
        if self._actor.gpu:
            return len(rooms) < self._schedule.actors_beside_lanes(self._actor)
        return self._free_cpu_actors(rooms) > 0

    def _free_cpu_actors(self, rooms: Sequence[Room]) -> int:
        """How many more models compute on CPUs: one on each pair of cores."""
        actors = max(1, int(self._schedule.cluster.cpus) // 2)
        return actors - sum(room.actors for room in rooms)

    def _share_out(self, rooms: Sequence[Room], at_once: bool) -> None:
        """Give the passes the GPUs that no lane uses or is ready to use, one each at least.

        Args:
            at_once: also GPUs that were free for a moment only.
        """
        if not self._actor.gpu or not rooms:
            self._schedule.reserve(self._actor, 0)
            return
        free = self._schedule.actors_beside_lanes(self._actor, and_ready=True)
        actors = max(len(rooms), free)
        before = sum(room.actors for room in rooms)
        if actors <= before:
            self._idle_since = None
        elif not at_once:
            # A lane between two jobs would cost the pass actors that must end again at once.
            self._idle_since = self._idle_since or time.monotonic()
            if time.monotonic() - self._idle_since < GROW_AFTER_S:
                actors = before
        for number, room in enumerate(rooms):
            share = actors // len(rooms) + (number < actors % len(rooms))
            if share != room.actors:
                room.resize(share)
        self._schedule.reserve(self._actor, actors)

    def _start(self, jobs: Sequence[Job], rooms: Sequence[Room]) -> Room:
        with_models, cpus = need_models(jobs), max(1, int(self._schedule.cluster.cpus))
        if not with_models:
            room = Room(cpus, 1, Ask())
        elif self._actor.gpu:
            room = Room(cpus, 1, self._actor)
        else:
            # Beside models on CPUs, reading and writing take little.
            room = Room(max(1, cpus // 2), self._free_cpu_actors(rooms), self._actor)
        for job in jobs:
            self._listener(JobEvent("started", job.key))
        thread = threading.Thread(
            target=self._run, args=(jobs, room), name="ray-data-pass", daemon=True
        )
        self._running[thread] = room if with_models else None
        thread.start()
        return room

    def _run(self, jobs: Sequence[Job], room: Room) -> None:
        """Run a pass in its thread; whatever happens, none of its jobs stays running."""

        def done(key: str, failure: JobFailure | None) -> None:
            if failure is None:
                self._finish(key)
            else:
                self._give_up(key, failure)

        def progress(key: str, shards: int, total: int) -> None:
            self._listener(JobEvent("progressed", key, phase="shards", step=shards, steps=total))

        def again(key: str, reason: str) -> None:
            self._listener(JobEvent("retried", key, reason))
            self._listener(JobEvent("started", key))

        def waits(line: str) -> None:
            for job in jobs:
                self._listener(JobEvent("progressed", job.key, phase=line or "starting"))

        try:
            run_pass(self.settings, jobs, room, done, progress, again, waits)
        except Exception as error:
            # Another try that began while the storage is away would fail, too.
            with contextlib.suppress(Exception):
                patiently(lambda: self.settings.store.exists("logs"))
            failure = JobFailure.of_caught(error)
            for job in jobs:
                if job.key in self._schedule.running:
                    write_log(self.settings.store, job, traceback.format_exc())
                    self._retry(job.key, failure)
