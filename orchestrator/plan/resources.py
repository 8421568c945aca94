"""What jobs ask of Ray, and whether the cluster can ever give it.

A *lane* is room on the cluster for one job that Ray Tune runs: one operating point with all its
workers. A lane's CPU is asked for as 0.95: the rest of each CPU is what the actors of a Ray Data
pass ask for. So a pass always has room beside any number of lanes, on 2 CPUs as on 200, and
neither can wait for the other for ever. In the second or two where both compute, the operating
system shares the cores. GPUs are not shared: the schedule sets them aside (schedule.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search_spaces import Space

LANE_SHARE = 0.95
DATA_CPUS = 0.05
TRIAL_MEMORY = 700 * 2**20
"""Bytes that a process takes which only waits for workers, its imports most of all."""
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Ask:
    """Logical CPUs and GPUs, asked for or available."""

    cpu: float
    gpu: float = 0.0

    def times(self, n: float) -> Ask:
        """n times as much."""
        return Ask(self.cpu * n, self.gpu * n)

    def fits(self, room: Ask) -> bool:
        """Whether it fits into `room`, up to rounding."""
        return self.cpu <= room.cpu + _ROUNDING and self.gpu <= room.gpu + _ROUNDING

    def lanes(self, room: Ask, limit: int) -> int:
        """How often it fits into `room`, but at most `limit`."""
        return next((n for n in range(limit) if not self.times(n + 1).fits(room)), limit)


def worker_ask(space: Space) -> Ask:
    """What one worker takes of the cluster."""
    return Ask(space.resources.cpus_per_worker, space.resources.gpus_per_worker)


def lane_ask(space: Space) -> Ask:
    """What one lane takes of the cluster: an operating point with all its workers."""
    return worker_ask(space).times(max(1, space.resources.workers_per_point))


def worker_resources(space: Space) -> dict[str, float]:
    """What one worker asks Ray for; without workers, the trial's process."""
    resources = space.resources
    asked = {"CPU": resources.cpus_per_worker * LANE_SHARE}
    if resources.gpus_per_worker:
        asked["GPU"] = resources.gpus_per_worker
    return asked


def trial_resources(space: Space) -> dict[str, float]:
    """What the process of a Ray Tune trial asks Ray for.

    With Ray Train workers it asks for no CPU: a trial that held one while it waits for workers
    could wait for another trial that does the same. For its memory it asks, by which Ray spreads
    such processes over the nodes.
    """
    if space.resources.workers_per_point:
        return {"CPU": 0, "memory": TRIAL_MEMORY}
    return worker_resources(space)


def usable(space: Space, nodes: Sequence[Mapping[str, float]]) -> Ask:
    """What jobs can use of a cluster, where no worker stands on two nodes.

    The cluster's sum, but no more CPUs than whole lanes take, where the nodes' leftovers would add
    up to a lane that fits nowhere.

    Args:
        nodes: per node its `CPU` and `GPU`.
    """
    rooms = _rooms(nodes)
    total = Ask(sum(room.cpu for room in rooms), sum(room.gpu for room in rooms))
    lanes = _workers_that_fit(space, rooms) // max(1, space.resources.workers_per_point)
    lane = lane_ask(space)
    return total if not lane.times(lanes + 1).fits(total) else Ask(lane.cpu * lanes, total.gpu)


def _rooms(nodes: Sequence[Mapping[str, float]]) -> list[Ask]:
    return [Ask(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes]


def _workers_that_fit(space: Space, rooms: Sequence[Ask]) -> int:
    """How many workers find a place, each on one node."""
    worker = worker_ask(space)
    return sum(worker.lanes(room, int(room.cpu) + 1) for room in rooms)


def shortage(space: Space, nodes: Sequence[Mapping[str, float]]) -> str | None:
    """Why a point can never run on these nodes; None if it can.

    Args:
        nodes: per node its `CPU` and `GPU`.
    """
    resources = space.resources
    workers = max(1, resources.workers_per_point)
    rooms = _rooms(nodes)
    fitting = _workers_that_fit(space, rooms)
    if fitting >= workers:
        return None
    asked = f"{resources.cpus_per_worker} CPU"
    if resources.gpus_per_worker:
        asked += f" and {resources.gpus_per_worker:g} GPU"
    available = ", ".join(f"{room.cpu:g} CPU and {room.gpu:g} GPU" for room in rooms)
    return (
        f"resources: an operating point asks for {workers} x ({asked}) "
        f"(workers_per_point = {resources.workers_per_point}, "
        f"cpus_per_worker = {resources.cpus_per_worker}, "
        f"gpus_per_worker = {resources.gpus_per_worker:g}), but the cluster has room for "
        f"{fitting} of these; its nodes: {available}"
    )
