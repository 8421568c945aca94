"""Tasks with one metric, accuracy, and those of them whose answer is one name."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainables.tasks.common.task import Scores, Task, fraction, words


class AccuracyTask(Task):
    """A task whose only metric is the accuracy of its answers."""

    metrics = (fraction("accuracy"),)
    primary = "accuracy"

    @abstractmethod
    def accuracy(self, answer: str, reference: Mapping[str, Any]) -> float:
        """How right an answer is, 0 to 1."""

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: see `accuracy`."""
        pairs = zip(answers, map(json.loads, references), strict=True)
        return {"accuracy": np.array([self.accuracy(*pair) for pair in pairs], np.float64)}


class OneName(AccuracyTask):
    """A task whose answer is one name, right or wrong."""

    max_new_tokens = 2
    reference_field = "answer"
    """The field of references with the right name."""

    def accuracy(self, answer: str, reference: Mapping[str, Any]) -> float:
        """References: {reference_field: str}."""
        return float(words(answer) == words(reference[self.reference_field]))
