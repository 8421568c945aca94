"""Writing the demo's world to Parquet: images, tasks, class names."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from trainables.datasets.scenes import questions
from trainables.datasets.scenes.captions import LABELS, TEMPLATES, caption
from trainables.datasets.scenes.scene import (
    COLOUR_NAMES,
    DIGITS,
    POSITIONS,
    SceneSpec,
    Split,
    class_names,
    render,
    sample_scene,
    scene_rng,
)

ROW_GROUP = 256
SHOTS_PER_CLASS = 3  # single-digit images per class, shared by all few-shot episodes

# Unrelated uses of the same (seed, split, index) draw from different streams.
_SCENES, _QUESTIONS, _SINGLES, _EPISODES = 0, 4, 5, 6

IMAGES_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("png", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("classes", pa.list_(pa.int32())),
        ("caption", pa.string()),
        ("objects", pa.string()),
    ]
)
TASKS_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("task", pa.string()),
        ("image_ids", pa.list_(pa.string())),
        ("prompt", pa.string()),
        ("reference", pa.string()),
        ("answer", pa.string()),
    ]
)


def write_world(
    directory: Path,
    *,
    size: int = 128,
    seed: int,
    n_train: int,
    n_val: int,
    n_test: int,
    n_episodes: int,
    n_val_episodes: int = 0,
) -> None:
    """Write scenes and tasks; the same arguments give the same files.

    `images_{train,val,test}.parquet`: image_id, png (lossless), width, height, classes (indices
    into `classes.json`), caption, objects (JSON list of {digit, colour, position, box in pixels}).
    `tasks_{train,val,test}.parquet`: sample_id, task, image_ids, prompt (one `<image>` per image),
    reference (JSON), answer (the words that are right). Each scene has one caption, one or two
    questions and one referring expression. The few-shot episodes share a pool of single-digit
    images, which stand behind the scenes in the same images file.

    Args:
        directory: where to write; made if absent.
        size: side of the images in pixels, even, at least 64.
        seed: of everything random.
        n_train, n_val, n_test: scenes per split, at least 0.
        n_episodes: few-shot episodes of test.
        n_val_episodes: few-shot episodes of val; a sweep, which validates on images alone, has
            none.

    Raises:
        ValueError: a size or a number is out of range.
    """
    if size < 64 or size % 2:
        raise ValueError(f"size: {size}; an even number of pixels, at least 64, is needed")
    counts: dict[Split, int] = {"train": n_train, "val": n_val, "test": n_test}
    episodes: dict[Split, int] = {"train": 0, "val": n_val_episodes, "test": n_episodes}
    if min(*counts.values(), *episodes.values()) < 0:
        raise ValueError(f"numbers of scenes {counts} and episodes {episodes} cannot be negative")
    directory.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    # The tensors are small: threads that wait for each other cost more than they give.
    torch.set_num_threads(1)
    try:
        _write(directory, size, seed, counts, episodes)
    finally:
        torch.set_num_threads(threads)


def _write(
    directory: Path, size: int, seed: int, counts: dict[Split, int], episodes: dict[Split, int]
) -> None:
    (directory / "classes.json").write_text(
        json.dumps({"names": class_names(), "templates": list(TEMPLATES)}, indent=1) + "\n"
    )
    for split, count in counts.items():
        scenes = [
            sample_scene(scene_rng(seed, split, i, _SCENES), split, augment=split == "train")
            for i in range(count)
        ]
        ids = [f"{split}-{i:06d}" for i in range(count)]
        singles, single_ids = _single_scenes(seed, split, episodes[split])
        tasks: list[dict[str, Any]] = []
        with pq.ParquetWriter(directory / f"images_{split}.parquet", IMAGES_SCHEMA) as writer:
            for start, batch_ids, batch in _batches([*ids, *single_ids], [*scenes, *singles]):
                images, boxes = render(batch, size)
                rows = [
                    _image_row(*row) for row in zip(batch_ids, batch, images, boxes, strict=True)
                ]
                writer.write_table(pa.Table.from_pylist(rows, IMAGES_SCHEMA))
                for i in range(start, min(start + len(batch), count)):
                    rng = scene_rng(seed, split, i, _QUESTIONS)
                    tasks += _scene_tasks(ids[i], scenes[i], boxes[i - start], size, rng)
        tasks += _episodes(seed, split, episodes[split], singles, single_ids)
        table = pa.Table.from_pylist(tasks, TASKS_SCHEMA)
        pq.write_table(table, directory / f"tasks_{split}.parquet", row_group_size=ROW_GROUP)


def _batches(
    ids: Sequence[str], scenes: Sequence[SceneSpec]
) -> Iterator[tuple[int, Sequence[str], Sequence[SceneSpec]]]:
    for start in range(0, len(ids), ROW_GROUP):
        yield start, ids[start : start + ROW_GROUP], scenes[start : start + ROW_GROUP]


def _image_row(
    image_id: str, scene: SceneSpec, image: Tensor, boxes: Sequence[Sequence[int]]
) -> dict[str, Any]:
    pixels = (image * 255.0).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    objects = [
        {
            "digit": DIGITS[o.digit],
            "colour": COLOUR_NAMES[o.colour],
            "position": POSITIONS[o.position],
            "box": list(box),
        }
        for o, box in zip(scene.objects, boxes, strict=True)
    ]
    return {
        "image_id": image_id,
        "png": buffer.getvalue(),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "classes": [o.class_index for o in scene.objects],
        "caption": caption(scene),
        "objects": json.dumps(objects),
    }


def _scene_tasks(
    image_id: str,
    scene: SceneSpec,
    boxes: Sequence[Sequence[int]],
    size: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    asked = [questions.captioning(scene), questions.vqa(scene, rng)]
    second = questions.vqa(scene, rng)
    if second.prompt != asked[1].prompt:
        asked.append(second)
    asked.append(questions.rec(scene, boxes, size, rng))
    return [
        {
            "sample_id": f"{image_id}-{q.task}-{i}",
            "task": q.task,
            "image_ids": [image_id],
            "prompt": q.prompt,
            "reference": q.reference,
            "answer": q.answer,
        }
        for i, q in enumerate(asked)
    ]


def _single_scenes(seed: int, split: Split, n_episodes: int) -> tuple[list[SceneSpec], list[str]]:
    """The pool of single-digit scenes: SHOTS_PER_CLASS for each of the classes in use."""
    if n_episodes == 0:
        return [], []
    rng = scene_rng(seed, split, 0, _SINGLES)
    n_classes = min(len(class_names()), max(len(LABELS), n_episodes))
    scenes = []
    for c in rng.permutation(len(class_names()))[:n_classes]:
        pair = (int(c) // len(DIGITS), int(c) % len(DIGITS))
        scenes += [sample_scene(rng, split, objects=[pair]) for _ in range(SHOTS_PER_CLASS)]
    return scenes, [f"{split}-single-{i:04d}" for i in range(len(scenes))]


def _episodes(
    seed: int, split: Split, n_episodes: int, singles: Sequence[SceneSpec], ids: Sequence[str]
) -> list[dict[str, Any]]:
    shots: dict[int, list[str]] = {}
    for scene, image_id in zip(singles, ids, strict=True):
        shots.setdefault(scene.objects[0].class_index, []).append(image_id)
    rows = []
    for i in range(n_episodes):
        rng = scene_rng(seed, split, i, _EPISODES)
        classes = questions.fewshot_classes(rng, len(LABELS), sorted(shots))
        labels, asked = questions.fewshot(rng)
        chosen = [shots[c][int(rng.integers(SHOTS_PER_CLASS))] for c in classes]
        others = [image_id for image_id in shots[classes[asked]] if image_id != chosen[asked]]
        query = others[int(rng.integers(len(others)))]
        rows.append(
            {
                "sample_id": f"{split}-fewshot-{i:05d}",
                "task": "fewshot",
                "image_ids": [*chosen, query],
                "prompt": questions.fewshot_prompt(labels),
                "reference": json.dumps({"label": labels[asked]}),
                "answer": labels[asked],
            }
        )
    return rows
