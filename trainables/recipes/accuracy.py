"""Accuracy of an MLLM on uncompressed scenes, by its own `generate`."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from torch import Tensor

from trainables.datasets.arrays import decode_image
from trainables.datasets.tensors import to_tensor
from trainables.encoders.bridge import Entry
from trainables.mllms import Mllm
from trainables.tasks import TASKS


def uncompressed_accuracy(mllm: Mllm, world: Path, split: str = "test") -> dict[str, float]:
    """Mean of every metric over a written world.

    Args:
        world: directory that `write_world` wrote.
        split: "val" or "test".

    Returns:
        "TASK/METRIC" -> value, and "TASK/samples" -> number of samples, for the tasks that occur.
    """
    images = pq.read_table(world / f"images_{split}.parquet", columns=["image_id", "png"])
    features: dict[str, Tensor] = {}
    for batch in images.to_batches(max_chunksize=64):
        pixels = to_tensor([decode_image(png) for png in batch["png"].to_pylist()])
        looked = mllm.look(Entry(pixels, None))
        features.update(zip(batch["image_id"].to_pylist(), looked, strict=True))
    rows = pq.read_table(world / f"tasks_{split}.parquet").to_pylist()
    result: dict[str, float] = {}
    for name in sorted({row["task"] for row in rows}):
        task = TASKS.get(name)
        task_rows = [row for row in rows if row["task"] == name]
        answers = mllm.answer(
            [row["prompt"] for row in task_rows],
            [[features[i] for i in row["image_ids"]] for row in task_rows],
            task.max_new_tokens,
            batch_size=32,
        )
        scores = task.score(answers, [row["reference"] for row in task_rows])
        result |= {f"{name}/{metric}": float(values.mean()) for metric, values in scores.items()}
        result[f"{name}/samples"] = float(len(task_rows))
    return result
