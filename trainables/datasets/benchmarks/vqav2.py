"""VQAv2 (and VQA v1, OK-VQA): open questions with ten people's answers, in two files.

questions    {"data_subtype": "val2014", "questions": [{"question_id", "image_id", "question"}]}
annotations  {"annotations": [{"question_id", "image_id", "answers": [{"answer"}]}]}
"""

from __future__ import annotations

from typing import Literal

from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.items import (
    Item,
    Items,
    PublishedBenchmark,
    all_with,
    is_id,
    is_text,
)

_are_answers = all_with("answer", lambda answer: isinstance(answer, str))


class VqaV2Spec(PublishedBenchmark, ImageDirectorySpec):
    """Settings of format `vqav2`."""

    default_task = "open_vqa"
    default_prompt = "<image>\n{question}\nAnswer in a single word or a short phrase."
    prompt_fields = ("question",)
    file_settings = ("annotations", "questions")

    format: Literal["vqav2"]
    questions: str
    """The file of the questions."""

    def items(self) -> Items:
        """The questions with answers; the reference is {"answers": [str]}."""
        asked, answered = self.mistakes("questions"), self.mistakes()
        content = self.read_json("questions")
        fields = {"question_id": is_id, "image_id": is_id, "question": is_text}
        questions = asked.complete(self.entries(content, "questions", "questions"), fields)
        asked.unique((row["question_id"] for row in questions), "question_id")
        annotations = answered.complete(
            self.entries(self.read_json(), "annotations"),
            {"question_id": is_id, "answers": _are_answers},
        )
        answered.unique((row["question_id"] for row in annotations), "question_id")
        answers = {row["question_id"]: [a["answer"] for a in row["answers"]] for row in annotations}
        asked.raise_any(answered)
        for row in questions:
            if row["question_id"] not in answers:
                answered.add("no answers to a question", row["question_id"])
        answered.raise_any()
        subtype = content.get("data_subtype", "")
        return Items(
            [
                Item(
                    str(row["question_id"]),
                    (_image(row["image_id"], subtype),),
                    self.fill(question=row["question"]),
                    {"answers": answers[row["question_id"]]},
                )
                for row in questions
            ]
        )


def _image(image_id: int | str, subtype: str) -> str:
    number = f"{int(image_id):012d}.jpg" if str(image_id).isdigit() else str(image_id)
    return f"COCO_{subtype}_{number}" if subtype and number != str(image_id) else number


FORMAT = VqaV2Spec
