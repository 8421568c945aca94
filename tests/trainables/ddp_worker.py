"""One of several workers of a data-parallel training, for test_train.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from search_spaces import Space
from tests.trainables.small import point
from trainables.points.inputs import Inputs
from trainables.training.context import LocalContext
from trainables.training.train import train_point


class WorkerContext:
    """Gloo between processes; rank 0 keeps checkpoints in a plain directory."""

    accumulation_factor = 1

    def __init__(self, directory: Path, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size
        self.device = torch.device("cpu")
        self._local = LocalContext(directory / f"rank{rank}")
        self._shared = directory / "rank0" / "checkpoint"

    def prepare(self, module: nn.Module) -> nn.Module:
        return DistributedDataParallel(module)

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        assert checkpoint is None or self.rank == 0
        self._local.report(metrics, checkpoint)

    def must_checkpoint(self, step: int) -> bool:
        return False

    def latest_checkpoint(self) -> Path | None:
        return self._shared if self._shared.exists() else None


def main() -> None:
    root, rank, world_size = Path(sys.argv[1]), *sys.argv[2:4]
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{root / 'rendezvous'}",
        rank=int(rank),
        world_size=int(world_size),
    )
    given = json.loads((root / "given.json").read_text())
    space = Space.model_validate(given["space"])
    inputs = Inputs(**{name: Path(path) for name, path in given["inputs"].items()})
    for scenario in sys.argv[4:]:
        context = WorkerContext(root / f"{scenario}-run", int(rank), int(world_size))
        train_point(space, point(space, scenario), inputs, root / scenario, context)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
