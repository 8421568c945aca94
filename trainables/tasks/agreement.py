"""Does the MLLM say the same of what was sent as of the original image?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from trainables.tasks.common.task import Scores, Task, fraction, of_references
from trainables.tasks.open_vqa import normalized


class Agreement(Task):
    """Answers to questions without a known answer, compared with the answers of the same MLLM about
    the original image.

    Both are normalised as answers of VQA are; an empty answer agrees with nothing. `word_f1` gives
    part of the credit for part of the words, as SQuAD's F1 (Rajpurkar and others 2016).
    """

    compares_with_original = True
    metrics = (fraction("agreement"), fraction("word_f1"))
    primary = "agreement"
    max_new_tokens = 16

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"original": the answer about the original image}."""
        originals = [normalized(text) for text in of_references(references, "original")]
        pairs = list(zip(map(normalized, answers), originals, strict=True))
        return {
            "agreement": np.array([bool(a) and a == original for a, original in pairs], np.float64),
            "word_f1": np.array([word_f1(answer, original) for answer, original in pairs]),
        }


def word_f1(answer: str, original: str) -> float:
    """2 * shared words / all words of both texts, with repetitions; 0 for two empty ones."""
    words, wanted = Counter(answer.split()), Counter(original.split())
    total = words.total() + wanted.total()
    return 2 * (words & wanted).total() / total if total else 0.0


TASK = Agreement()
