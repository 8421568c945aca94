"""POPE: is an object in the image? (Li et al., EMNLP 2023)

Lines {"question_id", "image", "text", "label": "yes" or "no"}.
"""

from __future__ import annotations

from typing import Literal

from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.items import Item, Items, PublishedBenchmark, is_id, is_text

ANSWERS = ("yes", "no")


class PopeSpec(PublishedBenchmark, ImageDirectorySpec):
    """Settings of format `pope`."""

    default_task = "yes_no"
    default_prompt = "<image>\n{question}\nAnswer with yes or no."
    prompt_fields = ("question",)

    format: Literal["pope"]

    def items(self) -> Items:
        """The questions of a file; the reference is {"answer": "yes" or "no"}."""
        mistakes, items = self.mistakes(), []
        fields = {"question_id": is_id, "image": is_text, "text": is_text, "label": is_text}
        rows = mistakes.complete(self.read_lines(), fields)
        mistakes.unique((row["question_id"] for row in rows), "question_id")
        for row in rows:
            sample, answer = str(row["question_id"]), row["label"].strip().lower()
            if answer not in ANSWERS:
                mistakes.add("label is neither yes nor no", f"{sample}: {row['label']}")
            prompt = self.fill(question=row["text"])
            items.append(Item(sample, (row["image"],), prompt, {"answer": answer}))
        mistakes.raise_any()
        return Items(items)


FORMAT = PopeSpec
