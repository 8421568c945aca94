"""Classification by the visual encoder, without an MLLM.

It is zero-shot, as CLIP's, only where no training has seen the classes. The cross-entropy of the
surrogate loss trains on those of the space's own data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from trainables.datasets.images.samples import ImageSample
from trainables.tasks.common.task import Scores, Task, fraction, of_references


class Classification(Task):
    """Classification by class names: is the class the best, is it among the best five?"""

    data_kinds = ("folder", "parquet", "datasets")
    by_encoder = True
    metrics = (fraction("accuracy"), fraction("accuracy_top5"))
    primary = "accuracy"
    max_new_tokens = 1

    def image_sample(self, number: int, names: Sequence[str]) -> ImageSample:
        """The image; its class is written as "number name", which tells equal names apart."""
        return ImageSample("<image>", {"class": f"{number} {names[number]}"})

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Answers: JSON lists of classes, best first. References: {"class": str}."""
        classes = of_references(references, "class")
        ranked: list[list[str]] = [json.loads(answer) for answer in answers]
        pairs = list(zip(ranked, classes, strict=True))
        return {
            "accuracy": np.array([m in r[:1] for r, m in pairs], np.float64),
            "accuracy_top5": np.array([m in r[:5] for r, m in pairs], np.float64),
        }


TASK = Classification()
