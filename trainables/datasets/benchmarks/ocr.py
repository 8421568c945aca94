"""Reading text: lines {"image", "text": str or [str] (any of them is right), "id"}."""

from __future__ import annotations

from typing import Any, Literal

from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.items import Item, Items, PublishedBenchmark, is_text


class OcrSpec(PublishedBenchmark, ImageDirectorySpec):
    """Settings of format `ocr`."""

    default_task = "text_reading"
    default_prompt = "<image>\nWhat is written in this image? Answer with the text alone."

    format: Literal["ocr"]

    def items(self) -> Items:
        """The images with text; the reference is {"texts": [str]}."""
        mistakes = self.mistakes()
        fields = {"image": is_text, "text": lambda text: bool(_texts(text))}
        items = [
            Item(
                str(row.get("id", row["image"])),
                (row["image"],),
                self.fill(),
                {"texts": _texts(row["text"])},
            )
            for row in mistakes.complete(self.read_lines(), fields)
        ]
        mistakes.unique((item.sample_id for item in items), "id (or image)")
        mistakes.raise_any()
        return Items(items)


def _texts(value: Any) -> list[str]:
    """The accepted texts; none where one of them is no text."""
    texts = value if isinstance(value, list) else [value]
    return texts if all(map(is_text, texts)) else []


FORMAT = OcrSpec
