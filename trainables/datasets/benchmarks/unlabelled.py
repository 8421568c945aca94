"""Images of one's own without annotations: the same questions about each of them.

No answer is right or wrong. What the MLLM says of the original image counts, and how far it says
the same of what has been sent.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from search_spaces.specs.base import Positive
from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.items import Item, Items, PublishedBenchmark, is_text
from trainables.datasets.images.files import IMAGE_SUFFIXES, SourceError, absolute, list_files


class UnlabelledSpec(PublishedBenchmark, ImageDirectorySpec):
    """Settings of format `unlabelled`."""

    default_task = "agreement"
    default_prompt = "<image>\n{question}\nAnswer with one word or a short phrase."
    prompt_fields = ("question",)
    file_settings = ()
    default_seed = 0
    remark = (
        "it says how far answers change, not whether they are right: an MLLM that says the same of "
        "every image scores 1"
    )
    asks_all = True

    format: Literal["unlabelled"]
    annotations: Literal[""] = ""
    """Empty: there are none."""
    images: str
    """The directory of the images, or its URI; all images below it are asked about, and none of
    them may be trained on."""
    limit: Positive | None = None
    """How many images are asked about; null for all."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Draws the images that `limit` leaves; null is 0."""
    questions: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "What is the main thing in the image?",
        "What is its colour?",
        "Where was the image taken?",
    )
    """What is asked about each image."""

    def items(self) -> Items:
        """Each question about each image below the directory; the reference is empty."""
        mistakes = self.mistakes("questions")
        mistakes.unique(self.questions, "a question")
        for number, question in enumerate(self.questions):
            if not is_text(question):
                mistakes.add("an empty question", number)
        mistakes.raise_any()
        try:
            files = list_files(absolute(self.images))
        except SourceError as error:
            raise self.error("images", error) from error
        paths = [file.path for file in files if file.path.lower().endswith(IMAGE_SUFFIXES)]
        if not paths:
            raise self.error("images", f"none of its {len(files)} files is an image")
        return Items(
            [
                Item(f"{path}-{number}", (path,), self.fill(question=question), {}, group=path)
                for path in paths
                for number, question in enumerate(self.questions)
            ]
        )


FORMAT = UnlabelledSpec
