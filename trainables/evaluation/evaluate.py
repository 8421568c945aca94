"""Measure an operating point with an MLLM, or with the encoder alone, on one or several tasks.

    samples --shards--> images --ImagePass--> features, rates --+
                                                                +--> answers --> kept in `work`
    prompts ----------------------------------------------------+
    all shards --> Task.score --> per task: samples.parquet, images.parquet, summary.json

Every image is coded and looked at once, however many samples of however many tasks ask about it,
unless these samples lie shards apart. The result of a shard is kept before the next shard begins;
an evaluation that is started again, with these or with other tasks, continues there.

Output of each task: the files of `result_files.py`, the pictures of `examples.py`, and `info.json`
(seconds, failures, parameters, hardware).
"""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from search_spaces import OperatingPoint, Space
from search_spaces.scenarios import space_in_use
from search_spaces.specs.space_fields import Measurement
from trainables.arithmetic.precision import exact
from trainables.datasets.images.files import write_json
from trainables.evaluation.examples import choose_examples, write_examples
from trainables.evaluation.image_pass import Answerer, Clock, ImagePass
from trainables.evaluation.loaded_models import (
    load_answerer,
    load_known_teacher,
    load_teacher_tower,
)
from trainables.evaluation.result_files import score_task, write_results
from trainables.evaluation.shard_pass import ShardPass
from trainables.evaluation.shard_results import ShardResult, read_kept, shard_directory
from trainables.evaluation.teacher_features import shared_layer
from trainables.evaluation.test_set import Sample, TestImages, read_samples, shards
from trainables.points.contract import load_point
from trainables.points.models import PointModel
from trainables.tasks import TASKS


@dataclass(frozen=True)
class TaskEvaluation:
    """A task to measure an operating point on.

    Attributes:
        measurement: one of the space's.
        images: directory of the test images.
        samples: directory of the task's samples; often the same.
        out: directory for what is measured.
    """

    measurement: Measurement
    images: Path
    samples: Path
    out: Path


@dataclass(frozen=True)
class PointFiles:
    """The directories that an operating point is loaded from.

    Attributes:
        point: its weights.
        codec: its base codec, where it has one.
        text: the text embeddings of the classes, where the encoder answers.
    """

    point: Path
    codec: Path | None = None
    text: Path | None = None


def evaluate_point(
    space: Space,
    point: OperatingPoint,
    evaluations: Sequence[TaskEvaluation],
    files: PointFiles,
    work: Path,
    device: torch.device | str = "cpu",
    progress: Callable[[float], None] = lambda share: None,
    part: tuple[int, int] | None = None,
    mllm_gpus: int = 1,
) -> dict[str, float]:
    """Evaluate an operating point on tasks of a data set; write each task's result to its `out`.

    Args:
        evaluations: of one answerer and data set; at least one.
        work: a directory that survives a kill, for the results of finished shards. What is in it
            must be of the same answerer, data set and operating point.
        device: where models run.
        progress: called with the share that is done, 0 to 1.
        part: (index, count): only answer every `count`-th shard from `index`, and write no result;
            an evaluation of all that finds these answers in `work` does that.
        mllm_gpus: as `gpus` of `Mllm.load`; 1 loads the MLLM to `device`.

    Returns:
        The seconds that it took, with those of the shards found in `work`, by task, divided as the
        samples are; empty for a part.

    Raises:
        ValueError: a task has no sample, or more than the share `data.max_unreadable` of the
            images is unreadable or of their streams does not decode, or of the samples could not
            be answered; or the results of the shards lack a sample.
    """
    started, model_device = time.monotonic(), torch.device(device)
    clock = Clock(model_device)
    directories = tuple(dict.fromkeys(evaluation.images for evaluation in evaluations))
    models = space, point, evaluations[0], directories, files
    model, answerer, image_pass = _load(*models, model_device, mllm_gpus, clock)
    images, samples = TestImages(directories), _samples_of(evaluations)
    sample_shards = shards(samples, images, space.evaluation.shard_size)
    shard_pass = ShardPass(images, image_pass, answerer, space.evaluation.batch_size, clock)
    if part is not None:
        index, count = part
        # Whether too many samples are lost is decided over all of them.
        with exact(model_device):
            _run_shards(sample_shards[index::count], shard_pass, 1.0, work, progress)
        return {}
    loading_s = time.monotonic() - started
    with exact(model_device):
        kept = _run_shards(sample_shards, shard_pass, space.data.max_unreadable, work, progress)
        result = kept.of(samples)
        started = time.monotonic()
        _score(space, point, evaluations, samples, images, image_pass, result)
    other_s = loading_s + time.monotonic() - started
    seconds = _by_task(samples, result.seconds + other_s)
    for evaluation in evaluations:
        task, file = evaluation.measurement.task, evaluation.out / "info.json"
        of_task = result.of([sample for sample in samples if sample.task == task])
        times = seconds[task], kept.milliseconds_per_image
        _write_info(file, *times, of_task, model, model_device)
    return seconds


