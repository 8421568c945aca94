"""Measure an operating point with an MLLM, or with the encoder alone.

    samples --shards--> images --ImagePass--> features, rates --+
                                                                +--> answers --> kept in `work`
    prompts ----------------------------------------------------+
    all shards --> Task.score --> samples.parquet, images.parquet, summary.json

Every image is coded and looked at once, however many samples ask about it, unless these samples lie
shards apart. The result of a shard is kept before the next shard begins; an evaluation that is
started again with the same shard size continues there.

Output: the files of `result_files.py`, the pictures of `examples.py`, and `info.json` (seconds,
failures, parameters, hardware).
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from search_spaces import OperatingPoint, Space
from search_spaces.specs.space_fields import Measurement
from trainables.datasets.images.files import write_json
from trainables.evaluation.examples import choose_examples, write_examples
from trainables.evaluation.image_pass import Clock, ImagePass
from trainables.evaluation.loaded_models import (
    load_answerer,
    load_known_teacher,
    load_teacher_tower,
)
from trainables.evaluation.result_files import score_task, write_results
from trainables.evaluation.shard_pass import ShardPass
from trainables.evaluation.shard_results import ShardResult
from trainables.evaluation.teacher_features import shared_layer
from trainables.evaluation.test_set import Sample, TestImages, read_samples, shards
from trainables.points.contract import load_point
from trainables.points.inputs import Inputs
from trainables.points.models import PointModel


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
        measurement: who answers which tasks; one of the space's.
        inputs: `world` is the data set's directory; `codec` where the point has one;
            `text` where the encoder answers.
        point_dir: the operating point's directory.
        work: a directory that survives a kill, for the results of finished shards.
        device: where models run.
        progress: called with the share that is done, 0 to 1.

    Raises:
        ValueError: a task has no sample, or more than the share `data.max_unreadable` of the
            images is unreadable or of their streams does not decode, or of the samples could not
            be answered; or the results of the shards lack a sample.
    """
    started, model_device, clock = time.monotonic(), torch.device(device), Clock()
    tower = load_teacher_tower(space.teacher.model)
    model = load_point(space, point, inputs.codec, point_dir, tower).to(model_device)
    answerer = load_answerer(space, measurement, inputs, model, model_device)
    surrogate = space.surrogate
    teacher = load_known_teacher(inputs.world, space.teacher, surrogate, model_device)
    shared = shared_layer(answerer, tower, surrogate.token_layer)
    image_pass = ImagePass(model, teacher, answerer, shared, model_device, clock)

    images = TestImages(inputs.world)
    samples = read_samples(inputs.world, measurement.tasks)
    sample_shards = shards(samples, images, space.evaluation.shard_size)
    shard_pass = ShardPass(images, image_pass, answerer, space.evaluation.batch_size, clock)
    limit = space.data.max_unreadable
    # Shards of another size hold other samples under the same numbers.
    prefix = work / f"shard-{space.evaluation.shard_size}"
    result = _run_shards(sample_shards, shard_pass, limit, prefix, progress)
    _check_all_samples(samples, result, work)

    answered = [sample for sample in samples if sample.sample_id in result.answers]
    scores = [score_task(task, answered, result) for task in measurement.tasks]
    image_ids = sorted(result.rates, key=images.place)
    out.mkdir(parents=True, exist_ok=True)
    write_results(out, measurement.answerer, scores, result.rates, image_ids)

    primary = {i: value for task in scores for i, value in task.primary.items()}
    n_examples = space.evaluation.examples
    examples = choose_examples(answered, n_examples, images, image_pass, result, primary)
    title = f"{point.label} · {Path(measurement.answerer).name}"
    write_examples(out / "examples", title, examples)
    seconds = time.monotonic() - started
    _write_info(out / "info.json", seconds, clock, result, model, model_device)


def _run_shards(
    sample_shards: Sequence[Sequence[Sample]],
    shard_pass: ShardPass,
    max_unreadable: float,
    prefix: Path,
    progress: Callable[[float], None],
) -> ShardResult:
    """Run the shards that have no result yet; return the result of all shards.

    Args:
        prefix: of the path of a shard's result; `-<number>` follows.

    Raises:
        ValueError: too many images are unreadable, streams refused or samples not answered.
    """
    samples = [sample for shard in sample_shards for sample in shard]
    last_shard = {
        image_id: number
        for number, shard in enumerate(sample_shards)
        for sample in shard
        for image_id in sample.image_ids
    }
    total = ShardResult()
    for number, shard in enumerate(sample_shards):
        shard_dir = prefix.with_name(f"{prefix.name}-{number:05d}")
        if not shard_dir.is_dir():
            shard_progress = _progress_of_shard(progress, number, len(sample_shards))
            shard_pass.run(shard, shard_progress).write(shard_dir)
        total.add(ShardResult.read(shard_dir))
        image_ids = {image_id for sample in shard for image_id in sample.image_ids}
        shard_pass.forget(i for i in image_ids if last_shard[i] == number)
        _check_losses(max_unreadable, total, samples)
        progress((number + 1) / len(sample_shards))
    return total


def _progress_of_shard(
    progress: Callable[[float], None], number: int, count: int
) -> Callable[[float], None]:
    """Turn the share of a shard that is done into the share of all shards."""
    return lambda share: progress((number + share) / count)


def _check_losses(max_unreadable: float, result: ShardResult, samples: Sequence[Sample]) -> None:
    n_images = len({i for sample in samples for i in sample.image_ids})
    for description, lost, count in (
        ("test images are unreadable", result.unreadable, n_images),
        ("streams of test images do not decode", result.undecodable, n_images),
        ("samples could not be answered", result.failed, len(samples)),
    ):
        if len(lost) > max_unreadable * count:
            raise ValueError(
                f"{len(lost)} of {count} {description}, more than max_unreadable = "
                f"{max_unreadable:g}: {dict(list(lost.items())[:3])}"
            )


def _check_all_samples(samples: Sequence[Sample], result: ShardResult, work: Path) -> None:
    """Check that each sample is answered, or that the result says why it is not."""
    lost_images = result.unreadable.keys() | result.undecodable.keys()
    missing = [
        sample.sample_id
        for sample in samples
        if sample.sample_id not in result.answers
        and sample.sample_id not in result.failed
        and lost_images.isdisjoint(sample.image_ids)
    ]
    if missing:
        raise ValueError(
            f"the results of the shards lack {len(missing)} of {len(samples)} samples: "
            f"{missing[:3]}; delete {work} to answer all samples again"
        )


def _write_info(
    file: Path,
    seconds: float,
    clock: Clock,
    result: ShardResult,
    model: PointModel,
    device: torch.device,
) -> None:
    """Write seconds, losses, parameters and hardware of an evaluation."""
    n_images = len(result.rates)
    info = {
        "seconds": seconds,
        "milliseconds_per_image": {k: 1e3 * v / n_images for k, v in clock.seconds.items()},
        "images": n_images,
        "unreadable": [{"image_id": i, "reason": r} for i, r in result.unreadable.items()],
        "undecodable": [{"image_id": i, "reason": r} for i, r in result.undecodable.items()],
        "failed": [{"sample_id": i, "reason": r} for i, r in result.failed.items()],
        "parameters": model.parameters(),
        "hardware": {
            "device": device.type,
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }
    write_json(file, info, indent=2)
