"""VQAv2 (and VQA v1, OK-VQA): open questions with ten people's answers, in two files.

questions    {"data_subtype": "val2014", "questions": [{"question_id", "image_id", "question"}]}
annotations  {"annotations": [{"question_id", "image_id", "answers": [{"answer"}]}]}
"""

from __future__ import annotations

from typing import Any, Literal

from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.items import (
    Item,
    Items,
    Mistakes,
    PublishedBenchmark,
    entries,
    fill,
    is_id,
    is_text,
    keep_complete,
    raise_all,
    read_json,
)


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
        """The samples of the annotations."""
        return read_vqav2(self)


def read_vqav2(spec: VqaV2Spec) -> Items:
    """The questions with answers; the reference is {"answers": [str]}."""
    asked, answered = Mistakes(), Mistakes()
    content = read_json("questions", spec.questions)
    questions = entries("questions", spec.questions, content, "questions")
    fields = {"question_id": is_id, "image_id": is_id, "question": is_text}
    questions = keep_complete(questions, fields, asked)
    asked.unique((row["question_id"] for row in questions), "question_id")
    uri = spec.annotations
    annotations = entries("annotations", uri, read_json("annotations", uri), "annotations")
    annotations = keep_complete(
        annotations, {"question_id": is_id, "answers": _are_answers}, answered
    )
    answered.unique((row["question_id"] for row in annotations), "question_id")
    answers = {row["question_id"]: [a["answer"] for a in row["answers"]] for row in annotations}
    raise_all((asked, "questions", spec.questions), (answered, "annotations", uri))
    for row in questions:
        if row["question_id"] not in answers:
            answered.add("no answers to a question", row["question_id"])
    answered.raise_any("annotations", uri)
    subtype = content.get("data_subtype", "")
    return Items(
        [
            Item(
                str(row["question_id"]),
                (_image(row["image_id"], subtype),),
                fill(spec, question=row["question"]),
                {"answers": answers[row["question_id"]]},
            )
            for row in questions
        ]
    )


def _image(image_id: int | str, subtype: str) -> str:
    number = f"{int(image_id):012d}.jpg" if str(image_id).isdigit() else str(image_id)
    return f"COCO_{subtype}_{number}" if subtype and number != str(image_id) else number


def _are_answers(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, dict) and isinstance(row.get("answer"), str) for row in value)
    )


FORMAT = VqaV2Spec
