"""Few-shot classification by the names of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.tasks.common.one_name import AccuracyTask
from trainables.tasks.common.task import words


class FewshotNames(AccuracyTask):
    """Few-shot classification by the classes' names: does the answer begin with the right one?

    What follows the name counts for nothing, as an MLLM goes on in the manner of its prompt; of
    several classes of the episode that the answer begins with, the longest is meant.
    """

    several_images = True
    max_new_tokens = 12

    def accuracy(self, answer: str, reference: Mapping[str, Any]) -> float:
        """References: {"label": str, "labels": [str]}, the episode's classes."""
        answered = f"{words(answer)} "
        begun = [name for name in reference["labels"] if answered.startswith(f"{words(name)} ")]
        return float(max(begun, key=len, default=None) == reference["label"])


TASK = FewshotNames()
