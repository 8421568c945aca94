"""Shards through Ray Data, with its own back-pressure: read on CPUs, compute, write on CPUs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ray import cloudpickle

from orchestrator.execution.failures import ROOM_S
from orchestrator.execution.features.shards import Shard, need_models
from orchestrator.execution.features.steps import (
    ComputeStep,
    Outcome,
    ShardRow,
    read_images,
    write_file,
)
from orchestrator.execution.job_steps import Settings
from orchestrator.plan.resources import DATA_CPUS
from orchestrator.plan.room import Ask

if TYPE_CHECKING:
    from ray.data import Dataset

TASKS_PER_ACTOR = 3
"""Shards that an actor is sent ahead of time: it must not wait for the next one."""
ACTOR_RESTARTS = 3


class Room:
    """What a pass may use of the cluster; safe to use from several threads.

    Args:
        cpus: tasks that read or write at a time, at most.
        actors: that compute at a time.
        actor: what each of these asks for; without a GPU, their number stays as it is.
    """

    def __init__(self, cpus: int, actors: int, actor: Ask) -> None:
        self.cpus = max(1, cpus)
        self.actor = actor
        self._actors = max(1, actors)
        self._dataset: Dataset | None = None
        self._actors_begun = 0
        self._lock = threading.Lock()

    @property
    def is_too_large(self) -> bool:
        """Whether the execution that runs has more actors than it may have by now."""
        return self._actors < self._actors_begun

    @property
    def actors(self) -> int:
        """Actors that compute at a time."""
        return self._actors

    def resize(self, actors: int) -> None:
        """Let more or fewer actors compute.

        Ray Data adds actors while it runs, but ends none that is never idle: for fewer, the
        execution ends and the pass begins another one.
        """
        with self._lock:
            self._actors = max(1, actors)
            self._actors_begun = max(self._actors_begun, self._actors)
            self._limit()

    def begin(self) -> int:
        """Begin an execution; returns how many actors it starts with."""
        with self._lock:
            self._actors_begun = self._actors
            return self._actors

    def attach(self, dataset: Dataset) -> None:
        """Limit a data set that is going to be executed."""
        with self._lock:
            self._dataset = dataset
            self._limit()

    def end(self) -> None:
        """An execution has ended."""
        with self._lock:
            self._dataset = None

    def _limit(self) -> None:
        from ray.data import ExecutionResources

        if self._dataset is not None and self.actor.gpu:
            options = self._dataset.context.execution_options
            options.resource_limits = ExecutionResources.for_limits(
                gpu=self._actors * self.actor.gpu
            )


def stream(
    settings: Settings, missing: Sequence[Shard], room: Room
) -> Iterator[tuple[Shard, Outcome]]:
    """Compute shards; yields each as it is complete or has failed.

    It ends early where the room becomes smaller. A shard whose process or machine was lost is not
    yielded.
    """
    dataset = _pipeline(settings, missing, room)
    room.attach(dataset)
    actors: set[bytes] = set()
    try:
        batches = dataset.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0)
        for batch in batches:
            row = ShardRow.of(batch)
            actors.add(row.actor)
            yield row.shard, Outcome.parse(row.outcome)
            if room.is_too_large:
                return
    finally:
        room.end()
        _end_actors(actors - {b""})


def _end_actors(handles: Iterable[bytes]) -> None:
    """End the actors of an execution, and free their GPUs.

    Ray Data drops its references to them, and whoever keeps another one keeps the GPU.
    """
    import ray

    for handle in handles:
        ray.kill(cloudpickle.loads(handle))


def _pipeline(settings: Settings, missing: Sequence[Shard], room: Room) -> Dataset:
    import ray.data  # seconds, and only where there is a pass

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A lost process costs the shards that it had, no more: they are tried again by the pass.
    context.max_errored_blocks = -1
    context.execution_no_progress_timeout_s = ROOM_S
    actors = room.begin()
    # Not by `from_arrow`, which asks for a whole CPU to look at them.
    rows = [ShardRow(shard).block().to_pylist()[0] for shard in missing]
    tasks = ray.data.TaskPoolStrategy(size=room.cpus)
    on_cpus: dict[str, Any] = {
        "num_cpus": DATA_CPUS,
        "max_retries": 0,
        "scheduling_strategy": "SPREAD",
    }
    shared: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        partial(read_images, settings=settings), compute=tasks, **shared, **on_cpus
    )
    if need_models(settings.jobs[shard.key] for shard in missing):
        # Actors on CPUs compute with several threads each, so there are as many as fit.
        most = len(missing) if room.actor.gpu else min(actors, len(missing))
        dataset = dataset.map_batches(
            ComputeStep,
            fn_constructor_args=(settings,),
            compute=ray.data.ActorPoolStrategy(
                min_size=1,
                max_size=most,
                initial_size=min(actors, most),
                max_tasks_in_flight_per_actor=TASKS_PER_ACTOR,
            ),
            num_cpus=room.actor.cpu,
            num_gpus=room.actor.gpu or None,
            memory=room.actor.memory or None,
            accelerator_type=room.actor.accelerator or None,
            max_restarts=ACTOR_RESTARTS,
            max_task_retries=0,
            **shared,
        )
    return dataset.map_batches(
        partial(write_file, settings=settings), compute=tasks, **shared, **on_cpus
    )
