"""Evaluation where workers train: actors that hold an MLLM, and a pool that lends them out.

    trial  --lend--> Pool --> an Evaluator, if possible one that holds the MLLM already
    trial  --evaluate--> Evaluator --shards, then a stage per task--> storage
    runner --keep--> Pool: idle evaluators are ended when training needs their CPUs or GPU

An evaluator takes what `resources` ask for an evaluation; over several GPUs its MLLM is divided. A
trial borrows as many as they say, after its workers have ended. An evaluator that dies is replaced,
and the new one continues from the finished shards. The pool runs on the driver's machine and is
started again if it dies; then all evaluators are new. All of them end with the driver.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import ray
from ray.actor import ActorHandle, ActorProxy
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.execution.cluster import node_ids
from orchestrator.execution.devices import use_threads
from orchestrator.execution.failures import (
    NODE_DEATH_S,
    ROOM_S,
    Cause,
    GaveUpError,
    JobFailure,
    Tries,
    UnfitNodeError,
    host_noted,
)
from orchestrator.execution.fit_nodes import wait_until_fit
from orchestrator.execution.job_steps import Json, Settings, pass_name
from orchestrator.execution.silence import BACKSTOP_S, evaluate_watched, failure_of
from orchestrator.plan.jobs import EvaluationPass, PassPart
from orchestrator.plan.resources import LANE_SHARE, evaluation_ask, is_evaluated_in_trial
from search_spaces.specs.evaluation import EVALUATION

LOOK_S = 1.0
"""Seconds between two questions to an evaluator for its progress."""


class Standing(NamedTuple):
    """How far an evaluation is.

    Attributes:
        share: that is done, 0 to 1.
        waits_for: a line; empty unless it waits.
    """

    share: float
    waits_for: str = ""


class Evaluator:
    """Measures operating points, one after the other; the MLLM stays in its process.

    Args:
        settings: of the sweep.
    """

    def __init__(self, settings: Settings) -> None:
        use_threads(settings.space.resources.of(EVALUATION))
        self._standing = Standing(0.0)

    @ray.method
    def evaluate(
        self,
        settings: Settings,
        key: str,
        evaluation_pass: EvaluationPass,
        part: PassPart | None = None,
    ) -> None:
        """Evaluate the point of a job and commit the stages of the pass.

        Args:
            settings: with the job, which the sweep may not have had when this process started.
            key: of the job.
            part: as of `evaluate_job`.
        """
        self._standing = Standing(0.0)
        with host_noted():
            wait_until_fit(settings)
            evaluate_watched(settings, settings.jobs[key], evaluation_pass, self._show, part)

    @ray.method
    def standing(self) -> Standing:
        """How far the running evaluation is."""
        return self._standing

    def _show(self, metrics: Json) -> None:
        step, steps = metrics["step"], metrics["steps"]
        assert isinstance(step, int)
        assert isinstance(steps, int)
        waits_for = "" if steps else str(metrics["phase"])
        self._standing = Standing(step / steps if steps else 0.0, waits_for)


@dataclass
class _Loan:
    """An evaluator and who had it last.

    Attributes:
        started: is there once its process has started.
        job: key of the job that has or had it.
        answerer: the MLLM that it holds, or the encoder alone.
    """

    actor: ActorProxy[Evaluator]
    started: ray.ObjectRef[object]
    job: str
    answerer: str


class Pool:
    """Lends evaluators to trials; itself an actor that needs no CPU.

    Args:
        settings: of the sweep.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lent: dict[str, _Loan] = {}
        self._idle: list[_Loan] = []
        self._limit: float = float("inf")
        """Evaluators that have room, as the driver said last."""

    @ray.method
    def lend(self, job: str, pass_key: str, answerer: str) -> ActorProxy[Evaluator]:
        """Lend an evaluator: an idle one, preferably with that MLLM in memory, or a new one.

        Args:
            job: key of the job that evaluates.
            pass_key: of the evaluations' pass; names the loan.
            answerer: the MLLM that is needed.
        """
        if pass_key in self._lent:
            # The trial that had it died.
            _end(self._lent.pop(pass_key))
        warm = [loan for loan in self._idle if loan.answerer == answerer]
        if self._idle:
            idle = [*warm, *self._idle][0]
            self._idle.remove(idle)
            loan = replace(idle, job=job, answerer=answerer)
        else:
            loan = self._start(job, answerer)
        self._lent[pass_key] = loan
        return loan.actor

    @ray.method
    def give_back(self, pass_key: str, is_broken: bool) -> None:
        """End a loan.

        Args:
            is_broken: end the evaluator, too: after an error its memory or its GPU may be broken.
        """
        loan = self._lent.pop(pass_key, None)
        if loan is None:
            return
        if is_broken:
            _end(loan)
        else:
            self._idle.append(loan)
        # Another job may wait for the room of an idle one.
        self._end_surplus()

    @ray.method
    def keep(self, limit: int, running: frozenset[str]) -> None:
        """Kill evaluators lent to jobs that ended, and idle ones above the limit.

        Args:
            limit: evaluators, lent and idle, that have room on the cluster.
            running: keys of the jobs that run.
        """
        for pass_key in [key for key, loan in self._lent.items() if loan.job not in running]:
            _end(self._lent.pop(pass_key))
        self._limit = limit
        self._end_surplus()

    def _end_surplus(self) -> None:
        """End idle evaluators above the limit."""
        while self._idle and len(self._lent) + len(self._idle) > self._limit:
            _end(self._idle.pop(0))

    def _start(self, job: str, answerer: str) -> _Loan:
        resources = evaluation_ask(self._settings.space).ray_resources(LANE_SHARE)
        remote = ray.remote(Evaluator).options(
            num_cpus=resources.pop("CPU"),
            num_gpus=resources.pop("GPU", 0),
            memory=resources.pop("memory", None),
            resources=resources,
            scheduling_strategy="SPREAD",
            max_concurrency=2,  # `standing` answers while `evaluate` runs
        )
        actor = remote.remote(self._settings)
        return _Loan(actor, actor.__ray_ready__.remote(), job, answerer)  # type: ignore[union-attr]


