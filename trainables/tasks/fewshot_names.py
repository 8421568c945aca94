"""Few-shot classification by the names of classes."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from trainables.tasks.common.task import Scores, Task, fraction, words


class FewshotNames(Task):
    """Few-shot classification by the classes' names: does the answer begin with the right one?

    What follows the name counts for nothing, as an MLLM goes on in the manner of its prompt; of
    several classes of the episode that the answer begins with, the longest is meant.
    """

    several_images = True
    metrics = (fraction("accuracy"),)
    primary = "accuracy"
    max_new_tokens = 12

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"label": str, "labels": [str]}, the episode's classes."""
        right = []
        for answer, reference in zip(answers, references, strict=True):
            truth, answered = json.loads(reference), f"{words(answer)} "
            begun = [name for name in truth["labels"] if answered.startswith(f"{words(name)} ")]
            right.append(max(begun, key=len, default=None) == truth["label"])
        return {"accuracy": np.array(right, np.float64)}


TASK = FewshotNames()
