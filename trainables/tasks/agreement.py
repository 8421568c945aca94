"""Does the MLLM say the same of what was sent as of the original image?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from trainables.tasks.common.task import Scores, Task, fraction, of_references
from trainables.tasks.open_vqa import normalized


class Agreement(Task):
    """Answers to questions without a known answer, against the MLLM's own about the original.

    Both are normalised as answers of VQA are. `word_f1` gives part of the credit for part of the
    words, as SQuAD's F1 (Rajpurkar and others 2016).
    """

    compares_with_original = True
    metrics = (fraction("agreement"), fraction("word_f1"))
    primary = "agreement"
    max_new_tokens = 16

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"original": the answer about the original image}."""
        pairs = [
            (normalized(answer), normalized(original))
            for answer, original in zip(answers, of_references(references, "original"), strict=True)
        ]
        return {
            "agreement": np.array([one == other for one, other in pairs], np.float64),
            "word_f1": np.array([word_f1(one, other) for one, other in pairs], np.float64),
        }


def word_f1(one: str, other: str) -> float:
    """2 * shared words / all words of both texts, with repetitions; 1 for two empty ones."""
    words, others = Counter(one.split()), Counter(other.split())
    total = words.total() + others.total()
    return 2 * (words & others).total() / total if total else 1.0


TASK = Agreement()
