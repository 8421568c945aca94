"""Teacher features by the project's Ray Data pass against a bare loop over the same teacher.

    python -m tests.benchmarks.features [--images 48] [--shard 8] [--gpu]

CLIP ViT-L/14 with random weights on scenes of 256 x 256. The pass decodes the stored images, runs
the teacher in an actor and writes Parquet; it is timed from its first finished shard to its last,
so the start of Ray and the loading of the weights do not count. The bare loop runs the teacher on
the same images, decoded before, in batches of the same size, once before and once after. By the
clock the pass has a second core, on which it reads and writes. The ratio by CPU time takes all
processes of Ray into account and does not depend on what else the machine does; on a GPU look at
the ratio by the clock.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import psutil
import ray
import torch

from orchestrator.execution.backends.local import LocalBackend
from orchestrator.execution.failures import JobFailure
from orchestrator.execution.features.run_pass import run_pass
from orchestrator.execution.features.stream import Room
from orchestrator.execution.job_run import run_job
from orchestrator.execution.job_steps import Settings
from orchestrator.plan.jobs import Plan
from orchestrator.plan.room import Ask
from orchestrator.storage.store import Store
from search_spaces import operating_points
from tests.benchmarks.full_size import save_teacher, space_with
from trainables.datasets.batches import in_order
from trainables.datasets.rows import Rows
from trainables.encoders.load import load_tower
from trainables.points.building import complete_encoder


def cpu_seconds() -> float:
    """CPU time of this process and all below it."""
    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def bare(batches: list[torch.Tensor], teacher: torch.nn.Module) -> tuple[float, float]:
    """Seconds and CPU seconds per image of the teacher alone."""
    started, worked = time.perf_counter(), time.process_time()
    with torch.no_grad():
        for images in batches:
            teacher(images, tokens=False)
    if batches[0].is_cuda:
        torch.cuda.synchronize()
    n = sum(len(images) for images in batches)
    return (time.perf_counter() - started) / n, (time.process_time() - worked) / n


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--shard", type=int, default=8)
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        save_teacher(root / "teacher")
        space = space_with(root / "teacher", options.images, options.shard)
        if options.gpu:
            resources = space.resources.model_copy(update={"gpus_per_worker": 1.0})
            space = space.model_copy(update={"resources": resources})
        storage = str(root / "storage")
        plan = Plan(space, operating_points(space), {}, Store(storage))
        settings = Settings(space, storage, plan.jobs, {})
        world, features = plan.stages.train_images(), plan.stages.features()
        run_job(settings, world.key, lambda: LocalBackend(settings), lambda metrics: None)

        path = settings.store.fetch(world.path)
        teacher = complete_encoder(space, load_tower(space.teacher.model))
        teacher = teacher.to("cuda" if options.gpu else "cpu")
        rows = Rows("train", ("image",), path, None, None, options.shard)
        batches = []
        for batch in in_order(rows, options.shard):
            assert batch.image is not None
            batches.append(batch.image.to("cuda" if options.gpu else "cpu"))
        before = bare(batches, teacher)

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        progress: list[tuple[float, float]] = []
        failed: list[JobFailure | None] = []
        run_pass(
            settings,
            [plan.jobs[features.key]],
            Room(2, 1, Ask(float(options.gpu), 0.05)),
            lambda key, failure: failed.append(failure),
            lambda key, done, total: progress.append((time.perf_counter(), cpu_seconds())),
            lambda key, reason: None,
        )
        assert failed == [None], failed
        ray.shutdown()
        after = bare(batches, teacher)
    # The training shards come first, the validation image's last.
    first, last = progress[0], progress[options.images // options.shard - 1]
    images = options.images - options.shard
    for name, place in (("by the clock", 0), ("by CPU time", 1)):
        spent = (last[place] - first[place]) / images
        alone = (before[place] + after[place]) / 2
        print(
            f"{name}: pass {1 / spent:.3f} images/s, bare loop {1 / before[place]:.3f} before and "
            f"{1 / after[place]:.3f} after, ratio {alone / spent:.2f}"
        )


if __name__ == "__main__":
    main()
