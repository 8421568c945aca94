"""Measure an operating point with an MLLM, or with the encoder alone.

    samples --shards--> images of a shard --see--> features, rates --+
                                                                     +--> answers --> kept in `work`
    prompts ---------------------------------------------------------+
    all shards --> Task.score --> samples.parquet, summary.json

Every image is written and seen once, however many samples look at it, as long as they do not stand
shards apart. What a shard gave is kept before the next begins; an evaluation that is started again
continues there. A sample whose answering fails is tried again alone, and listed if that fails too.

Output: `samples.parquet` (a row per sample and metric), `images.parquet` (a row per image),
`summary.json` (means per task, and metrics of the set), `examples/` (see there), `info.json`.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces import OperatingPoint, Space
from search_spaces.specs.space import Measurement
from search_spaces.specs.training import SurrogateSpec, TeacherSpec
from trainables.datasets.rows import class_names
from trainables.datasets.tensors import Pixels
from trainables.encoders.load import load_tower
from trainables.encoders.partial_encoder import Teacher
from trainables.encoders.text_embeddings import read_text_weights
from trainables.encoders.tower import Tower
from trainables.encoders.zero_shot import ZeroShot
from trainables.evaluation.examples import choose_examples, write_examples
from trainables.evaluation.image_pass import Answerer, Clock, Eye, Rate, batches
from trainables.evaluation.teacher_features import KnownTeacher, shared_layer
from trainables.evaluation.test_set import Sample, TestImages, read_samples, shards
from trainables.mllms import Mllm
from trainables.points.contract import load_point
from trainables.points.inputs import Inputs
from trainables.points.models import PointModel
from trainables.tasks import TASKS, Task
from trainables.tasks.common.set_metrics import set_values

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
        ("pooled", pa.float64()),
        ("tokens", pa.float64()),
    ]
)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass
class Answered:
    """What is known of samples and images so far; unreadable and failed: why, by id."""

    answers: dict[str, str] = field(default_factory=dict)
    rates: dict[str, Rate] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, other: Answered) -> None:
        """Take in what a shard gave; an image keeps the rate it had first."""
        self.answers |= other.answers
        self.rates = {**other.rates, **self.rates}
        self.unreadable |= other.unreadable
        self.failed |= other.failed


def evaluate_point(
    space: Space,
    point: OperatingPoint,
    measurement: Measurement,
    inputs: Inputs,
    point_dir: Path,
    out: Path,
    work: Path,
    device: torch.device | str = "cpu",
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Evaluate an operating point on the test samples of a data set; write it to `out`.

    Args:
        measurement: who answers what; one of the space's.
        inputs: `world` is the data set's directory; `codec` where the point has one;
            `text` where the encoder answers.
        point_dir: the operating point's directory.
        work: a directory that survives a kill, for what is done so far.
        device: where models run.
        progress: told the share that is done, 0 to 1.

    Raises:
        ValueError: no sample of a task, or more than `data.max_unreadable` of the images cannot be
            read or of the samples not be answered.
    """
    started, where = time.monotonic(), torch.device(device)
    clock = Clock()
    tower = _load_tower(space.teacher.model)
    model = load_point(space, point, inputs.codec, point_dir, tower).to(where)
    answerer = _answerer(space, measurement, inputs, model, where)
    surrogate = space.surrogate
    teacher = _teacher_of(inputs.world, space.teacher, surrogate, where)
    eye = Eye(
        model,
        teacher,
        bool(surrogate.pooled),
        bool(surrogate.tokens),
        answerer,
        shared_layer(answerer, tower, surrogate.token_layer),
        where,
        clock,
    )

    images = TestImages(inputs.world)
    samples = read_samples(inputs.world, measurement.tasks)
    parts = shards(samples, images, space.evaluation.shard_size)
    known = Answered()
    features: dict[str, Tensor] = {}
    for number, part in enumerate(parts):
        kept = work / f"shard-{number:05d}"
        if not kept.is_dir():

            def tell(share: float, number: int = number) -> None:
                progress((number + share) / len(parts))

            found = _shard(space, part, images, eye, answerer, features, clock, tell)
            _keep(found, kept)
        known.add(_kept(kept))
        later = {i for rest in parts[number + 1 :] for sample in rest for i in sample.image_ids}
        features = {i: seen for i, seen in features.items() if i in later}
        _check_losses(space, known, samples)
        progress((number + 1) / len(parts))

    left = [sample for sample in samples if sample.sample_id in known.answers]
    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for name in measurement.tasks:
        own = [sample for sample in left if sample.task == name]
        said = [known.answers[sample.sample_id] for sample in own]
        if not own:
            raise ValueError(f"no sample of task {name} is left")
        references = [sample.reference for sample in own]
        scores = TASKS.get(name).score(said, references)
        rows += _rows(measurement.answerer, own, known, scores)
        summary[name] = _summary(TASKS.get(name), own, known, scores, said, references)

    out.mkdir(parents=True, exist_ok=True)
    rates = [asdict(known.rates[i]) for i in sorted(known.rates, key=images.place)]
    pq.write_table(pa.Table.from_pylist(rows, SAMPLES_SCHEMA), out / "samples.parquet")
    pq.write_table(pa.Table.from_pylist(rates, IMAGES_SCHEMA), out / "images.parquet")
    _write_json(out / "summary.json", summary)
    title = f"{point.label} · {Path(measurement.answerer).name}"
    primary = {name: TASKS.get(name).primary for name in measurement.tasks}
    values = {r["sample_id"]: r["value"] for r in rows if r["metric"] == primary[r["task"]]}
    n = space.evaluation.examples
    shown = choose_examples(left, n, images, eye, known.rates, known.answers, values)
    write_examples(out / "examples", title, shown)
    info = {
        "seconds": time.monotonic() - started,
        "milliseconds_per_image": {k: 1e3 * v / len(rates) for k, v in clock.seconds.items()},
        "images": len(rates),
        "unreadable": [{"image_id": i, "reason": r} for i, r in known.unreadable.items()],
        "failed": [{"sample_id": i, "reason": r} for i, r in known.failed.items()],
        "parameters": model.parameters(),
        "hardware": {
            "device": where.type,
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }
    _write_json(out / "info.json", info)


def _answerer(
    space: Space,
    measurement: Measurement,
    inputs: Inputs,
    model: PointModel,
    device: torch.device,
) -> Answerer:
    if measurement.by_encoder:
        assert inputs.text is not None
        text = read_text_weights(inputs.text).to(device)
        return ZeroShot(model.encoder, text, class_names(inputs.world))
    how = space.evaluation
    return _load_mllm(measurement.answerer, how.precision, how.beams, device)


@lru_cache(maxsize=1)
def _load_tower(name: str) -> Tower:
    """Kept, as it is frozen."""
    return load_tower(name)


@lru_cache(maxsize=4)
def _teacher_of(
    world: Path, teacher: TeacherSpec, surrogate: SurrogateSpec, device: torch.device
) -> KnownTeacher:
    """Kept, as a data set's directory never changes."""
    tower = _load_tower(teacher.model)
    complete = Teacher(tower, surrogate.token_layer, surrogate.double_norm).to(device)
    return KnownTeacher(complete, bool(surrogate.pooled), bool(surrogate.tokens))


@lru_cache(maxsize=1)
def _load_mllm(name: str, precision: str, beams: int, device: torch.device) -> Mllm:
    """Kept for the next operating point that this process evaluates."""
    return Mllm.load(name, PRECISIONS[precision], beams).to(device)


def _shard(
    space: Space,
    samples: Sequence[Sample],
    images: TestImages,
    eye: Eye,
    answerer: Answerer,
    features: dict[str, Tensor],
    clock: Clock,
    progress: Callable[[float], None],
) -> Answered:
    """See the images of a shard, unless `features` has them already, and answer its samples."""
    found = Answered()
    new = {i for sample in samples for i in sample.image_ids} - features.keys()
    for batch in batches(_readable(images, new, found)):
        for seen in eye.see(batch):
            features[seen.rate.image_id] = seen.features
            found.rates[seen.rate.image_id] = seen.rate
        progress(0.6 * len(found.rates) / max(1, len(new)))
    tasks = dict.fromkeys(sample.task for sample in samples)
    for number, name in enumerate(tasks):
        own = [s for s in samples if s.task == name and features.keys() >= set(s.image_ids)]
        said = clock.time(
            "answer", _answers, space, answerer, TASKS.get(name), own, features, found
        )
        found.answers |= said
        progress(0.6 + 0.4 * (number + 1) / len(tasks))
    return found


def _readable(
    images: TestImages, wanted: set[str], found: Answered
) -> Iterator[tuple[str, Pixels]]:
    for image_id, pixels in images.read(wanted):
        if isinstance(pixels, str):
            found.unreadable[image_id] = pixels
        else:
            yield image_id, pixels


def _answers(
    space: Space,
    answerer: Answerer,
    task: Task,
    samples: Sequence[Sample],
    features: Mapping[str, Tensor],
    found: Answered,
) -> dict[str, str]:
    """Answers by sample; where a batch fails, each of its samples is tried alone."""
    size = space.evaluation.batch_size

    def ask(some: Sequence[Sample], batch_size: int) -> dict[str, str]:
        prompts = [sample.prompt for sample in some]
        seen = [[features[i] for i in sample.image_ids] for sample in some]
        if task.by_likelihood:
            assert isinstance(answerer, Mllm)
            choices = [json.loads(sample.reference)["choices"] for sample in some]
            values = answerer.likelihoods(prompts, seen, choices, batch_size)
            said = [json.dumps(own) for own in values]
        else:
            said = answerer.answer(prompts, seen, task.max_new_tokens, batch_size)
        return {sample.sample_id: text for sample, text in zip(some, said, strict=True)}

    try:
        return ask(samples, size)
    except Exception:
        # Whatever it was (memory, a prompt that the model cannot take): the others are answered.
        answers: dict[str, str] = {}
        for sample in samples:
            try:
                answers |= ask([sample], 1)
            except Exception as error:
                text = (str(error).strip().splitlines() or [""])[0]
                found.failed[sample.sample_id] = f"{type(error).__name__}: {text}"
        return answers


def _check_losses(space: Space, known: Answered, samples: Sequence[Sample]) -> None:
    limit = space.data.max_unreadable
    wanted = len({i for sample in samples for i in sample.image_ids})
    for what, lost, of in (
        ("test images are unreadable", known.unreadable, wanted),
        ("samples could not be answered", known.failed, len(samples)),
    ):
        if len(lost) > limit * of:
            raise ValueError(
                f"{len(lost)} of {of} {what}, more than max_unreadable = {limit:g}: "
                f"{dict(list(lost.items())[:3])}"
            )


def _keep(found: Answered, directory: Path) -> None:
    """Write what a shard gave; it is there as a whole or not at all."""
    scratch = directory.with_name(f"{directory.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    _write_json(
        scratch / "answered.json",
        {
            "answers": found.answers,
            "rates": [asdict(rate) for rate in found.rates.values()],
            "unreadable": found.unreadable,
            "failed": found.failed,
        },
    )
    scratch.replace(directory)


def _kept(directory: Path) -> Answered:
    content = json.loads((directory / "answered.json").read_text(encoding="utf-8"))
    rates = {rate["image_id"]: Rate(**rate) for rate in content["rates"]}
    return Answered(content["answers"], rates, content["unreadable"], content["failed"])


def _rows(
    mllm: str,
    samples: Sequence[Sample],
    known: Answered,
    scores: Mapping[str, NDArray[np.float64]],
) -> Iterator[dict[str, Any]]:
    for metric, values in scores.items():
        for sample, value in zip(samples, values, strict=True):
            yield {
                "mllm": mllm,
                "task": sample.task,
                "metric": metric,
                "sample_id": sample.sample_id,
                "value": float(value),
                "bpp": _mean(known.rates[i].bpp for i in sample.image_ids),
                "answer": known.answers[sample.sample_id],
                "reference": sample.reference,
                "prompt": sample.prompt,
            }


def _summary(
    task: Task,
    samples: Sequence[Sample],
    known: Answered,
    scores: Mapping[str, NDArray[np.float64]],
    answers: Sequence[str],
    references: Sequence[str],
) -> dict[str, Any]:
    """Means over samples; a sample's rate and other values are means over its images."""
    rates = [[known.rates[i] for i in sample.image_ids] for sample in samples]

    def mean(name: str) -> float | None:
        values = [[getattr(rate, name) for rate in own] for own in rates]
        if any(value is None for own in values for value in own):
            return None
        return _mean(_mean(own) for own in values)

    sets = set_values(task, answers, references)
    return {
        "n_samples": len(samples),
        **{name: mean(name) for name in ("bpp", "bpp_estimated", "psnr", "pooled", "tokens")},
        "metrics": {metric: _mean(values.tolist()) for metric, values in scores.items()},
        "set_metrics": {name: asdict(value) for name, value in sets.items()},
    }


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(dict(content), indent=2, allow_nan=False) + "\n"
    file.write_text(text, encoding="utf-8")
