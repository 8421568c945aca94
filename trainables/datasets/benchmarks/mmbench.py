"""MMBench: multiple choice in a TSV that holds its images.

index, question, hint, A .. D, answer, image (base64, or the index of another row)

MMBench asks each question once per rotation of its options, in rows whose index differs by
millions; a question counts (`accuracy_circular`) where all of them are right. What is published
without those rows is scored without them, then both accuracies are one. By likelihood a rotation
changes nothing, so only the first row of each question is used.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, Literal

from trainables.datasets.benchmarks.choices import LETTERS, MultipleChoice, check_choices, listed
from trainables.datasets.benchmarks.items import Item, Items, is_text

ROTATION = 1_000_000
"""Between the indices of a question's rotations."""
_COLUMNS = ("index", "question", "A", "B", "answer", "image")
_INDEX_LENGTH = 64
"""A shorter image is the index of the row that has it."""


class MmBenchSpec(MultipleChoice):
    """Settings of format `mmbench`."""

    default_task = "choice_circular"
    default_prompt = (
        "<image>\n{hint}{question}\n{options}\nAnswer with the letter of the right option alone."
    )
    likelihood_prompt = "<image>\n{hint}{question}\nAnswer:"
    prompt_fields = ("question", "options", "hint")

    format: Literal["mmbench"]

    def items(self) -> Items:
        """The rows; the reference is {"answer": "A", "choices": {"A": str}, "group": str}."""
        mistakes, table = self.mistakes(), self.read_table("\t", _COLUMNS)
        fields = {"index": _is_index, "question": is_text, "answer": is_text, "image": is_text}
        rows = mistakes.complete(table, fields)
        mistakes.unique((_index(row) for row in rows), "index")
        images = {_index(row): row["image"].strip() for row in rows}
        left_out: Counter[str] = Counter()
        items, embedded = [], {}
        for row in self.of_split(rows, [row.get("split") or "" for row in rows]):
            index, image = _index(row), row["image"].strip()
            if self.scoring == "likelihood" and index >= ROTATION:
                left_out["rotations of other questions"] += 1
                continue
            if len(image) < _INDEX_LENGTH and image.isdigit():
                image = images.get(int(image), "")
            if not image:
                mistakes.add("image is the index of no row", index)
            choices = {x: row[x].strip() for x in LETTERS if _is_there(row.get(x))}
            answer = row["answer"].strip().upper()
            check_choices(choices, answer, index, mistakes)
            hint = f"{row['hint'].strip()}\n" if _is_there(row.get("hint")) else ""
            prompt = self.fill(question=row["question"], options=listed(choices), hint=hint)
            # A question's rotations show one image, which is coded once.
            name = hashlib.sha256(image.encode()).hexdigest()[:16]
            embedded[name] = image
            group = str(index % ROTATION)
            reference = {"answer": answer, "choices": choices, "group": group}
            items.append(Item(str(index), (name,), prompt, reference, group=group))
        mistakes.raise_any()
        return Items(items, embedded, left_out)


def _is_there(cell: str | None) -> bool:
    return bool(cell and cell.strip()) and cell != "nan"


def _is_index(cell: Any) -> bool:
    return is_text(cell) and cell.strip().removesuffix(".0").isdigit()


def _index(row: dict[str, str]) -> int:
    return int(row["index"].strip().removesuffix(".0"))


FORMAT = MmBenchSpec
