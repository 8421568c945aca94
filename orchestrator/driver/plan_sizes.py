"""Rough sizes of what a sweep stores, from its settings alone."""

from __future__ import annotations

from orchestrator.plan.jobs import Job, Plan
from orchestrator.storage.provenance import benchmark_images, image_counts
from orchestrator.validation.teachers import teacher_sizes
from search_spaces import Space, Stage
from search_spaces.facts.encoders import EncoderSizes, encoder_sizes, released_config
from search_spaces.facts.tasks import TASK_FACTS
from search_spaces.scenarios import scenario_of

_PIXEL = 2
"""Bytes of a pixel of an image that is kept without loss."""
_STORED_PER_EPISODE = 3
"""Images."""
_PICTURES = 2
"""Of an example: the image, and what the receiver sees."""
_COPIES = 2
"""Of an example besides its evaluation's: in the sweep's directory and in MLflow."""
_REPORT = 8_000_000
"""Bytes of a sweep's report, plots and database of MLflow."""


def planned_size(plan: Plan, job: Job, stage: Stage) -> float:
    """Bytes of a stage, to within a factor of two."""
    space, counts = plan.stages.of(job.subject.variant).space, image_counts(plan.space.data)
    data, codec = space.data, job.subject.codec
    images = counts["train"] + counts["val"]
    picture = _PIXEL * data.size**2
    if stage.key != job.key:
        return _examples(space)
    match stage.kind:
        case "train_images":
            return picture * images
        case "test_images":
            return picture * counts["test"]
        case "episodes":
            return picture * _STORED_PER_EPISODE * data.episodes
        case "samples" | "text":
            return 0.0
        case "benchmark":
            assert job.subject.benchmark is not None
            return picture * benchmark_images(job.subject.benchmark)
        case "features":
            encoder, surrogate = encoder_of(space), space.surrogate
            numbers = encoder.pooled * bool(surrogate.pooled)
            numbers += encoder.tokens * encoder.width * bool(surrogate.tokens)
            return 2 * images * numbers
        case "latents":
            assert codec is not None
            height, width = codec.latent_sides(data.size, data.size)
            return 2 * images * codec.M * height * width
    return 4 * _trained_parameters(space, job)


def test_images(space: Space) -> dict[str, int]:
    """Task -> test images that it is measured on, before any is found to be unreadable."""
    counts: dict[str, int] = {}
    for measurement in space.measurements:
        if measurement.benchmark is not None:
            count = benchmark_images(measurement.benchmark)
        elif TASK_FACTS.get(measurement.task).in_episodes:
            count = space.data.episodes
        else:
            count = image_counts(space.data)["test"]
        counts[measurement.task] = min(count, counts.get(measurement.task, count))
    return counts


def planned_beside(space: Space, points: int) -> float:
    """Bytes of points files, report and MLflow."""
    return _REPORT + _COPIES * points * len(space.measurements) * _examples(space)


def _examples(space: Space) -> float:
    """Bytes of the examples of an evaluation."""
    return space.evaluation.examples * _PICTURES * _PIXEL * space.data.size**2


def _trained_parameters(space: Space, job: Job) -> float:
    """Parameters that a job trains or keeps, to within a factor of two."""
    codec, point = job.subject.codec, job.subject.point
    parameters = 0.0 if codec is None else codec.parameter_estimate
    if point is None:
        return parameters
    encoder, ratio = encoder_of(space), space.neck.mlp_ratio
    width, channels = encoder.width, encoder.width if codec is None else codec.M
    hidden = encoder.mlp_width if ratio is None else width * ratio
    layer = width * (4 * width + 2 * hidden)
    neck = (channels + encoder.tokens) * width + space.neck.layers * layer
    counts = {"codec": parameters, "neck": neck, "encoder_block": layer}
    return scenario_of(point.scenario).trained_parameters(space, counts)


def encoder_of(space: Space) -> EncoderSizes:
    """The teacher's sizes; those of the paper's teacher if it is not on this machine."""
    known = teacher_sizes(space.teacher.model)
    if known is not None:
        return known
    papers = released_config("openai/clip-vit-large-patch14")
    assert papers is not None
    return encoder_sizes(papers)
