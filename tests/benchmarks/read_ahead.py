"""Images/s of training that reads ahead against training that reads between its steps.

    python -m tests.benchmarks.read_ahead [--images 1024] [--steps 60] [--rounds 3] [--wait 20]

Scenes of 128 x 128 pixels, stored as PNG, of which nothing stays in memory. Both train in turn:

    train    the demo's codec, batches of 16, on this machine's CPU with one thread
    wait     no training: each batch of 16 is followed by a pause of --wait milliseconds, as of a
             GPU's step that leaves the CPU alone
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import torch

import trainables.training.loop
from search_spaces import load_space
from trainables.codecs import build_codec
from trainables.datasets.batches import Batches
from trainables.datasets.read_ahead import read_ahead
from trainables.datasets.rows import Batch, Rows
from trainables.datasets.worlds.write import write_world
from trainables.scenarios.base_codec import CodecLearner
from trainables.tasks import scene_tasks
from trainables.training.context import LocalContext
from trainables.training.loop import fit

T = TypeVar("T")
BATCH, LMBDA, SHARD = 16, 0.00018, 512


def between_steps(items: Iterable[T]) -> Generator[T]:
    """The items, each computed when it is needed."""
    yield from items


def rows_of(world: Path, split: str) -> Rows:
    """The images of a split, none of which stays in memory."""
    return Rows(split, ("image",), world, None, None, SHARD, room=0)


def train(world: Path, steps: int) -> None:
    """Train the demo's codec."""
    torch.manual_seed(0)
    (codec,) = load_space("demo").codecs
    spec = codec.train.model_copy(update={"steps": steps, "validate_every": steps})
    learner = CodecLearner(build_codec(codec), {0: LMBDA}, spec.lr)
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        sources = [rows_of(world, "train")], [rows_of(world, "val")]
        fit(learner, spec, *sources, out, LocalContext(out / "run"), seed=0, about={})


def wait(
    world: Path,
    steps: int,
    seconds: float,
    read: Callable[[Iterable[Batch]], Generator[Batch]],
) -> None:
    """Read batches, and pause after each."""
    batches = Batches(rows_of(world, "train"), BATCH, seed=0)
    with closing(read(batches.read(step) for step in range(steps))) as reader:
        for _ in reader:
            time.sleep(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wait", type=float, default=20.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"n_train": options.images, "n_val": 16, "n_test": 1, "n_episodes": 1}
    with tempfile.TemporaryDirectory() as directory:
        world = Path(directory)
        write_world(world, scene_tasks(), size=128, seed=0, **sizes)
        for kind in ("train", "wait"):
            ratios, speeds = [], []
            for _ in range(options.rounds):
                seconds = []
                for read in (read_ahead, between_steps):
                    started = time.perf_counter()
                    if kind == "train":
                        vars(trainables.training.loop)["read_ahead"] = read
                        train(world, options.steps)
                    else:
                        wait(world, 4 * options.steps, options.wait / 1e3, read)
                    seconds.append(time.perf_counter() - started)
                ratios.append(seconds[1] / seconds[0])
                steps = options.steps if kind == "train" else 4 * options.steps
                speeds.append([BATCH * steps / value for value in seconds])
            ahead, between = (statistics.median(column) for column in zip(*speeds, strict=True))
            print(f"{kind:6} ahead {ahead:7.1f} images/s, between steps {between:7.1f} images/s")
            print(f"{'':6} ratio {statistics.median(ratios):.2f} (median of the rounds)")


if __name__ == "__main__":
    main()
