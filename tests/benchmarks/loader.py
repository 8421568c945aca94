"""Does reading cached latents and features keep up with a d1 step on a GPU?

    python -m tests.benchmarks.loader [--images 2048] [--tokens] [--tflops 125]

Writes random rows of the paper's sizes as the project stores them (latents 320 x 16 x 16, pooled
768, with --tokens 257 x 1024 as well, half precision), and reads two epochs of shuffled batches of
32 with the project's own reader in one process. A GPU's step time is assumed: the MACs of a d1 step
over what the GPU sustains, --tflops (125: 40 % of the 312 of an A100 in bf16). Batches are in half
precision: float32 is made of them on the GPU.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from trainables.commands.complexity import PAPER
from trainables.commands.costs import complexity
from trainables.datasets.arrays import tensor_column
from trainables.datasets.batches import Batches
from trainables.datasets.images.image_store import ShardReport, image_column
from trainables.datasets.rows import Rows, part_file
from trainables.datasets.shards import write_shard
from trainables.datasets.worlds.write import write_world
from trainables.tasks import scene_tasks

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "latents": {"y_hat": (320, 16, 16)},
    "features": {"pooled": (768,)},
}
TOKENS = (257, 1024)


def write(root: Path, images: int, shard_size: int, tokens: bool) -> None:
    """The parts of all shards, with the image ids of a world of tiny scenes."""
    write_world(
        root / "world",
        scene_tasks(),
        size=64,
        seed=0,
        n_train=images,
        n_val=1,
        n_test=1,
        n_episodes=1,
    )
    ids = image_column(root / "world", "train", "image_id")
    generator = np.random.default_rng(0)
    for kind, shapes in SHAPES.items():
        wanted = dict(shapes)
        if tokens and kind == "features":
            wanted["tokens"] = TOKENS
        for shard, start in enumerate(range(0, images, shard_size)):
            shard_ids = ids.slice(start, shard_size)
            made = [
                tensor_column(
                    name,
                    generator.standard_normal((len(shard_ids), *shape), np.float32).astype("f2"),
                )
                for name, shape in wanted.items()
            ]
            schema = pa.schema([pa.field("image_id", pa.string()), *(field for field, _ in made)])
            columns = [shard_ids.combine_chunks(), *(array for _, array in made)]
            file = part_file(root / kind, "train", shard)
            table = pa.Table.from_arrays(columns, schema=schema)
            write_shard(ShardReport(len(shard_ids), []).attached(table), file)


def step_gmac() -> float:
    """GMAC of a d1 step per image, from the counted parts: forward, and backward to the neck.

    Backward takes as much as forward for the frozen blocks, and twice as much for the neck.
    """
    parts = {part.part: part.macs for part in complexity(PAPER)[0]}
    blocks = parts["teacher"] - parts["encoder_skipped"]
    return (2 * blocks + 3 * parts["neck"]) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", action="store_true")
    parser.add_argument("--tflops", type=float, default=125.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shard_size = PAPER.data.shard_size
    columns = ("y_hat", "pooled", "classes", *(["tokens"] if options.tokens else []))
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        write(root, options.images, shard_size, options.tokens)
        sources = (root / "world", root / "latents", root / "features", shard_size)
        batches = Batches(Rows("train", columns, *sources), options.batch, 0)
        steps = 2 * options.images // options.batch
        read = 0
        started, worked = time.perf_counter(), time.process_time()
        for step in range(steps):
            batch = batches.read(step)
            read += sum(getattr(batch, name).numel() * 2 for name in columns if name != "classes")
        seconds, core = time.perf_counter() - started, time.process_time() - worked
    images = steps * options.batch
    gmac = step_gmac()
    gpu = options.tflops * 1e3 / (2 * gmac)
    print(f"loader alone:  {images / seconds:9.0f} images/s, {read / seconds / 1e6:.0f} MB/s")
    print(f"by CPU time:   {images / core:9.0f} images/s of one core")
    print(f"assumed step:  {gpu:9.0f} images/s ({gmac:.0f} GMAC at {options.tflops:g} TFLOP/s)")
    ratios = images / seconds / gpu, images / core / gpu
    print(f"ratio:         {ratios[0]:9.1f}, by CPU time {ratios[1]:.1f}")


if __name__ == "__main__":
    main()
