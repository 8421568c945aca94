"""Multiple choice by the likelihood of each choice's text."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from trainables.tasks.common.task import Scores, Task, fraction


class LikelyChoice(Task):
    """Multiple choice by the likelihood of each choice's text: the highest is the answer.

    `accuracy` compares whole texts, `accuracy_norm` their log-likelihoods per character, which
    does not prefer short ones. Of equal ones the first counts.
    """

    metrics = (fraction("accuracy"), fraction("accuracy_norm"))
    primary = "accuracy"
    max_new_tokens = 1
    by_likelihood = True

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Answers: JSON lists of log-likelihoods, in the order of `choices`. References: as those
        of `Choice`.

        Raises:
            ValueError: not as many log-likelihoods as choices.
        """
        whole, norm = [], []
        for answer, reference in zip(answers, references, strict=True):
            truth = json.loads(reference)
            likely = np.array(json.loads(answer), np.float64)
            letters, texts = list(truth["choices"]), list(truth["choices"].values())
            if likely.shape != (len(texts),):
                raise ValueError(f"{likely.shape} log-likelihoods of {len(texts)} choices")
            lengths = np.array([max(1, len(text)) for text in texts])
            whole.append(letters[int(likely.argmax())] == truth["answer"])
            norm.append(letters[int((likely / lengths).argmax())] == truth["answer"])
        return {
            "accuracy": np.array(whole, np.float64),
            "accuracy_norm": np.array(norm, np.float64),
        }


TASK = LikelyChoice()
