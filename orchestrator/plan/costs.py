"""What jobs are called, and what they roughly cost.

The costs decide what starts first and how time left is guessed, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from orchestrator.storage.provenance import benchmark_images
from search_spaces import Stage
from search_spaces.specs.data import DataSpec

# Seconds on one core per image at 128 x 128.
_CODEC_COST: Final = 0.02
_EVALUATION_COST: Final = 0.05
_SCENE_COST: Final = 0.003
_IMAGE_COST: Final = 0.02
_FEATURE_COST: Final = 0.01
_TEXT_COST_S: Final = 1.0
_IMAGES_PER_EPISODE: Final = 6
_LABELS: Final = {"train_images": "training images", "test_images": "test images"}


def describe(
    stage: Stage, data: DataSpec, image_counts: Mapping[str, int]
) -> tuple[str, str, float]:
    """Kind, label and rough cost of the job that makes a stage which belongs to no point.

    Args:
        data: of the space.
        image_counts: of train, val and test.

    Returns:
        The cost in seconds on one core.
    """
    codec, benchmark = stage.subject.codec, stage.subject.benchmark
    trained_on = image_counts["train"] + image_counts["val"]
    rate = f" lambda={stage.subject.lmbda:g}" if stage.subject.lmbda is not None else ""
    match stage.kind:
        case "train_images" | "test_images":
            splits = ("train", "val") if stage.kind == "train_images" else ("test",)
            images, name = sum(image_counts[s] for s in splits), _LABELS[stage.kind]
            if data.is_made:
                return "scenes", name, _SCENE_COST * images
            return "images", f"{name} of {data.label}", _IMAGE_COST * images
        case "episodes":
            cost = _SCENE_COST * _IMAGES_PER_EPISODE * data.episodes
            return "scenes", "test episodes", cost
        case "samples":
            names = ", ".join(stage.subject.tasks)
            return "samples", f"samples of {names}", _SCENE_COST * image_counts["test"]
        case "benchmark" if benchmark is not None:
            cost = _IMAGE_COST * benchmark_images(benchmark)
            return "benchmark", f"benchmark {benchmark.label}", cost
        case "features":
            return "features", "teacher features", _FEATURE_COST * trained_on
        case "text":
            (images_stage,) = stage.inputs
            of_images = _LABELS.get(images_stage.kind) or getattr(benchmark, "label", "")
            return "text", f"text embeddings of the classes of {of_images}", _TEXT_COST_S
        case "latents" if codec is not None:
            return "latents", f"{codec.label} latents{rate}", _FEATURE_COST * trained_on
        case "codec" if codec is not None:
            cost = _CODEC_COST * codec.train.steps * codec.train.batch_size
            return "codec", f"{codec.label} codec{'' if codec.is_variable_rate else rate}", cost
    raise AssertionError(stage)


def pass_cost(
    evaluations: Iterable[Stage], data: DataSpec, image_counts: Mapping[str, int]
) -> float:
    """Rough seconds of a pass on one core: each image is coded once, whatever is asked about it.

    Args:
        evaluations: stages that are made in the pass.
        data, image_counts: as of `describe`.
    """
    images = 0
    for stage in {evaluation.reads["images"] for evaluation in evaluations}:
        assert isinstance(stage, Stage)
        if stage.subject.benchmark is not None:
            images += benchmark_images(stage.subject.benchmark)
        else:
            images += data.episodes if stage.kind == "episodes" else image_counts["test"]
    return _EVALUATION_COST * images
