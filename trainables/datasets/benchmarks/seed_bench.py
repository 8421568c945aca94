"""SEED-Bench: multiple choice about images.

{"questions": [{"question_id", "data_type", "data_id" (the image), "question",
 "choice_a" .. "choice_d", "answer": "A", "question_type_id"}], "question_type": {}}
"""

from __future__ import annotations

from typing import Literal

from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.choices import LETTERS, MultipleChoice, check_choices, listed
from trainables.datasets.benchmarks.items import (
    Item,
    Items,
    Mistakes,
    entries,
    fill,
    is_id,
    is_text,
    keep_complete,
    of_split,
    read_json,
)


class SeedBenchSpec(MultipleChoice, ImageDirectorySpec):
    """Settings of format `seed_bench`."""

    default_task = "choice"
    default_prompt = (
        "<image>\n{question}\n{options}\nAnswer with the letter of the right option alone."
    )
    likelihood_prompt = "<image>\n{question}\nAnswer:"

    format: Literal["seed_bench"]

    def items(self) -> Items:
        """The samples of the annotations."""
        return read_seed_bench(self)


def read_seed_bench(spec: SeedBenchSpec) -> Items:
    """The questions about images; the reference is {"answer": "A", "choices": {"A": str}}."""
    uri, mistakes = spec.annotations, Mistakes()
    content = read_json("annotations", uri)
    rows = entries("annotations", uri, content, "questions")
    fields = {"question_id": is_id, "data_id": is_id, "question": is_text, "answer": is_text}
    rows = keep_complete(rows, fields, mistakes)
    mistakes.unique((row["question_id"] for row in rows), "question_id")
    kept = [row for row in rows if row.get("data_type", "image") == "image"]
    named = content.get("question_type")
    types = {number: name for name, number in named.items()} if isinstance(named, dict) else {}
    splits = [str(types.get(row.get("question_type_id"), "")) for row in kept]
    items = []
    for row in of_split(spec, kept, spec.split, splits):
        options = {x: row.get(f"choice_{x.lower()}") for x in LETTERS}
        choices = {x: str(text) for x, text in options.items() if text is not None}
        answer = row["answer"].strip().upper()
        check_choices(choices, answer, row["question_id"], mistakes)
        prompt = fill(spec, question=row["question"], options=listed(choices))
        reference = {"answer": answer, "choices": choices}
        items.append(Item(str(row["question_id"]), (str(row["data_id"]),), prompt, reference))
    mistakes.raise_any("annotations", uri)
    left_out = {"questions about videos": len(rows) - len(kept)} if len(rows) > len(kept) else {}
    return Items(items, left_out=left_out)


FORMAT = SeedBenchSpec
