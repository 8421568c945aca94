"""Tasks whose answer is one name, right or wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.tasks.common.task import Scores, Task, fraction, of_references, words


class OneName(Task):
    """A task whose answer is one name, right or wrong."""

    metrics = (fraction("accuracy"),)
    primary = "accuracy"
    max_new_tokens = 2
    reference_field = "answer"
    """The field of references with the right name."""

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {reference_field: str}."""
        names = of_references(references, self.reference_field)
        right = [words(a) == words(n) for a, n in zip(answers, names, strict=True)]
        return {"accuracy": np.array(right, np.float64)}
