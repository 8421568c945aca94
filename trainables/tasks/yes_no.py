"""Yes or no, as POPE asks: accuracy, and what the answers of one kind are worth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from trainables.tasks.task import Metric, Scores, Values, fraction, of_references, ratio

_SAYS_NO = re.compile(r"\b(?:no|not|none|cannot)\b|n't\b")
_SAYS_YES = re.compile(r"\b(?:yes|yeah|yep)\b")


class YesNo:
    """Accuracy and yes ratio are means over samples; precision, recall and F1 of `yes` are of the
    set. An answer that says neither is wrong, and no yes.

    F1 is 2 TP / (2 TP + FP + FN); precision without any yes is 0.
    """

    name = "yes_no"
    metrics: tuple[Metric, ...] = (
        fraction("accuracy"),
        fraction("yes_ratio"),
        fraction("precision", of_set=True),
        fraction("recall", of_set=True),
        fraction("f1", of_set=True),
    )
    primary = "accuracy"
    chance: float | None = 0.5
    max_new_tokens = 16
    by_likelihood = False

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"answer": "yes" or "no"}. The yes ratio is that of the predictions."""
        said, meant = [yes_or_no(a) for a in answers], of_references(references, "answer")
        right = [s == m for s, m in zip(said, meant, strict=True)]
        return {
            "accuracy": np.array(right, np.float64),
            "yes_ratio": np.array([s == "yes" for s in said], np.float64),
        }

    def statistics(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """True and false positives and false negatives of `yes`."""
        said = np.array([yes_or_no(a) == "yes" for a in answers], bool)
        meant = np.array([m == "yes" for m in of_references(references, "answer")], bool)
        found = {"tp": said & meant, "fp": said & ~meant, "fn": ~said & meant}
        return {name: value.astype(np.float64) for name, value in found.items()}

    def of_set(self, sums: Mapping[str, Values]) -> Scores:
        """See `Task`."""
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
