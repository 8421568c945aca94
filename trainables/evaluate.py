"""Measure an operating point with an MLLM: real bytes in, task accuracy out.

    test image --encode--> bytes --decode--> y_hat --enter--> tokens or image --look--+
                             |                  |                                    |
                             +--> bpp           +--> reconstruct --> PSNR         features
                                                                                     |
    task sample (prompt, its images) ----------------------------> Mllm.answer --> Task.score

Every image is written and seen once, however many samples look at it. `uncompressed` takes the
same path: its stream is the raw image, 8 bits per component, so 24 bits per pixel.

Output: `samples.parquet` (a row per sample and metric), `images.parquet` (a row per image),
`summary.json` (means per task), `examples/*.png`, `info.json`.
"""

from __future__ import annotations

import itertools
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces import OperatingPoint, Space
from search_spaces.spec import ENCODER_TASKS
from trainables.bitstream import overhead_bytes
from trainables.bridge import Entry
from trainables.data import class_names, decode_image, to_tensor
from trainables.examples import Shown, write_examples
from trainables.images.decode import UnreadableImageError
from trainables.images.parts import image_files
from trainables.mllms import Mllm
from trainables.scenarios import PointModel, load_point
from trainables.tasks import TASKS
from trainables.text import read_text_weights
from trainables.train import Inputs
from trainables.zeroshot import ZeroShot

BATCH = 32
"""Images seen together. Their streams are written and read one by one."""

