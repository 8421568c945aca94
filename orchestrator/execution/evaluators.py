"""Evaluation where workers train: actors that hold an MLLM, and who has which.

    trial  --lend--> Pool --> an Evaluator, if possible one that holds the MLLM already
    trial  --evaluate--> Evaluator --shards, then the stage--> storage
    runner --keep--> Pool: idle evaluators go where their room is needed for training

An evaluator takes one worker's share of the cluster, GPU included. A trial holds as many as it has
workers, and only after they are gone, so both fit where the schedule lets the trial run. An
evaluator that is killed is started again by Ray and goes on from its shards. All of them end with
the driver.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.execution import worker as trial
from orchestrator.execution.worker import Settings
from orchestrator.plan.resources import worker_resources
from search_spaces import Measurement, Stage


class Evaluator:
    """Measures operating points, one after the other; the MLLM stays in its process.

    Args:
        settings: of the sweep.
        device: where models run.
    """

    def __init__(self, settings: Settings, device: str) -> None:
        from orchestrator.execution.backends import use_threads

        use_threads(settings)
        self._settings, self._device = settings, device

    def evaluate(self, key: str, measurement: Measurement, stage: Stage) -> None:
        """Evaluate the point of a job and commit the stage."""
        job = self._settings.jobs[key]
        trial.evaluate(self._settings, job, measurement, stage, self._device, lambda metrics: None)


@dataclass
class _Lent:
    actor: Any
    job: str
    answerer: str


class Pool:
    """Lends evaluators out; an actor of its own, which needs no CPU.

    Args:
        settings: of the sweep.
        device: where models run.
    """

    def __init__(self, settings: Settings, device: str) -> None:
        self._settings, self._device = settings, device
        self._lent: dict[str, _Lent] = {}
        self._idle: list[_Lent] = []

    def lend(self, job: str, stage: str, answerer: str) -> Any:
        """An evaluator for a stage of a job: an idle one, best one with that MLLM, or a new one."""
        if stage in self._lent:
            # The trial that had it died.
            _kill(self._lent.pop(stage))
        with_it = [one for one in self._idle if one.answerer == answerer]
        found = next(iter([*with_it, *self._idle]), None)
        if found is None:
            actor = self._start()
        else:
            self._idle.remove(found)
            actor = found.actor
        self._lent[stage] = _Lent(actor, job, answerer)
        return actor

    def give_back(self, stage: str) -> None:
        """The stage is made, or failed."""
        if stage in self._lent:
            self._idle.append(self._lent.pop(stage))

    def keep(self, n: int, running: frozenset[str]) -> None:
        """End what jobs hold that run no more, and idle ones until there are at most n in all."""
        for stage in [stage for stage, lent in self._lent.items() if lent.job not in running]:
            _kill(self._lent.pop(stage))
        while self._idle and len(self._lent) + len(self._idle) > n:
            _kill(self._idle.pop(0))

    def _start(self) -> Any:
        import ray

        ask = worker_resources(self._settings.space)
        remote: Any = ray.remote(Evaluator)
        return remote.options(
            num_cpus=ask["CPU"],
            num_gpus=ask.get("GPU", 0),
            scheduling_strategy="SPREAD",
            max_restarts=-1,
            max_task_retries=self._settings.space.resources.max_failures,
        ).remote(self._settings, self._device)


Keep = Callable[[int, frozenset[str]], None]


def open_pool(settings: Settings) -> Keep:
    """Start the pool of this driver's sweep, where its workers train; it ends with the driver.

    Returns:
        `Pool.keep`, which then returns at once.
    """
    import ray

    from orchestrator.execution.backends import device_of

    if not settings.space.resources.workers_per_point:
        return lambda n, running: None
    remote: Any = ray.remote(Pool)
    pool = remote.options(num_cpus=0, name=_name()).remote(settings, device_of(settings))
    told: list[tuple[int, frozenset[str]]] = []

    def keep(n: int, running: frozenset[str]) -> None:
        if told[-1:] != [(n, running)]:
            told[:] = [(n, running)]
            pool.keep.remote(n, running)

    return keep


@contextlib.contextmanager
def lent(job: str, stage: str, answerer: str) -> Iterator[Any]:
    """An evaluator of this driver's pool, from a trial."""
    import ray

    pool: Any = ray.get_actor(_name())
    actor: Any = ray.get(pool.lend.remote(job, stage, answerer))
    try:
        yield actor
    finally:
        ray.get(pool.give_back.remote(stage))


def _name() -> str:
    import ray

    return f"bridgesweep-evaluators-{ray.get_runtime_context().get_job_id()}"


def _kill(one: _Lent) -> None:
    import ray

    ray.kill(one.actor)
