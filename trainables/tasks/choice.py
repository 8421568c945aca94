"""Multiple choice by the letter that is answered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.tasks.common.letters import letter_of
from trainables.tasks.common.task import Metric, Scores, Task, fraction, of_references


class Choice(Task):
    """Multiple choice by letter. An answer that names no choice, or two, is wrong.

    `answered` is the share of answers that name one.
    """

    metrics: tuple[Metric, ...] = (fraction("accuracy"), fraction("answered"))
    primary = "accuracy"
    max_new_tokens = 16

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"answer": a letter, "choices": {letter: text}}."""
        letters = _letters(answers, references)
        right = [s == m for s, m in zip(letters, of_references(references, "answer"), strict=True)]
        return {
            "accuracy": np.array(right, np.float64),
            "answered": np.array([s is not None for s in letters], np.float64),
        }


def _letters(answers: Sequence[str], references: Sequence[str]) -> list[str | None]:
    choices = of_references(references, "choices")
    return [letter_of(answer, texts) for answer, texts in zip(answers, choices, strict=True)]


TASK = Choice()
