"""Does a pass grow with the GPUs? Simulated ones: an actor sleeps in place of computing.

    python -m tests.benchmarks.gpu_actors [--gpus 1 2 4] [--seconds 1.0] [--shards 24]

Per number of GPUs: a Ray of its own, a pass over so many shards per GPU, and shards per second
between the first and the last one, as a share of what the sleeping alone allows. Also the bytes
that came to this process, which drives the pass, and those that were stored.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow as pa
import ray
import torch

from orchestrator.execution.backends.local import LocalBackend
from orchestrator.execution.failures import JobFailure
from orchestrator.execution.features import stream as stream_module
from orchestrator.execution.features.run_pass import run_pass
from orchestrator.execution.features.steps import ComputeStep, ShardRow
from orchestrator.execution.features.stream import Room
from orchestrator.execution.job_run import run_job
from orchestrator.execution.job_steps import Settings
from orchestrator.plan.jobs import Job, Plan
from orchestrator.plan.room import Ask
from orchestrator.storage.store import Store
from search_spaces import operating_points
from tests.benchmarks.full_size import save_teacher, space_with
from trainables.training.precompute import ShardModel

SHARD_IMAGES = 16
TOKENS, WIDTH = 257, 1024


class Sleeper(ShardModel):
    """Sleeps, and gives tokens of CLIP ViT-L/14's size."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def compute(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        time.sleep(self._seconds)
        return {"tokens": torch.zeros(len(images), TOKENS, WIDTH)}


def simulated(seconds: float) -> type[ComputeStep]:
    class SleepingStep(ComputeStep):
        def _load(self, job: Job) -> ShardModel:
            return Sleeper(seconds)

    return SleepingStep


def measure(root: Path, gpus: int, seconds: float, shards: int) -> None:
    images = gpus * shards * SHARD_IMAGES
    space = space_with(root / "teacher", images, SHARD_IMAGES)
    resources = space.resources.model_copy(update={"gpus_per_worker": 1.0})
    space = space.model_copy(update={"resources": resources})
    storage = root / f"storage-{gpus}"
    plan = Plan(space, operating_points(space), {}, Store(str(storage)))
    settings = Settings(space, str(storage), plan.jobs, {})
    world, features = plan.stages.train_images(), plan.stages.features()
    run_job(settings, world.key, lambda: LocalBackend(settings), lambda metrics: None)

    ray.init(num_cpus=4, num_gpus=gpus, include_dashboard=False, log_to_driver=False)
    stream_module.ComputeStep = simulated(seconds)  # type: ignore[attr-defined]
    received, row_of = [0], ShardRow.of

    def counted(block: pa.Table) -> ShardRow:
        received[0] += block.nbytes
        return row_of(block)

    ShardRow.of = counted  # type: ignore[method-assign]
    done: list[float] = []
    failed: list[JobFailure | None] = []
    room = Room(4, gpus, Ask(1, 0.05))
    read_before = psutil.Process().io_counters()
    run_pass(
        settings,
        [plan.jobs[features.key]],
        room,
        lambda key, failure: failed.append(failure),
        lambda key, count, total: done.append(time.perf_counter()),
        lambda key, reason: None,
    )
    read_after = psutil.Process().io_counters()
    ShardRow.of = row_of  # type: ignore[method-assign]
    ray.shutdown()
    assert failed == [None], failed
    stage = Store(str(storage)).fetch(features.path)
    stored = sum(file.stat().st_size for file in stage.rglob("*.parquet"))
    # Every actor has started after its first shards.
    skipped = 3 * gpus
    speed = (len(done) - skipped - 1) / (done[-1] - done[skipped])
    print(
        f"{gpus} GPUs: {speed:.2f} shards/s, {speed * seconds / gpus:.2f} of linear; "
        f"{stored / 2**20:.0f} MiB stored, {received[0] / 2**10:.0f} KiB came to the driver, which "
        f"read {(read_after.read_chars - read_before.read_chars) / 2**20:.1f} MiB and wrote "
        f"{(read_after.write_chars - read_before.write_chars) / 2**20:.1f} MiB in all",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--shards", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        save_teacher(Path(directory) / "teacher")
        for gpus in options.gpus:
            measure(Path(directory), gpus, options.seconds, options.shards)


if __name__ == "__main__":
    main()
