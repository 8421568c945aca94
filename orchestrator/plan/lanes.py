"""Lanes: the processes of jobs that Ray Tune runs, and the room that is left beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Final

from orchestrator.plan.resources import Demand
from orchestrator.plan.room import Ask, Cluster, Group

_NOBODY: Final = Counter[Ask]()


class Lanes:
    """Counts processes of jobs in lanes, and of those that are ready for one; not thread-safe.

    Args:
        demands: of the jobs, by key.
        cluster: what there is.
        made: keys of the jobs whose stage is made, so that evaluations are left; the caller's set,
            which changes only while a job is counted neither as busy nor as ready.

    Attributes:
        cluster: may be replaced as nodes come and go.
        busy: processes in lanes.
        ready: processes of the jobs that are ready.
    """

    def __init__(
        self, demands: Mapping[str, Demand], cluster: Cluster, made: Set[str] = frozenset()
    ) -> None:
        self.cluster = cluster
        self._made = made
        self._demands: dict[str, Demand] = {}
        self._groups: frozenset[Group] = frozenset()
        self.add(demands)
        self.busy, self.ready = Counter[Ask](), Counter[Ask]()
        self._making = Counter[Ask]()
        """Processes in lanes whose job's stage is not made."""
        self._passes: Group = (Ask(), 0)

    def add(self, demands: Mapping[str, Demand]) -> None:
        """Add jobs, by key; those that are counted already keep their demand."""
        self._demands |= demands
        self._groups |= {demand.making for demand in demands.values()}

    def __contains__(self, key: str) -> bool:
        return key in self._demands

    def demand(self, key: str) -> Group:
        """The processes that a job has or starts with."""
        demand = self._demands[key]
        return demand.evaluating if key in self._made else demand.making

    def start(self, key: str, times: int = 1) -> None:
        """A job enters a lane, or leaves it (`times` -1)."""
        _add(self.busy, self.demand(key), times)
        if key not in self._made:
            _add(self._making, self.demand(key), times)

    def queue(self, key: str, times: int = 1) -> None:
        """A job becomes ready, or is ready no more (`times` -1)."""
        _add(self.ready, self.demand(key), times)

    def reserve(self, actor: Ask, count: int) -> None:
        """Set room aside for actors of passes, in all; their CPUs are set aside anyway."""
        self._passes = replace(actor, cpu=0.0), count

    def that_fit(self, group: Group) -> int:
        """How many more jobs of a demand have room; no more than there are jobs."""
        ask, count = group
        most = count * len(self._demands)
        return self.cluster.room_for(ask, (*self.busy.items(), self._passes), most) // count

    def could_fit(self, group: Group) -> bool:
        """Whether a job of a demand would have room if nobody else had any."""
        ask, count = group
        return self.cluster.room_for(ask, limit=count) == count

    def free(self) -> int:
        """How many more jobs have room, at most: of the demand that fits most often."""
        return max(map(self.that_fit, self._groups), default=0)

    @property
    def gpus_in_use(self) -> float:
        """GPUs of jobs in lanes and of passes."""
        actor, count = self._passes
        return actor.gpu * count + sum(ask.gpu * n for ask, n in self.busy.items())

    def actors_beside(self, actor: Ask, and_ready: bool) -> int:
        """How many actors of passes have room beside lanes, as of `Schedule`."""
        in_use = self.busy + (self.ready if and_ready else _NOBODY)
        return self.cluster.room_for(replace(actor, cpu=0.0), in_use.items())

    def evaluators_beside(self, evaluator: Ask) -> int:
        """How many evaluators have room beside jobs that make their stage."""
        return self.cluster.room_for(evaluator, (*self._making.items(), self._passes))


def _add(processes: Counter[Ask], group: Group, times: int) -> None:
    ask, count = group
    processes[ask] += times * count
    if not processes[ask]:
        del processes[ask]
