"""Why a job failed, from the error's type and the nodes still alive."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from ray.exceptions import (
    ActorUnavailableError,
    GetTimeoutError,
    LocalRayletDiedError,
    NodeDiedError,
    RayActorError,
    RayTaskError,
    UnserializableException,
    WorkerCrashedError,
)

from orchestrator.execution.cluster import is_one_unreachable, node_ids, node_of_actor
from orchestrator.execution.environment import (
    environment_in,
    is_disk_full,
    is_of_client,
    line_of,
)
from orchestrator.storage.lease import LeaseLostError

MACHINE_LOSSES = 100
"""Times that a job may lose its machine; more often, something else is wrong."""
ROOM_S = 24 * 3600.0
"""Seconds that a job may wait for room on the cluster at a time."""
NODE_DEATH_S = 60.0
"""Seconds to wait for Ray to report a node's death. Ray reports it only after failed health checks,
but a broken connection at once."""
NO_WORKERS = "WorkerGroupStartupTimeoutError"
BROKEN_START = "WorkerGroupStartupFailedError"
NO_ANSWER = "WorkerHealthCheckTimeoutError"
"""Ray Train's errors where workers found no room, died while they started, or are stopped. By name:
the driver does not import Ray Train."""
NO_MOVEMENT = "ExecutionTimeoutError"
"""Ray Data's where nothing found room; slow steps end themselves before (silence.py)."""
_HOST: Final = "bridgesweep_host"
"""Attribute of an error: the name of the machine whose process has raised it."""
_DEVICE = re.compile(r"\bCUDA error\b|\bNo CUDA GPUs\b|\bcuDNN error\b|\bNVML\b")
_CONNECTION = re.compile(r"\bgloo\b|\bNCCL\b|connection (reset|closed)|broken pipe", re.IGNORECASE)


class Cause(StrEnum):
    """What made a job fail."""

    MACHINE_LOST = "its machine was lost"
    UNFIT_NODE = "its node sees other files than the driver, or does not answer"
    PROCESS_DIED = "its process died (killed, or out of memory)"
    SILENT = "no progress"
    """Its process ended itself (silence.py)."""
    NO_ROOM = "no room on the cluster for its workers"
    OUT_OF_MEMORY = "out of memory"
    DEVICE = "its GPU failed"
    UNREACHABLE = "a file, the storage or the network failed"
    ERROR = "an error"
    """Of its code or its data: it would come again."""


@dataclass(frozen=True)
class JobFailure:
    """Why a job failed.

    Attributes:
        reason: one line.
        environment: what failed around the job (environment.py); None if nothing did.
        host: name of the machine where it failed; empty if that is not known.
    """

    cause: Cause
    reason: str
    environment: str | None = None
    host: str = ""

    @classmethod
    def of_caught(cls, error: Exception) -> Self:
        """Why work failed in a process that lives on and has caught an error."""
        environment = environment_in(error)
        return cls(cause_of_type(error), line_of(error), environment, socket.gethostname())


