"""SEED-Bench: multiple choice about images.

{"questions": [{"question_id", "data_type", "data_id" (the image), "question",
 "choice_a" .. "choice_d", "answer": "A", "question_type_id"}], "question_type": {}}
"""

from __future__ import annotations

from typing import Literal

from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.choices import LETTERS, MultipleChoice, check_choices, listed
from trainables.datasets.benchmarks.items import Item, Items, is_id, is_text


class SeedBenchSpec(MultipleChoice, ImageDirectorySpec):
    """Settings of format `seed_bench`."""

    default_task = "choice"
    default_prompt = (
        "<image>\n{question}\n{options}\nAnswer with the letter of the right option alone."
    )
    likelihood_prompt = "<image>\n{question}\nAnswer:"

    format: Literal["seed_bench"]

    def items(self) -> Items:
        """The questions about images; the reference is {"answer": "A", "choices": {"A": str}}."""
        mistakes, content = self.mistakes(), self.read_json()
        fields = {"question_id": is_id, "data_id": is_id, "question": is_text, "answer": is_text}
        rows = mistakes.complete(self.entries(content, "questions"), fields)
        mistakes.unique((row["question_id"] for row in rows), "question_id")
        kept = [row for row in rows if row.get("data_type", "image") == "image"]
        named = content.get("question_type")
        types = {number: name for name, number in named.items()} if isinstance(named, dict) else {}
        splits = [str(types.get(row.get("question_type_id"), "")) for row in kept]
        items = []
        for row in self.of_split(kept, splits):
            options = {x: row.get(f"choice_{x.lower()}") for x in LETTERS}
            choices = {x: str(text) for x, text in options.items() if text is not None}
            answer = row["answer"].strip().upper()
            check_choices(choices, answer, row["question_id"], mistakes)
            prompt = self.fill(question=row["question"], options=listed(choices))
            reference = {"answer": answer, "choices": choices}
            items.append(Item(str(row["question_id"]), (str(row["data_id"]),), prompt, reference))
        mistakes.raise_any()
        videos = len(rows) - len(kept)
        return Items(items, left_out={"questions about videos": videos} if videos else {})


FORMAT = SeedBenchSpec
