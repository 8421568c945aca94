"""Reading text in an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.tasks.common.task import Scores, Task, fraction, of_references, words


class TextReading(Task):
    """Is the answer the text, letter by letter, and if not, how much of it is?

    Case, punctuation and line breaks count for nothing, as in scene-text recognition.
    `edit_similarity` is 1 - edit distance / length of the longer one (ICDAR's 1-NED).
    """

    metrics = (fraction("exact_match"), fraction("edit_similarity"))
    primary = "exact_match"
    max_new_tokens = 32

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"texts": [str]}, each of which is right."""
        readings = [words(answer) for answer in answers]
        accepted = [[words(text) for text in texts] for texts in of_references(references, "texts")]
        pairs = list(zip(readings, accepted, strict=True))
        return {
            "exact_match": np.array([s in texts for s, texts in pairs], np.float64),
            "edit_similarity": np.array(
                [max(similarity(s, text) for text in texts) for s, texts in pairs], np.float64
            ),
        }


def similarity(a: str, b: str) -> float:
    """1 - Levenshtein distance / length of the longer text; 1 for two empty ones."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return 1.0 - row[-1] / max(len(a), len(b), 1)


TASK = TextReading()
