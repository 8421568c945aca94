"""d1 training images/s: with stored latents and teacher features, and recomputing them every step.

    stored:      Parquet -> y_hat, features -> neck -> partial encoder -> loss -> step
    recomputed:  Parquet -> image -> codec -> y_hat, teacher -> features -> neck -> ... -> step

Weights are random where that changes no timing. `python tests/benchmarks/d1_step.py [SPACE]`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from search_spaces import load_space
from trainables.codecs import build_codec, load_codec, save_codec
from trainables.data import Batch, Batches, Rows, part_file
from trainables.features import (
    CodecLatents,
    TeacherFeatures,
    shard_ranges,
)
from trainables.scenarios import NeckLearner, build_neck, complete_encoder
from trainables.text import read_text_weights, write_text_weights
from trainables.tower import load_tower
from trainables.world import write_world


def seconds_per_step(step: Callable[[int], None], steps: int) -> float:
    """Median wall time of a step, after three that do not count."""
    times = []
    for number in range(steps + 3):
        started = time.perf_counter()
        step(number)
        times.append(time.perf_counter() - started)
    return statistics.median(times[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", nargs="?", default="demo")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    space = load_space(options.space, options.overrides)
    spec = space.codecs[0]
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        world, features, latents = root / "world", root / "features", root / "latents"
        write_world(
            world,
            size=space.data.size,
            seed=0,
            n_train=options.images,
            n_val=1,
            n_test=1,
            n_episodes=1,
        )
        save_codec(build_codec(spec), root / "codec")
        writers = (
            (TeacherFeatures(space), features),
            (CodecLatents(spec, root / "codec"), latents),
        )
        for write, directory in writers:
            for shard, rows in enumerate(shard_ranges(world, "train", space.data.shard_size)):
                write(world, "train", rows, part_file(directory, "train", shard))
        write_text_weights(space, world, features / "text.safetensors")

        tower = load_tower(space.teacher.model)
        text = read_text_weights(features)
        neck = build_neck(space, spec, tower)
        learner = NeckLearner(space, neck, tower, text).train()
        teacher, codec = complete_encoder(space, tower), load_codec(spec, root / "codec")
        optimiser = torch.optim.Adam(neck.parameters(), lr=space.d1.lr, fused=True)
        # The middle of the schedule, where every term of the loss is there.
        middle = space.d1.steps // 2

        def train(batch: Batch) -> None:
            loss = learner(batch, middle)["loss"]
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(neck.parameters(), 1.0)
            optimiser.step()

        sources = (world, latents, features, space.data.shard_size)
        stored = Batches(Rows("train", learner.columns, *sources), space.d1.batch_size, 0)
        columns = ("image", *(c for c in learner.columns if c == "classes"))
        images = Batches(Rows("train", columns, *sources), space.d1.batch_size, 0)

        def recompute(step: int) -> None:
            batch = images.read(step)
            assert batch.image is not None
            with torch.no_grad():
                seen = teacher(batch.image)
                y_hat = codec.latents(batch.image)
            train(replace(batch, y_hat=y_hat, pooled=seen.pooled, tokens=seen.tokens))

        with_cache = seconds_per_step(lambda step: train(stored.read(step)), options.steps)
        without = seconds_per_step(recompute, options.steps)
    size = space.d1.batch_size
    print(f"stored latents and features: {size / with_cache:8.1f} images/s")
    print(f"recomputed in every step:    {size / without:8.1f} images/s")
    print(f"ratio:                       {without / with_cache:8.2f}")


if __name__ == "__main__":
    main()
