"""Writing a made world to Parquet: images, tasks, class names.

A split may be written alone: no scene, sample or episode depends on others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from trainables.datasets.images import schemas
from trainables.datasets.images.decode import png_of
from trainables.datasets.images.files import write_json
from trainables.datasets.worlds.samples import LABELS, SceneSample, SceneTask, SceneTasks
from trainables.datasets.worlds.world import DrawnScene, SingleWorld, Split, World, scene_rng

ROW_GROUP = 256
SHOTS_PER_CLASS = 3  # single-digit images per class, shared by all few-shot episodes

# Unrelated uses of the same (seed, split, index) draw from different streams.
_SCENES, _QUESTIONS, _SINGLES, _EPISODES = 0, 4, 5, 6

IMAGES_SCHEMA = schemas.IMAGES_SCHEMA.append(pa.field("caption", pa.string())).append(
    pa.field("objects", pa.string())
)
TASKS_SCHEMA = schemas.TASKS_SCHEMA.append(pa.field("answer", pa.string()))


def write_world(
    directory: Path,
    tasks: SceneTasks,
    *,
    size: int = 128,
    seed: int,
    n_train: int = 0,
    n_val: int = 0,
    n_test: int = 0,
    n_episodes: int = 0,
    n_val_episodes: int = 0,
) -> None:
    """Write scenes and tasks; the same arguments give the same files. Empty splits have none.

    `images_{train,val,test}.parquet`: image_id, png (lossless), width, height, classes (indices
    into `classes.json`), caption, objects (JSON list, each with its box in pixels).
    `tasks_{train,val,test}.parquet`: sample_id, task, image_ids, prompt (one `<image>` per image),
    reference (JSON), answer (the words that are right). The episodes share a pool of images of one
    object, which follow the scenes in the same images file.

    Args:
        directory: where to write; made if absent.
        tasks: whose samples are written, with their world (`trainables.tasks.scene_tasks`).
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
        _write(directory, tasks, size, seed, counts, episodes)
    finally:
        torch.set_num_threads(threads)


def _write(
    directory: Path,
    tasks: SceneTasks,
    size: int,
    seed: int,
    counts: dict[Split, int],
    episodes: dict[Split, int],
) -> None:
    world = tasks.world
    classes = {"names": world.class_names(), "templates": world.templates()}
    write_json(directory / "classes.json", classes)
    for split, count in counts.items():
        if not count and not episodes[split]:
            continue
        scenes = [_scene(world, seed, split, i) for i in range(count)]
        ids = [f"{split}-{i:06d}" for i in range(count)]
        singles, single_ids = _single_scenes(world, seed, split, episodes[split])
        samples: list[dict[str, Any]] = []
        with pq.ParquetWriter(directory / f"images_{split}.parquet", IMAGES_SCHEMA) as writer:
            for start, batch_ids, batch in _batches([*ids, *single_ids], [*scenes, *singles]):
                images, boxes = world.render(batch, size)
                drawn = [DrawnScene(*pair, size) for pair in zip(batch, boxes, strict=True)]
                rows = [
                    _image_row(world, *row) for row in zip(batch_ids, drawn, images, strict=True)
                ]
                writer.write_table(pa.Table.from_pylist(rows, IMAGES_SCHEMA))
                for i in range(start, min(start + len(batch), count)):
                    samples += _scene_samples(tasks, drawn[i - start], (seed, split, i), ids[i])
        images_of_class: dict[int, list[str]] = {}
        for single, image_id in zip(singles, single_ids, strict=True):
            images_of_class.setdefault(world.classes(single)[0], []).append(image_id)
        samples += _episodes(tasks, images_of_class, seed, split, episodes[split])
        table = pa.Table.from_pylist(samples, TASKS_SCHEMA)
        pq.write_table(table, directory / f"tasks_{split}.parquet", row_group_size=ROW_GROUP)