SAMPLES_SCHEMA = pa.schema(
    [
        ("mllm", pa.string()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("sample_id", pa.string()),
        ("value", pa.float64()),
        ("bpp", pa.float64()),
        ("answer", pa.string()),
        ("reference", pa.string()),
        ("prompt", pa.string()),
    ]
)
IMAGES_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("n_bytes", pa.int64()),
        ("bpp", pa.float64()),
        ("bpp_estimated", pa.float64()),
        ("psnr", pa.float64()),
        ("overhead_bytes", pa.int64()),
    ]
)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One question of one task; `reference` is JSON."""

    sample_id: str
    task: str
    image_ids: tuple[str, ...]
    prompt: str
    reference: str


@dataclass(frozen=True)
class Rate:
    """What an image costs; a row of `images.parquet`.

    n_bytes: the whole stream; bpp: its bits per pixel of the image given to the codec;
    bpp_estimated: the entropy model's estimate; psnr: of the decoded image in dB, None where no
    image is decoded; overhead_bytes: of n_bytes, what is container.
    """

    image_id: str
    n_bytes: int
    bpp: float
    bpp_estimated: float
    psnr: float | None
    overhead_bytes: int


@dataclass(frozen=True)
class Seen:
    """An image as the MLLM gets it: features (L, text width); decoded (H, W, 3) or None."""

    rate: Rate
    features: Tensor
    decoded: Pixels | None


class Answerer(Protocol):
    """What looks at images, or at what enters its encoder, and answers: an MLLM or the encoder."""

    def look(self, entry: Entry, /) -> Sequence[Tensor]:
        """What is kept of each of B images."""
        ...

    def answer(
        self,
        prompts: Sequence[str],
        features: Sequence[Sequence[Tensor]],
        max_new_tokens: int,
        batch_size: int,
    ) -> list[str]:
        """Answers to prompts, each with the features of its images."""
        ...


def evaluate_point(
    space: Space,
    point: OperatingPoint,
    mllm: str,
    inputs: Inputs,
    point_dir: Path,
    out: Path,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Evaluate an operating point on the test split and write what the module says to `out`.

    Args:
        mllm: one of the space's answerers: an MLLM, or its teacher for the encoder's own tasks.
        inputs: `world`, `codec` unless the point is `uncompressed`, `text` for the teacher.
        point_dir: the operating point's directory.
        progress: told the share that is done, 0 to 1.

    Raises:
        ValueError: no test sample of a task, or too many unreadable test images.
    """
    started = time.monotonic()
    model = load_point(space, point, inputs.codec, point_dir)
    tasks = dict(space.answerers)[mllm]
    llm: Answerer
    if set(tasks) <= set(ENCODER_TASKS):
        assert inputs.text is not None
        text = read_text_weights(inputs.text)
        llm = ZeroShot(model.encoder, text, class_names(inputs.world))
    else:
        llm = Mllm.load(mllm)
    samples = read_samples(inputs.world, tasks)
    wanted = {image_id for sample in samples for image_id in sample.image_ids}
    images, unreadable = read_images(inputs.world, wanted, space.data.max_unreadable)
    samples = [s for s in samples if not unreadable.keys() & set(s.image_ids)]
    shown = _to_show(samples, space.evaluation.examples)

    clock = _Clock()
    seen: dict[str, Seen] = {}
    keep = {image_id for group in shown for image_id in group[0].image_ids}
    for batch in _batches(images):
        for found in _see(model, llm, batch, keep, clock):
            seen[found.rate.image_id] = found
        progress(0.6 * len(seen) / len(images))

    answers: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for number, name in enumerate(tasks):
        task, own = TASKS[name], [s for s in samples if s.task == name]
        if not own:
            raise ValueError(f"the world has no test samples of task {name}")
        said = clock.time(
            "answer",
            llm.answer,
            [s.prompt for s in own],
            [[seen[i].features for i in s.image_ids] for s in own],
            task.max_new_tokens,
            space.evaluation.batch_size,
        )
        answers |= {s.sample_id: answer for s, answer in zip(own, said, strict=True)}
        scores = task.score(said, [s.reference for s in own])
        rows += _rows(mllm, own, answers, scores, seen)
        summary[name] = _summary(own, scores, seen)
        progress(0.6 + 0.4 * (number + 1) / len(tasks))

    out.mkdir(parents=True, exist_ok=True)
    rates = [asdict(found.rate) for found in seen.values()]
    pq.write_table(pa.Table.from_pylist(rows, SAMPLES_SCHEMA), out / "samples.parquet")
    pq.write_table(pa.Table.from_pylist(rates, IMAGES_SCHEMA), out / "images.parquet")
    _write_json(out / "summary.json", summary)
    values = {
        (row["sample_id"], row["metric"]): row["value"]
        for row in rows
        if row["metric"] == TASKS[row["task"]].primary
    }
    pictures = [_shown(group, images, seen, answers, values) for group in shown]
    write_examples(out / "examples", f"{point.label} · {Path(mllm).name}", pictures)
    info = {
        "seconds": time.monotonic() - started,
        "milliseconds_per_image": {k: 1e3 * v / len(images) for k, v in clock.seconds.items()},
        "images": len(images),
        "unreadable": [{"image_id": i, "reason": r} for i, r in unreadable.items()],
        "parameters": model.parameters(),
        "hardware": {
            "device": "cpu",
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }
    _write_json(out / "info.json", info)


def read_samples(world: Path, tasks: Sequence[str]) -> list[Sample]:
    """The test samples of these tasks, in the world's order."""
    columns = ["sample_id", "task", "image_ids", "prompt", "reference"]
    table = pq.read_table(world / "tasks_test.parquet", columns=columns)
    return [
        Sample(**{**row, "image_ids": tuple(row["image_ids"])})
        for row in table.to_pylist()
        if row["task"] in tasks
    ]


def read_images(
    world: Path, wanted: set[str], max_unreadable: float
) -> tuple[dict[str, Pixels], dict[str, str]]:
    """The wanted test images, (H, W, 3) each, in the world's order; and why others are unreadable.

    Raises:
        ValueError: a wanted image is missing, or too large a share is unreadable.
    """
    images: dict[str, Pixels] = {}
    unreadable: dict[str, str] = {}
    for file in image_files(world, "test"):
        table = pq.read_table(file, columns=["image_id", "png"])
        for image_id, data in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if image_id in wanted:
                try:
                    images[image_id] = decode_image(data)
                except UnreadableImageError as error:
                    unreadable[image_id] = str(error)
    missing = sorted(wanted - images.keys() - unreadable.keys())
    if missing:
        raise ValueError(f"test samples refer to images that are not there: {missing[:3]}")
    if len(unreadable) > max_unreadable * len(wanted) or not images:
        raise ValueError(
            f"{len(unreadable)} of {len(wanted)} test images are unreadable, more than "
            f"max_unreadable = {max_unreadable:g}: {dict(list(unreadable.items())[:3])}"
        )
    return images, unreadable


class _Clock:
    """Seconds spent in each part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, part: str, function: Callable[..., Any], *arguments: Any) -> Any:
        started = time.monotonic()
        result = function(*arguments)
        self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - started
        return result


def _batches(images: Mapping[str, Pixels]) -> Iterator[list[tuple[str, Pixels]]]:
    """Consecutive images of one size, at most BATCH."""
    for _, same in itertools.groupby(images.items(), key=lambda item: item[1].shape):
        while batch := list(itertools.islice(same, BATCH)):
            yield batch


@torch.no_grad()
def _see(
    model: PointModel,
    llm: Answerer,
    batch: Sequence[tuple[str, Pixels]],
    keep_decoded: set[str],
    clock: _Clock,
) -> list[Seen]:
    """Write, read and look at images of one size."""
    image = to_tensor([pixels for _, pixels in batch])
    height, width = image.shape[-2:]
    codec = model.codec
    y_hat: Tensor | None = None
    if codec is None:
        streams = [pixels.tobytes() for _, pixels in batch]
        image = to_tensor(
            [np.frombuffer(s, np.uint8).reshape(height, width, 3).copy() for s in streams]
        )
        bits = [8.0 * len(stream) for stream in streams]
        overheads = [0] * len(streams)
    else:
        streams, estimates = clock.time("encode", codec.encode_and_estimate, image)
        y_hat = clock.time("decode", codec.decode, streams)
        bits = estimates.tolist()
        overheads = [overhead_bytes(stream) for stream in streams]
    entry, x_hat = clock.time("enter", model.enter, image, y_hat)
    features = clock.time("look", llm.look, entry)
    # What people would see: for post_processing the codec's image, before the U-Net.
    if y_hat is not None and x_hat is None:
        x_hat = model.reconstruct(y_hat)
    psnr: list[float | None] = [None] * len(batch)
    if x_hat is not None:
        x_hat = x_hat[..., :height, :width]
        psnr = _psnr(x_hat, image).tolist()
    return [
        Seen(
            Rate(
                image_id=image_id,
                n_bytes=len(streams[i]),
                bpp=8 * len(streams[i]) / (height * width),
                bpp_estimated=bits[i] / (height * width),
                psnr=psnr[i],
                overhead_bytes=overheads[i],
            ),
            features[i],
            _to_pixels(x_hat[i]) if x_hat is not None and image_id in keep_decoded else None,
        )
        for i, (image_id, _) in enumerate(batch)
    ]


def _psnr(x_hat: Tensor, x: Tensor) -> Tensor:
    """Per image in dB, of values in [0, 1] that are not rounded to 8 bits; at most 100."""
    return -10 * (x_hat - x).square().flatten(1).mean(1).clamp(min=1e-10).log10()


def _to_pixels(image: Tensor) -> Pixels:
    pixels: Pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    return pixels


def _rows(
    mllm: str,
    samples: Sequence[Sample],
    answers: Mapping[str, str],
    scores: Mapping[str, NDArray[np.float64]],
    seen: Mapping[str, Seen],
) -> Iterator[dict[str, Any]]:
    for metric, values in scores.items():
        for sample, value in zip(samples, values, strict=True):
            yield {
                "mllm": mllm,
                "task": sample.task,
                "metric": metric,
                "sample_id": sample.sample_id,
                "value": float(value),
                "bpp": _mean(seen[i].rate.bpp for i in sample.image_ids),
                "answer": answers[sample.sample_id],
                "reference": sample.reference,
                "prompt": sample.prompt,
            }


def _summary(
    samples: Sequence[Sample],
    scores: Mapping[str, NDArray[np.float64]],
    seen: Mapping[str, Seen],
) -> dict[str, Any]:
    """Means over samples; a sample's rate and PSNR are means over its images."""
    rates = [[seen[i].rate for i in sample.image_ids] for sample in samples]
    psnr = [[r.psnr for r in own if r.psnr is not None] for own in rates]
    return {
        "n_samples": len(samples),
        "bpp": _mean(_mean(r.bpp for r in own) for own in rates),
        "bpp_estimated": _mean(_mean(r.bpp_estimated for r in own) for own in rates),
        "psnr": _mean(map(_mean, psnr)) if all(psnr) else None,
        "metrics": {metric: _mean(values.tolist()) for metric, values in scores.items()},
    }


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _to_show(samples: Sequence[Sample], n: int) -> list[list[Sample]]:
    """The samples of each example picture: all of one image; last, one of several images."""
    by_images: dict[tuple[str, ...], list[Sample]] = {}
    for sample in samples:
        by_images.setdefault(sample.image_ids, []).append(sample)
    single = [group for images, group in by_images.items() if len(images) == 1]
    several = [group for images, group in by_images.items() if len(images) > 1][: n > 1]
    return [*single[: n - len(several)], *several][:n]


def _shown(
    samples: Sequence[Sample],
    images: Mapping[str, Pixels],
    seen: Mapping[str, Seen],
    answers: Mapping[str, str],
    values: Mapping[tuple[str, str], float],
) -> Shown:
    ids = samples[0].image_ids
    return Shown(
        name=samples[0].sample_id if len(ids) > 1 else ids[0],
        images=[images[i] for i in ids],
        decoded=[seen[i].decoded for i in ids],
        bpp=_mean(seen[i].rate.bpp for i in ids),
        psnr=_psnr_of([seen[i].rate for i in ids]),
        asked=[
            (
                s.task,
                s.prompt,
                s.reference,
                answers[s.sample_id],
                values[s.sample_id, TASKS[s.task].primary] > 0,
            )
            for s in samples
        ],
    )


def _psnr_of(rates: Sequence[Rate]) -> float | None:
    known = [rate.psnr for rate in rates if rate.psnr is not None]
    return _mean(known) if known else None


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(dict(content), indent=2, allow_nan=False) + "\n"
    file.write_text(text, encoding="utf-8")
