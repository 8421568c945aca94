"""The lanes of a schedule as the threads of a driver ask for them."""

from __future__ import annotations

import threading

from orchestrator.plan.lanes import Lanes
from orchestrator.plan.room import Ask, Cluster, Group


class SharedLanes:
    """Answers questions about room; safe to use from several threads.

    Args:
        lanes: changed only while the lock is held.
        lock: of the schedule.
    """

    def __init__(self, lanes: Lanes, lock: threading.RLock) -> None:
        self._lanes, self._lock = lanes, lock

    def actors_beside_lanes(self, actor: Ask, and_ready: bool = False) -> int:
        """How many actors of passes have room that no lane uses; their CPUs are set aside anyway.

        Args:
            and_ready: nor will use for jobs that are ready.
        """
        with self._lock:
            return self._lanes.actors_beside(actor, and_ready)

    def reserve(self, actor: Ask, count: int) -> None:
        """Set room aside for the actors of the passes of Ray Data, in all."""
        with self._lock:
            self._lanes.reserve(actor, count)

    def gpus_in_use(self) -> float:
        """GPUs of jobs in lanes and of passes."""
        with self._lock:
            return self._lanes.gpus_in_use

    def free_lanes(self) -> int:
        """How many more jobs have room, at most: of the demand that fits most often."""
        with self._lock:
            return self._lanes.free()

    def processes_that_could_run(self) -> list[Group]:
        """The processes in lanes, and those of ready jobs if there were room."""
        with self._lock:
            return list((self._lanes.busy + self._lanes.ready).items())

    def evaluators_beside_training(self, evaluator: Ask) -> int:
        """How many evaluators have room beside the jobs that train."""
        with self._lock:
            return self._lanes.evaluators_beside(evaluator)

    @property
    def cluster(self) -> Cluster:
        """What there is; may be replaced as nodes come and go."""
        return self._lanes.cluster

    @cluster.setter
    def cluster(self, cluster: Cluster) -> None:
        with self._lock:
            self._lanes.cluster = cluster
