"""Multiple choice by letter, each question asked once per rotation of its choices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from trainables.tasks.choice import Choice
from trainables.tasks.common.task import Scores, Values, fraction, of_references, ratio


class CircularChoice(Choice):
    """Multiple choice, each question asked once per rotation of its choices (MMBench).

    `accuracy` is of all rows; `accuracy_circular` of questions, right where every row of one is:
    the published figure, and `accuracy` itself where each question has one row. Its interval
    resamples questions, each of which counts in one of its rows.
    """

    metrics = (*Choice.metrics, fraction("accuracy_circular", of_set=True))
    primary = "accuracy"
    max_new_tokens = Choice.max_new_tokens

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: as those of `Choice`, and {"group": what rows of a question share}."""
        return Choice().score(answers, references)

    def statistics(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Questions, and those that are right, in the first row of each."""
        right = self.score(answers, references)["accuracy"]
        rows: dict[str, list[int]] = defaultdict(list)
        for row, group in enumerate(of_references(references, "group")):
            rows[group].append(row)
        statistics = {"questions": np.zeros(len(right)), "questions_right": np.zeros(len(right))}
        for group_rows in rows.values():
            statistics["questions"][group_rows[0]] = 1.0
            statistics["questions_right"][group_rows[0]] = right[group_rows].all()
        return statistics

    def of_set(self, sums: Mapping[str, Values]) -> Scores:
        """The metrics of R sets, each (R,)."""
        return {"accuracy_circular": ratio(sums["questions_right"], sums["questions"])}


TASK = CircularChoice()