def write_scene_samples(
    world: World[Any],
    images: Path,
    directory: Path,
    split: Split,
    tasks: Mapping[str, SceneTask],
    seed: int,
) -> None:
    """Write further tasks' samples of scenes that are written already.

    Each task has a generator per scene, so that none changes another's samples.

    Args:
        world: whose scenes they are.
        images: directory of the scenes.
        directory: for `tasks_{split}.parquet`.
        tasks: by name.
        seed: of the scenes.
    """
    columns = ["image_id", "width", "objects"]
    rows = pq.read_table(images / f"images_{split}.parquet", columns=columns).to_pylist()
    samples: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        boxes = [drawn["box"] for drawn in json.loads(row["objects"])]
        scene = DrawnScene(_scene(world, seed, split, i), boxes, row["width"])
        for name, task in tasks.items():
            asked = task.scene_samples(scene, scene_rng(seed, split, i, _stream(name)))
            samples += _scene_rows([(name, sample) for sample in asked], row["image_id"])
    table = pa.Table.from_pylist(samples, TASKS_SCHEMA)
    pq.write_table(table, directory / f"tasks_{split}.parquet", row_group_size=ROW_GROUP)


def _scene(world: World[Any], seed: int, split: Split, index: int) -> Any:
    return world.sample(scene_rng(seed, split, index, _SCENES), split)


def _batches(ids: Sequence[str], scenes: Sequence[Any]) -> Iterator[tuple[int, Any, Any]]:
    for start in range(0, len(ids), ROW_GROUP):
        yield start, ids[start : start + ROW_GROUP], scenes[start : start + ROW_GROUP]


def _image_row(
    world: World[Any], image_id: str, drawn: DrawnScene[Any], image: Tensor
) -> dict[str, Any]:
    pixels = (image * 255.0).round().byte().permute(1, 2, 0).numpy()
    return {
        "image_id": image_id,
        "png": png_of(Image.fromarray(pixels)),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "classes": world.classes(drawn.spec),
        "caption": world.caption(drawn.spec),
        "objects": json.dumps(world.objects(drawn)),
    }


def _scene_samples(
    tasks: SceneTasks, scene: DrawnScene[Any], place: tuple[int, Split, int], image_id: str
) -> list[dict[str, Any]]:
    """The rows of a scene's samples.

    Args:
        place: the seed, split and index of the scene.
    """
    rng = scene_rng(*place, _QUESTIONS)
    in_turn = [
        (name, sample)
        for name, task in tasks.in_turn.items()
        for sample in task.scene_samples(scene, rng)
    ]
    return _scene_rows(in_turn, image_id)


def _scene_rows(samples: Sequence[tuple[str, SceneSample]], image_id: str) -> list[dict[str, Any]]:
    return [
        _row(f"{image_id}-{task}-{i}", task, (image_id,), s.prompt, s.reference, s.answer)
        for i, (task, s) in enumerate(samples)
    ]


def _stream(task: str) -> int:
    """The stream of a task's own generator, above those of this file."""
    return 2**16 + int.from_bytes(hashlib.sha256(task.encode()).digest()[:4], "big")


def _row(
    sample_id: str,
    task: str,
    image_ids: Sequence[str],
    prompt: str,
    reference: Mapping[str, object],
    answer: str,
) -> dict[str, Any]:
    row = (sample_id, task, list(image_ids), prompt, json.dumps(dict(reference)), answer)
    return dict(zip(TASKS_SCHEMA.names, row, strict=True))


def _single_scenes(
    world: World[Any], seed: int, split: Split, n_episodes: int
) -> tuple[list[Any], list[str]]:
    """The pool of scenes of one object: SHOTS_PER_CLASS for each of the classes in use."""
    if n_episodes == 0:
        return [], []
    if not isinstance(world, SingleWorld):
        raise ValueError(f"{type(world).__name__} has no scenes of one object for episodes")
    rng, n_names = scene_rng(seed, split, 0, _SINGLES), len(world.class_names())
    n_classes = min(n_names, max(len(LABELS), n_episodes))
    scenes = [
        world.single(rng, split, int(c))
        for c in rng.permutation(n_names)[:n_classes]
        for _ in range(SHOTS_PER_CLASS)
    ]
    return scenes, [f"{split}-single-{i:04d}" for i in range(len(scenes))]


def _episodes(
    tasks: SceneTasks,
    images_of_class: Mapping[int, Sequence[str]],
    seed: int,
    split: Split,
    count: int,
) -> list[dict[str, Any]]:
    rows = []
    for name, task in tasks.episodes.items():
        for i in range(count):
            e = task.episode(images_of_class, scene_rng(seed, split, i, _EPISODES))
            sample_id = f"{split}-{name}-{i:05d}"
            rows.append(_row(sample_id, name, e.image_ids, e.prompt, e.reference, e.answer))
    return rows
