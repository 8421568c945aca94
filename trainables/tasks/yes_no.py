"""Yes or no, as POPE asks: accuracy, and what the answers of one kind are worth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from trainables.tasks.common.task import Scores, Task, Values, fraction, of_references, ratio

_SAYS_NO = re.compile(r"\b(?:no|not|none|cannot)\b|n't\b")
_SAYS_YES = re.compile(r"\b(?:yes|yeah|yep)\b")


class YesNo(Task):
    """Accuracy and yes ratio are means over samples; precision, recall and F1 of `yes` are of the
    set. An answer that says neither is wrong, and no yes.

    F1 is 2 TP / (2 TP + FP + FN); precision without any yes is 0.
    """

    metrics = (
        fraction("accuracy"),
        fraction("yes_ratio"),
        fraction("precision", of_set=True),
        fraction("recall", of_set=True),
        fraction("f1", of_set=True),
    )
    primary = "accuracy"
    chance = 0.5
    max_new_tokens = 16

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"answer": "yes" or "no"}. The yes ratio is that of the predictions."""
        verdicts, truths = [yes_or_no(a) for a in answers], of_references(references, "answer")
        right = [s == m for s, m in zip(verdicts, truths, strict=True)]
        return {
            "accuracy": np.array(right, np.float64),
            "yes_ratio": np.array([s == "yes" for s in verdicts], np.float64),
        }

    def statistics(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """True and false positives and false negatives of `yes`."""
        verdicts = np.array([yes_or_no(a) == "yes" for a in answers], bool)
        truths = np.array([m == "yes" for m in of_references(references, "answer")], bool)
        statistics = {"tp": verdicts & truths, "fp": verdicts & ~truths, "fn": ~verdicts & truths}
        return {name: value.astype(np.float64) for name, value in statistics.items()}

    def of_set(self, sums: Mapping[str, Values]) -> Scores:
        """The metrics of R sets, each (R,)."""
        tp, fp, fn = (sums[name] for name in ("tp", "fp", "fn"))
        return {
            "precision": ratio(tp, tp + fp),
            "recall": ratio(tp, tp + fn),
            "f1": ratio(2 * tp, 2 * tp + fp + fn),
        }


def yes_or_no(answer: str) -> str | None:
    """What an answer says in its first sentence that says either; None if it says neither.

    A negation anywhere in the sentence makes it no, as in POPE's own evaluation; that one takes
    everything else for yes, which would reward an MLLM that says nothing.
    """
    for sentence in re.split(r"[.!?\n]", answer.lower().replace("’", "'")):
        if _SAYS_NO.search(sentence):
            return "no"
        if _SAYS_YES.search(sentence):
            return "yes"
    return None


TASK = YesNo()
