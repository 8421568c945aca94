"""Examples of an evaluation: images, a page per example for people, and a record for programs.

    examples/<name>.png         the page of an example, drawn by `example_page.py`
    examples/images/<sum>.png   the images themselves, named by a checksum: equal ones are one file
    examples/examples.json      a list, one entry per example

An entry is `{page, images, samples, boxes}`, files by their names below `examples/`:

    images    [{id, input, decoded, bpp, psnr}], in the order of the prompt, so that the query is
              last; decoded is null where no image is decoded, psnr (dB) too
    samples   the ids of the task's samples that ask about these images; on the page are those of
              all tasks that were measured with it
    boxes     sample id -> {wanted, answered} of samples that ask for a box: [x0, y0, x1, y1] in
              fractions of the image's width and height; answered is null where the answer holds
              no box
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from trainables.datasets.arrays import Pixels
from trainables.datasets.images.files import write_json
from trainables.evaluation.example_page import (
    AnsweredQuestion,
    ExamplePage,
    ShownImage,
    boxes_of,
    draw_example,
)
from trainables.evaluation.image_pass import ImagePass
from trainables.evaluation.shard_results import ShardResult
from trainables.evaluation.test_set import Sample, TestImages
from trainables.tasks import TASKS

RECORD = "examples.json"
LONGEST = 512
"""The longest side of a kept image in pixels; larger images are scaled down."""


def choose_examples(
    samples: Sequence[Sample],
    n: int,
    images: TestImages,
    image_pass: ImagePass,
    result: ShardResult,
    values: Mapping[str, float],
) -> dict[str, list[ExamplePage]]:
    """Choose each task's first images with all questions; the last example is a row of images.

    Args:
        samples: those that have an answer, of all tasks.
        n: number of examples of a task.
        images: of the data set.
        image_pass: decodes the images.
        result: rates of the images and answers to the samples.
        values: of the primary metric, by sample id.
    """
    by_images: dict[tuple[str, ...], list[Sample]] = {}
    for sample in samples:
        by_images.setdefault(sample.image_ids, []).append(sample)
    shown = {
        task: _to_show({sample.image_ids: None for sample in samples if sample.task == task}, n)
        for task in dict.fromkeys(sample.task for sample in samples)
    }
    groups = {image_ids: by_images[image_ids] for ids in shown.values() for image_ids in ids}
    pixels, rates = images.readable({i for image_ids in groups for i in image_ids}), result.rates
    decoded = {i: image_pass.decoded(image) for i, image in pixels.items()}
    pages = {
        image_ids: ExamplePage(
            _name(group),
            [ShownImage(i, pixels[i], decoded[i], rates[i].bpp, rates[i].psnr) for i in image_ids],
            [
                AnsweredQuestion(
                    *(s.sample_id, s.task, s.prompt, s.reference, result.answers[s.sample_id]),
                    _right(s.task, values[s.sample_id]),
                )
                for s in group
            ],
        )
        for image_ids, group in groups.items()
    }
    return {task: [pages[image_ids] for image_ids in ids] for task, ids in shown.items()}


def write_examples(directory: Path, title: str, task: str, examples: Sequence[ExamplePage]) -> None:
    """Write pages, images and the record. In a page's name, only letters, digits and `._-` stay.

    Args:
        task: whose samples are recorded.
    """
    (directory / "images").mkdir(parents=True, exist_ok=True)
    record = []
    for example in examples:
        page = re.sub(r"[^A-Za-z0-9._-]", "_", example.name) + ".png"
        draw_example(title, example).save(directory / page)
        questions = [question for question in example.questions if question.task == task]
        boxes_by_sample = {q.sample_id: boxes_of(example, q) for q in questions}
        record.append(
            {
                "page": page,
                "images": [_written(directory, image) for image in example.images],
                "samples": [question.sample_id for question in questions],
                "boxes": {
                    sample: {"wanted": boxes[0], "answered": boxes[1]}
                    for sample, boxes in boxes_by_sample.items()
                    if boxes is not None
                },
            }
        )
    write_json(directory / RECORD, record)


def _to_show(images: Iterable[tuple[str, ...]], n: int) -> list[tuple[str, ...]]:
    """The images of each example: one image; in the last example, several."""
    listed = list(images)
    single = [image_ids for image_ids in listed if len(image_ids) == 1]
    several = [image_ids for image_ids in listed if len(image_ids) > 1][:1]
    return [*single[: max(1, n - len(several))], *several][:n]


def _right(task: str, value: float) -> bool | None:
    """Whether an answer is right by the task's primary metric; None if it is no fraction."""
    scored = TASKS.get(task)
    (primary,) = (metric for metric in scored.metrics if metric.name == scored.primary)
    return value > 0 if primary.unit == "fraction" else None


def _name(group: Sequence[Sample]) -> str:
    ids = group[0].image_ids
    return ids[0] if len(ids) == 1 else group[0].sample_id


def _written(directory: Path, image: ShownImage) -> dict[str, Any]:
    """Write an image's files; return its part of the record."""
    decoded = None if image.decoded is None else _png(directory, image.decoded)
    return {
        "id": image.image_id,
        "input": _png(directory, image.pixels),
        "decoded": decoded,
        "bpp": image.bpp,
        "psnr": image.psnr,
    }


def _png(directory: Path, pixels: Pixels) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    name = f"images/{hashlib.sha256(buffer.getvalue()).hexdigest()[:16]}.png"
    (directory / name).write_bytes(buffer.getvalue())
    return name
