"""POPE: is an object in the image? (Li et al., EMNLP 2023)

Lines {"question_id", "image", "text", "label": "yes" or "no"}.
"""

from __future__ import annotations

from typing import Literal

from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.items import (
    Item,
    Items,
    Mistakes,
    PublishedBenchmark,
    fill,
    is_id,
    is_text,
    keep_complete,
    read_lines,
)

ANSWERS = ("yes", "no")


class PopeSpec(PublishedBenchmark, ImageDirectorySpec):
    """Settings of format `pope`."""

    default_task = "yes_no"
    default_prompt = "<image>\n{question}\nAnswer with yes or no."
    prompt_fields = ("question",)

    format: Literal["pope"]

    def items(self) -> Items:
        """The samples of the annotations."""
        return read_pope(self)


def read_pope(spec: PopeSpec) -> Items:
    """The questions of a file; the reference is {"answer": "yes" or "no"}."""
    mistakes = Mistakes()
    fields = {"question_id": is_id, "image": is_text, "text": is_text, "label": is_text}
    rows = keep_complete(read_lines("annotations", spec.annotations), fields, mistakes)
    mistakes.unique((row["question_id"] for row in rows), "question_id")
    items = []
    for row in rows:
        answer = row["label"].strip().lower()
        if answer not in ANSWERS:
            mistakes.add("label is neither yes nor no", f"{row['question_id']}: {row['label']}")
        items.append(
            Item(
                str(row["question_id"]),
                (row["image"],),
                fill(spec, question=row["text"]),
                {"answer": answer},
            )
        )
    mistakes.raise_any("annotations", spec.annotations)
    return Items(items)


FORMAT = PopeSpec
