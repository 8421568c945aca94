"""What finds room on the nodes of a cluster, counted node by node and GPU by GPU.

Processes are placed as Ray would place them at best: the largest first, each on the first node
that has room. A process stands on one node; a part of a GPU is a part of one GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_ROUNDING: Final = 1e-6
_ACCELERATOR: Final = "accelerator_type:"
"""Prefix of the resource by which Ray names the type of a node's GPUs."""
_PART: Final = 0.001
"""Of that resource, which only says where a process may stand."""


@dataclass(frozen=True, order=True)
class Ask:
    """What one process asks for.

    Attributes:
        gpu: a part of one GPU, or a number of whole ones.
        memory: bytes.
        accelerator: Ray's name of the GPU's type; empty for any.
    """

    gpu: float = 0.0
    cpu: float = 0.0
    memory: float = 0.0
    accelerator: str = ""

    def ray_resources(self, cpu_share: float = 1.0) -> dict[str, float]:
        """In Ray's names.

        Args:
            cpu_share: of each CPU that is asked for.
        """
        resources = {"CPU": self.cpu * cpu_share}
        if self.gpu:
            resources["GPU"] = self.gpu
        if self.memory:
            resources["memory"] = self.memory
        if self.accelerator:
            resources[_ACCELERATOR + self.accelerator] = _PART
        return resources

    def __str__(self) -> str:
        gpus = f" and {self.gpu:g} {self.accelerator or 'GPU'}" if self.gpu else ""
        memory = f" and {self.memory / 2**30:.3g} GiB" if self.memory else ""
        return f"{self.cpu:g} CPU{gpus}{memory}"


Group = tuple[Ask, int]
"""Processes that ask for the same, and how many."""


@dataclass(frozen=True)
class Node:
    """What a node has.

    Attributes:
        memory: bytes.
        accelerators: Ray's names of its GPUs' types.
    """

    cpu: float
    gpu: float = 0.0
    memory: float = float("inf")
    accelerators: frozenset[str] = frozenset()

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> Node:
        """From the resources that Ray lists of a node."""
        types = (name.removeprefix(_ACCELERATOR) for name in resources if _is_accelerator(name))
        return cls(
            resources.get("CPU", 0.0),
            resources.get("GPU", 0.0),
            resources.get("memory", float("inf")),
            frozenset(types),
        )

    def __str__(self) -> str:
        types = f" ({', '.join(sorted(self.accelerators))})" if self.accelerators else ""
        return f"{self.cpu:g} CPU and {self.gpu:g} GPU{types}"


def _is_accelerator(name: str) -> bool:
    return name.startswith(_ACCELERATOR)


@dataclass(frozen=True)
class Cluster:
    """The nodes of a cluster."""

    nodes: tuple[Node, ...]

    @classmethod
    def of(cls, nodes: Iterable[Mapping[str, float]]) -> Cluster:
        """From the resources that Ray lists of each node."""
        return cls(tuple(map(Node.of, nodes)))

    @property
    def cpus(self) -> float:
        """Of all nodes."""
        return sum(node.cpu for node in self.nodes)

    @property
    def gpus(self) -> float:
        """Of all nodes."""
        return sum(node.gpu for node in self.nodes)

    def room_for(self, ask: Ask, beside: Iterable[Group] = (), limit: int = 1_000_000) -> int:
        """How many processes find room beside others, at most `limit`.

        Args:
            beside: the others; those that do not fit themselves take what is left.
        """
        counts: dict[Ask, int] = {}
        for other, count in beside:
            counts[other] = counts.get(other, 0) + count
        groups = tuple(sorted((pair for pair in counts.items() if pair[1]), reverse=True))
        return _room_for(self.nodes, groups, ask, limit)


@lru_cache(maxsize=4096)
def _room_for(nodes: tuple[Node, ...], groups: Sequence[Group], ask: Ask, limit: int) -> int:
    rooms = [_Room(node) for node in nodes]
    for other, count in groups:
        _place(rooms, other, count)
    return _place(rooms, ask, limit)


def _place(rooms: Sequence[_Room], ask: Ask, count: int) -> int:
    """Place up to `count` processes; returns how many."""
    left = count
    for room in rooms:
        left -= room.take(ask, left)
    return count - left


class _Room:
    """What is left of a node."""

    def __init__(self, node: Node) -> None:
        self._cpu, self._memory = node.cpu, node.memory
        self._accelerators = node.accelerators
        self._gpus = [1.0] * int(node.gpu)

    def take(self, ask: Ask, most: int) -> int:
        """Place up to `most` processes here; returns how many."""
        if ask.accelerator and ask.accelerator not in self._accelerators:
            return 0
        count = min(most, _times(self._cpu, ask.cpu, most), _times(self._memory, ask.memory, most))
        if ask.gpu > 1:
            count = min(count, int(sum(gpu == 1 for gpu in self._gpus) // ask.gpu))
            for _ in range(round(count * ask.gpu)):
                self._gpus[self._gpus.index(1.0)] = 0.0
        elif ask.gpu:
            count = self._take_parts(ask.gpu, count)
        self._cpu -= count * ask.cpu
        self._memory -= count * ask.memory
        return count

    def _take_parts(self, part: float, most: int) -> int:
        """Take parts of GPUs, the fullest first; returns how many."""
        taken = 0
        for index in sorted(range(len(self._gpus)), key=self._gpus.__getitem__):
            count = _times(self._gpus[index], part, most - taken)
            self._gpus[index] -= count * part
            taken += count
        return taken


def _times(room: float, ask: float, most: int) -> int:
    """How often an ask fits, up to rounding, at most `most`."""
    if not ask or room == float("inf"):
        return most
    return max(0, min(most, int((room + _ROUNDING) / ask)))