def _load(
    space: Space,
    point: OperatingPoint,
    first: TaskEvaluation,
    directories: tuple[Path, ...],
    files: PointFiles,
    device: torch.device,
    mllm_gpus: int,
    clock: Clock,
) -> tuple[PointModel, Answerer, ImagePass]:
    """Load the operating point, what answers, and the pass that needs both and the teacher.

    Args:
        first: of the evaluations, which share an answerer.
        directories: of the images.
    """
    tower = load_teacher_tower(space.teacher.model)
    model = load_point(space, point, files.codec, files.point, tower).to(device)
    answerer = load_answerer(
        space, first.measurement, first.images, files.text, model, device, mllm_gpus
    )
    surrogate = space_in_use(space, point).surrogate
    teacher = load_known_teacher(directories, space.teacher, surrogate, device)
    shared = shared_layer(answerer, tower, space.surrogate.token_layer)
    return model, answerer, ImagePass(model, teacher, answerer, shared, device, clock)


def _score(
    space: Space,
    point: OperatingPoint,
    evaluations: Sequence[TaskEvaluation],
    samples: Sequence[Sample],
    images: TestImages,
    image_pass: ImagePass,
    result: ShardResult,
) -> None:
    """Write the scores and examples of each task.

    Args:
        result: of all shards.
    """
    answered, result = compared(samples, result)
    tasks = [evaluation.measurement.task for evaluation in evaluations]
    scores = {task: score_task(task, answered, result) for task in tasks}
    primary = {i: value for task in scores.values() for i, value in task.primary.items()}
    n_examples = space.evaluation.examples
    pages = choose_examples(answered, n_examples, images, image_pass, result, primary)
    answerer = evaluations[0].measurement.answerer
    title = f"{point.label} · {Path(answerer).name}"
    for task, evaluation in zip(tasks, evaluations, strict=True):
        out = evaluation.out
        out.mkdir(parents=True, exist_ok=True)
        used = {image_id for sample in scores[task].samples for image_id in sample.image_ids}
        image_ids = sorted(used, key=images.place)
        write_results(out, answerer, scores[task], result.rates, image_ids)
        write_examples(out / "examples", title, task, pages[task])


def compared(samples: Sequence[Sample], result: ShardResult) -> tuple[list[Sample], ShardResult]:
    """The answered samples and their answers; what is compared with the answer about the original
    has that in its reference."""
    answered = [sample for sample in samples if sample.sample_id in result.answers]
    answers = dict(result.answers)
    for number, sample in enumerate(answered):
        if TASKS.get(sample.task).compares_with_original:
            answers[sample.sample_id], original = json.loads(answers[sample.sample_id])
            reference = {**json.loads(sample.reference), "original": original}
            answered[number] = replace(sample, reference=json.dumps(reference))
    return answered, replace(result, answers=answers)


def _samples_of(evaluations: Sequence[TaskEvaluation]) -> list[Sample]:
    """The samples of all tasks, in the data set's order as far as they are in one directory."""
    tasks: dict[Path, list[str]] = {}
    for evaluation in evaluations:
        tasks.setdefault(evaluation.samples, []).append(evaluation.measurement.task)
    return [s for directory, names in tasks.items() for s in read_samples(directory, names)]


def _by_task(samples: Sequence[Sample], seconds: float) -> dict[str, float]:
    """The seconds of a pass, divided as the samples of the tasks are."""
    counts = Counter(sample.task for sample in samples)
    return {task: seconds * count / len(samples) for task, count in counts.items()}


def _run_shards(
    sample_shards: Sequence[Sequence[Sample]],
    shard_pass: ShardPass,
    max_unreadable: float,
    work: Path,
    progress: Callable[[float], None],
) -> ShardResult:
    """Answer the samples that have no result yet; return the results of all that are kept.

    Args:
        work: directory of the shards' results.

    Raises:
        ValueError: too many images are unreadable, streams refused or samples not answered; or the
            results of the shards lack a sample.
    """
    samples = [sample for shard in sample_shards for sample in shard]
    last_shard = {
        image_id: number
        for number, shard in enumerate(sample_shards)
        for sample in shard
        for image_id in sample.image_ids
    }
    total = ShardResult()
    for kept in read_kept(work):
        total.add(kept)
    for number, shard in enumerate(sample_shards):
        if lacking := total.lacking(shard):
            shard_progress = _progress_of_shard(progress, number, len(sample_shards))
            directory = shard_directory(work, lacking)
            began = time.monotonic()
            shard_result = shard_pass.run(lacking, shard_progress)
            shard_result.seconds = time.monotonic() - began
            shard_result.write(directory)
            total.add(ShardResult.read(directory))
        image_ids = {image_id for sample in shard for image_id in sample.image_ids}
        shard_pass.forget(i for i in image_ids if last_shard[i] == number)
        _check_losses(max_unreadable, total.of(samples), samples)
        progress((number + 1) / len(sample_shards))
    if lacking := total.lacking(samples):
        missing = [sample.sample_id for sample in lacking]
        raise ValueError(
            f"the results of the shards lack {len(missing)} of {len(samples)} samples: "
            f"{missing[:3]}; delete {work} to answer all samples again"
        )
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


def _write_info(
    file: Path,
    seconds: float,
    milliseconds_per_image: Mapping[str, float],
    result: ShardResult,
    model: PointModel,
    device: torch.device,
) -> None:
    """Write seconds, losses, parameters and hardware of an evaluation."""
    info = {
        "seconds": seconds,
        "milliseconds_per_image": dict(milliseconds_per_image),
        "images": len(result.rates),
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
