"""Tasks whose answer is a name, right or wrong: one word, or a class that the encoder ranks."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from trainables.tasks.task import (
    MeansOnly,
    Metric,
    Scores,
    fraction,
    of_references,
    words,
)


class OneName(MeansOnly):
    """A task whose answer is one name, right or wrong."""

    metrics: tuple[Metric, ...] = (fraction("accuracy"),)
    primary = "accuracy"

    def __init__(
        self, name: str, field: str, chance: float | None = None, max_new_tokens: int = 2
    ) -> None:
        self.name = name
        self.chance = chance
        self.max_new_tokens = max_new_tokens
        self._field = field

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {field: str}."""
        meant = of_references(references, self._field)
        right = [words(a) == words(m) for a, m in zip(answers, meant, strict=True)]
        return {"accuracy": np.array(right, np.float64)}


class FewshotNames(MeansOnly):
    """Few-shot classification by the classes' names: does the answer begin with the right one?

    What follows the name counts for nothing, as an MLLM goes on in the manner of its prompt; of
    several classes of the episode that the answer begins with, the longest is meant.
    """

    name = "fewshot_names"
    metrics: tuple[Metric, ...] = (fraction("accuracy"),)
    primary = "accuracy"
    chance: float | None = None
    max_new_tokens = 12

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"label": str, "labels": [str]}, the episode's classes."""
        right = []
        for answer, reference in zip(answers, references, strict=True):
            truth, said = json.loads(reference), f"{words(answer)} "
            begun = [name for name in truth["labels"] if said.startswith(f"{words(name)} ")]
            right.append(max(begun, key=len, default=None) == truth["label"])
        return {"accuracy": np.array(right, np.float64)}


class ZeroShot(MeansOnly):
    """Zero-shot classification by the encoder: is the class the best, is it among the best five?"""

    name = "zeroshot"
    metrics: tuple[Metric, ...] = (fraction("accuracy"), fraction("accuracy_top5"))
    primary = "accuracy"
    chance: float | None = None
    max_new_tokens = 1

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Answers: JSON lists of classes, best first. References: {"class": str}."""
        meant = of_references(references, "class")
        ranked: list[list[str]] = [json.loads(answer) for answer in answers]
        pairs = list(zip(ranked, meant, strict=True))
        return {
            "accuracy": np.array([m in r[:1] for r, m in pairs], np.float64),
            "accuracy_top5": np.array([m in r[:5] for r, m in pairs], np.float64),
        }
