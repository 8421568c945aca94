"""The example images of a sweep: their files, questions and answers.

`points[KEY]["examples"]` in `sweep.json` is a list; an entry is what a point made of one test
image, or of one row of images, in one evaluation:

    dataset, mllm  of the evaluation, as in the points file
    page           a drawn page with all of it, for people; null in an excerpt of a sweep
    images         [{id, input, decoded, bpp, psnr}], of several the query is last; decoded and psnr
                   (dB) are null where no image is decoded
    samples        ids of the samples that ask about them
    boxes          sample id -> {wanted, answered}, where a box is wanted: [x0, y0, x1, y1] in
                   fractions of the image's width and height; answered is null without one

Files are paths below the sweep's directory, of sweeps that are read together whole paths. Images
are PNG, named by their content, so a file that several points share is equal in all. Sweeps that
were made before this form have a list of drawn pages' paths instead: they have no examples here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from analysis.curves.assemble import Assembled
from analysis.io.files import below, read_bytes
from analysis.io.frames import rows_of
from analysis.io.sweep import Sweep

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in fractions of the image's width and height."""
SharedKey = tuple[str, str, tuple[str, ...]]
"""Data set, MLLM and images of an example: what is equal in all points."""


@dataclass(frozen=True)
class ExampleImage:
    """One image: paths of its files, bits per pixel, and dB."""

    id: str
    input: str
    decoded: str | None
    bpp: float
    psnr: float | None


@dataclass(frozen=True)
class Example:
    """The result of a point for a test image, or for a row of images, the query last."""

    dataset: str
    mllm: str
    images: tuple[ExampleImage, ...]
    samples: tuple[str, ...]
    wanted: Mapping[str, Box]
    answered: Mapping[str, Box]
    """Boxes by sample, where there are any."""

    @property
    def shared_key(self) -> SharedKey:
        """Data set, MLLM and images: what is equal in all points."""
        return self.dataset, self.mllm, tuple(image.id for image in self.images)

    @property
    def query(self) -> ExampleImage:
        """The image that is asked about."""
        return self.images[-1]


@dataclass(frozen=True)
class Question:
    """A question about the images, and the wanted answer."""

    task: str
    prompt: str
    wanted: str


@dataclass(frozen=True)
class Answer:
    """An answer to a question, and the task's primary metric: right where that is a fraction above
    0; where it is no fraction (CIDEr), nothing is right or wrong, and `value` and `unit` say it."""

    question: Question
    answer: str
    value: float
    unit: str

    @property
    def right(self) -> bool | None:
        """None where the metric is no fraction."""
        return self.value > 0 if self.unit == "fraction" else None

    @property
    def verdict(self) -> str:
        """As text: `right`, `wrong` or a value such as `0.83 CIDEr`."""
        if self.right is None:
            return f"{self.value:.2g} {self.unit}"
        return "right" if self.right else "wrong"

    @property
    def mark(self) -> str:
        """The same shorter: ✓, ✗ or the value."""
        return {"right": "✓", "wrong": "✗"}.get(self.verdict, self.verdict)


def example_of(entry: Mapping[str, Any]) -> Example:
    """An example from an entry of `sweep.json`."""
    images = tuple(
        ExampleImage(**{name: image[name] for name in ("id", "input", "decoded", "bpp", "psnr")})
        for image in entry["images"]
    )
    boxes: dict[str, dict[str, Box]] = {"wanted": {}, "answered": {}}
    for sample, sample_boxes in entry["boxes"].items():
        for kind, by_sample in boxes.items():
            if sample_boxes[kind] is not None:
                x0, y0, x1, y1 = sample_boxes[kind]
                by_sample[sample] = (x0, y0, x1, y1)
    return Example(entry["dataset"], entry["mllm"], images, tuple(entry["samples"]), **boxes)


def examples_of(sweep: Sweep) -> dict[str, list[Example]]:
    """The examples of each point that has some, by its key."""
    examples = {
        str(key): [
            example_of(entry) for entry in record.get("examples") or [] if isinstance(entry, dict)
        ]
        for key, record in sweep.manifest.get("points", {}).items()
    }
    return {key: stored for key, stored in examples.items() if stored}


def answers_to(
    assembled: Assembled, examples: Iterable[Example]
) -> dict[tuple[str, str, str, str], Answer]:
    """The points' answers to the samples of examples, by (point, data set, MLLM, sample)."""
    samples = assembled.sweep.samples
    if samples is None or not {"answer", "dataset", "prompt", "reference"} <= set(samples):
        return {}
    ids = {sample for example in examples for sample in example.samples}
    samples = samples[samples["sample_id"].isin(ids)].fillna({"prompt": "", "reference": ""})
    primary = {name: task.primary for name, task in assembled.tasks.items()}
    samples = samples[samples["metric"] == samples["task"].map(primary)]
    units = {name: task.units[task.primary] for name, task in assembled.tasks.items()}
    return {
        (row.point_key, row.dataset, row.mllm, row.sample_id): Answer(
            Question(row.task, _prompt(row.prompt), _wanted(row.reference)),
            str(row.answer),
            float(row.value),
            units[row.task],
        )
        for row in rows_of(samples)
    }


def read_image(sweep: Sweep, path: str) -> Pixels | None:
    """The (H, W, 3) pixels of a file; None where the file is gone, or is no PNG.

    Raises:
        AnalysisError: the file is not below the sweep's directory.
    """
    try:
        data = read_bytes(path if sweep.directory is None else below(sweep.directory, path))
        # Other formats start programs, or read further files.
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            return np.asarray(image.convert("RGB"))
    except (FileNotFoundError, UnidentifiedImageError):
        return None


def _prompt(prompt: str) -> str:
    """The words of a prompt; places of several images are numbered."""
    parts = prompt.split("<image>")
    if len(parts) > 2:
        parts[1:] = [f" [{number}] {part}" for number, part in enumerate(parts[1:], 1)]
    text = " ".join(" ".join(parts).split())
    # Some tokenizers leave room before punctuation.
    return re.sub(r" (?=[?:,.](?: |$))", "", text)


def _wanted(reference: str) -> str:
    try:
        answer = json.loads(reference)
    except ValueError:
        return reference
    if not isinstance(answer, dict):
        return str(answer)
    values = [value for name, value in answer.items() if name not in ("size", "format")]
    return ", ".join(str(value) for value in values)