class DriverPool:
    """The driver's hold on the pool of its sweep, which lives as long as this.

    Ray ends an actor as soon as nobody holds the handle that came of its start.
    """

    def __init__(self) -> None:
        self._pool: ActorProxy[Pool] | None = None
        self._last: tuple[int, frozenset[str]] | None = None

    def open(self, settings: Settings) -> None:
        """Start the pool, unless it runs, or all trials evaluate in their own processes."""
        if self._pool is not None or not any(
            job.evaluations and not is_evaluated_in_trial(settings.space, job)
            for job in settings.jobs.values()
        ):
            return
        here = ray.get_runtime_context().get_node_id()
        options = ray.remote(Pool).options(
            num_cpus=0,
            name=pool_name(),
            # The driver's node: if that is lost, so is the driver.
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
            max_restarts=-1,
            max_task_retries=-1,
        )
        self._pool = options.remote(replace(settings, jobs={}))

    def keep(self, limit: int, running: frozenset[str]) -> None:
        """Call `Pool.keep` if the pool runs; return at once."""
        if self._pool is not None and self._last != (limit, running):
            self._last = limit, running
            self._pool.keep.remote(limit, running)


@contextlib.contextmanager
def lent(job: str, pass_key: str, answerer: str) -> Iterator[ActorProxy[Evaluator]]:
    """Borrow an evaluator of this driver's pool, from a trial.

    Args:
        job, pass_key, answerer: of `Pool.lend`.
    """
    pool: ActorProxy[Pool] = ray.get_actor(pool_name())
    actor = ray.get(pool.lend.remote(job, pass_key, answerer))
    is_broken = True
    try:
        yield actor
        is_broken = False
    finally:
        ray.get(pool.give_back.remote(pass_key, is_broken))


def evaluate_in_pool(
    settings: Settings,
    job: str,
    evaluation_pass: EvaluationPass,
    report: Callable[[Standing], None],
    part: PassPart | None = None,
) -> None:
    """Evaluate in a borrowed evaluator, from a trial; replace one that dies.

    Args:
        job: key of the job.
        part: as of `evaluate_job`.
        report: called with how far it is, as soon as the evaluator has started.

    Raises:
        GaveUpError: evaluators died, or did not answer, `resources.max_failures` times and once
            more, on machines that were not lost; or none found room on the cluster within `ROOM_S`.
    """
    of_job = settings.only(settings.jobs[job])
    tries, loan = Tries(settings.space.resources.max_failures), pass_name(evaluation_pass, part)
    # Later than the evaluator ends itself, if its process can run at all.
    limit_s = settings.space.resources.silence_s + BACKSTOP_S + NODE_DEATH_S
    while True:
        nodes_before = node_ids()
        try:
            with lent(job, loan, evaluation_pass.answerer) as evaluator:
                result = evaluator.evaluate.remote(  # type: ignore[call-arg]
                    of_job, job, evaluation_pass, part
                )
                follow(evaluator, result, report, limit_s)
            return
        except (RayActorError, GetTimeoutError, OutOfMemoryError, UnfitNodeError) as error:
            failure = failure_of(error, nodes_before, settings.store, job, loan)
            if not tries.again(failure.cause):
                reason = f"its evaluator: {failure.reason}"
                raise GaveUpError(replace(failure, reason=reason)) from error


def follow(
    evaluator: ActorProxy[Evaluator],
    result: ray.ObjectRef[None],
    report: Callable[[Standing], None],
    limit_s: float,
) -> None:
    """Wait for the result of an evaluation, and report its progress.

    Raises:
        GaveUpError: the evaluator found no room on the cluster within `ROOM_S`.
        GetTimeoutError: it has started, and then did not answer for `limit_s` seconds.
    """
    has_started, patience_s = False, ROOM_S
    while not ray.wait([result], timeout=LOOK_S)[0]:
        question, began = evaluator.standing.remote(), time.monotonic()
        while not (ready := ray.wait([result, question], timeout=LOOK_S)[0]):
            if time.monotonic() - began > patience_s:
                if has_started:
                    raise GetTimeoutError(f"no answer for {limit_s:g} s")
                raise GaveUpError(JobFailure(Cause.NO_ROOM, str(Cause.NO_ROOM)))
        if question in ready:
            has_started, patience_s = True, limit_s
            report(ray.get(question))
    ray.get(result)


def _end(loan: _Loan) -> None:
    """End an evaluator, in a thread and not before it has started.

    Ray loses the CPUs and GPUs of an actor that is killed in the moment in which it gets them
    (ray-project/ray#61072), until the pool ends.
    """

    def kill() -> None:
        ray.wait([loan.started], timeout=ROOM_S)
        ray.kill(cast("ActorHandle[Evaluator]", loan.actor))

    threading.Thread(target=kill, daemon=True, name="end evaluator").start()


def pool_name() -> str:
    """The pool's name in the cluster, where several drivers may run."""
    return f"bridgesweep-evaluators-{ray.get_runtime_context().get_job_id()}"