class GaveUpError(RuntimeError):
    """A back end has tried a job as often as it may; the runner must not try it again.

    Args:
        failure: the last one.
    """

    def __init__(self, failure: JobFailure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return self.failure.reason


class OutOfHostMemoryError(RayActorError):
    """Ray has killed a trial's process, as the memory of its node is short."""


class UnfitNodeError(RuntimeError):
    """A process does not work, as its node may see other files than the driver (fit_nodes.py)."""


class Tries:
    """Counts the failures of one thing, and says whether it is tried again.

    Lost machines and unfit nodes cost no try, nor does waiting for room, which ends after `ROOM_S`;
    what ran out of memory is tried once more; an error of code or data is never tried again.

    Args:
        max_failures: after which it is tried again.
    """

    def __init__(self, max_failures: int) -> None:
        self._left, self._losses_left = max_failures, MACHINE_LOSSES
        self._has_run_out_of_memory = False
        self._waits_since: float | None = None
        """Since when it has found no room, by `time.monotonic`."""

    def again(self, cause: Cause) -> bool:
        """Whether it is tried again after a failure."""
        if cause is Cause.ERROR:
            return False
        if cause is Cause.NO_ROOM:
            self._waits_since = self._waits_since or time.monotonic()
            return time.monotonic() - self._waits_since < ROOM_S
        self._waits_since = None
        if cause is Cause.OUT_OF_MEMORY:
            is_first, self._has_run_out_of_memory = not self._has_run_out_of_memory, True
            return is_first
        if cause in (Cause.MACHINE_LOST, Cause.UNFIT_NODE):
            self._losses_left -= 1
            return self._losses_left >= 0
        self._left -= 1
        return self._left >= 0


def original(error: BaseException) -> BaseException:
    """The error that was raised where the work was done."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        return original(error.cause)
    # Ray Train: of a group of workers, of a health check, of the training function.
    workers = getattr(error, "worker_failures", None)
    if workers:
        errors = [original(failure) for failure in workers.values()]
        # Where one rank dies or fails, the others fail with broken connections.
        return min(errors, key=lambda e: (not isinstance(e, RayActorError), _has_lost_peer(e)))
    for name in ("controller_failure", "health_check_failure", "_base_exc"):
        inner = getattr(error, name, None)
        if isinstance(inner, BaseException):
            return original(inner)
    return error


@contextlib.contextmanager
def host_noted() -> Iterator[None]:
    """Note in an error of the context on which machine it was raised; Ray hands the note on."""
    try:
        yield
    except Exception as error:
        setattr(error, _HOST, socket.gethostname())
        raise


def host_of(error: BaseException) -> str:
    """Name of the machine whose process has raised an error; empty if none has noted it."""
    return str(getattr(original(error), _HOST, ""))


def cause_of(error: BaseException | None, nodes_before: frozenset[str]) -> Cause:
    """Why a job failed.

    Args:
        error: None if its process could not say.
        nodes_before: ids of the nodes that were alive when it started.
    """
    error = None if error is None else original(error)
    if isinstance(error, GaveUpError):
        return error.failure.cause
    name = type(error).__name__
    if name in (NO_WORKERS, NO_MOVEMENT):
        return Cause.NO_ROOM
    if name == NO_ANSWER or isinstance(error, GetTimeoutError):
        return Cause.SILENT
    if isinstance(error, OutOfHostMemoryError):
        return Cause.OUT_OF_MEMORY
    if isinstance(error, (NodeDiedError, LocalRayletDiedError)):
        return Cause.MACHINE_LOST
    is_broken = (
        isinstance(error, ActorUnavailableError) or name == BROKEN_START or _has_lost_peer(error)
    )
    if error is None or is_broken or isinstance(error, (RayActorError, WorkerCrashedError)):
        is_preempted = isinstance(error, RayActorError) and error.preempted
        patience_s = NODE_DEATH_S if is_broken else 0.0
        actor_id = error.actor_id if isinstance(error, RayActorError) else None
        node = node_of_actor(actor_id) if actor_id else None
        # Of other nodes' losses no actor dies; an autoscaler takes idle nodes away all the time.
        nodes = frozenset({node}) if node else nodes_before
        is_lost = is_preempted or _is_one_lost(nodes, patience_s)
        return Cause.MACHINE_LOST if is_lost else Cause.PROCESS_DIED
    return cause_of_type(error)


def cause_of_type(error: BaseException) -> Cause:
    """Why a process failed that lives on and has caught an error."""
    if isinstance(error, UnfitNodeError):
        return Cause.UNFIT_NODE
    if isinstance(error, UnserializableException):  # of an extension, which Ray cannot hand on
        return Cause.ERROR
    # By name, as the driver does not import torch: its own, Ray's and CUDA's.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Cause.OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error):
        return Cause.OUT_OF_MEMORY  # torch has no type for the host's memory
    if type(error).__name__ == "AcceleratorError" or (
        isinstance(error, RuntimeError) and _DEVICE.search(str(error))
    ):
        return Cause.DEVICE
    # Train's errors are none of `RayError`.
    is_of_ray = type(error).__module__.partition(".")[0] == "ray"
    is_unreachable = (
        (is_of_ray and not isinstance(error, RayTaskError))
        or isinstance(error, (OSError, LeaseLostError))
        or is_of_client(error)
        or is_disk_full(error)
    )
    return Cause.UNREACHABLE if is_unreachable else Cause.ERROR


def _has_lost_peer(error: BaseException | None) -> bool:
    """Whether a worker has lost the connection to another one, as torch tells it."""
    if not isinstance(error, RuntimeError):
        return False
    return type(error).__name__.startswith("Dist") or bool(_CONNECTION.search(str(error)))


def _is_one_lost(nodes: frozenset[str], patience_s: float) -> bool:
    """Whether one of some nodes is dead by now, or dies while this waits."""
    end = time.monotonic() + patience_s
    while nodes <= node_ids():
        if time.monotonic() >= end:
            return False
        time.sleep(1)
    return True


def is_one_lost(nodes: frozenset[str]) -> bool:
    """Whether one of some nodes is lost; of one that takes no connection, Ray's word is waited for.

    Ray may learn of a lost node long after its processes' work has failed.

    Args:
        nodes: ids of the nodes that were alive before.
    """
    return _is_one_lost(nodes, NODE_DEATH_S if is_one_unreachable(nodes) else 0.0)


def reason_of(error: BaseException | None, cause: Cause) -> str:
    """One line about a failure."""
    if error is None or cause in (Cause.MACHINE_LOST, Cause.PROCESS_DIED, Cause.NO_ROOM):
        return str(cause)
    error = original(error)
    return str(error) if isinstance(error, GaveUpError) else line_of(error)
