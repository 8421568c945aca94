"""Captions in the JSON of the Karpathy splits (COCO, Flickr30k): several references per image.

{"images": [{"filename", "filepath" (COCO), "split", "sentences": [{"raw"}], "cocoid" or "imgid"}]}
"""

from __future__ import annotations

from typing import Literal

from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.items import Item, Items, SplitBenchmark, is_text

DEFAULT_SPLIT = "test"


class KarpathySpec(SplitBenchmark, ImageDirectorySpec):
    """Settings of format `coco_karpathy`."""

    default_task = "captions"
    default_prompt = "<image>\nDescribe this image in one short sentence."

    format: Literal["coco_karpathy"]

    def items(self) -> Items:
        """The images of a split; the reference is {"captions": [str]}."""
        mistakes = self.mistakes()
        fields = {
            "filename": is_text,
            "split": is_text,
            "sentences": lambda value: isinstance(value, list) and bool(value),
        }
        images = mistakes.complete(self.entries(self.read_json(), "images"), fields)
        mistakes.raise_any()
        kept = self.of_split(images, [image["split"] for image in images], DEFAULT_SPLIT)
        mistakes.unique((_name(image) for image in kept), "image")
        items = []
        for image in kept:
            captions = [s.get("raw") for s in image["sentences"] if isinstance(s, dict)]
            if len(captions) < len(image["sentences"]) or not all(map(is_text, captions)):
                mistakes.add("a sentence without 'raw'", image["filename"])
                continue
            sample = str(image.get("cocoid", image.get("imgid", image["filename"])))
            items.append(Item(sample, (_name(image),), self.fill(), {"captions": captions}))
        mistakes.unique((item.sample_id for item in items), "cocoid or imgid")
        mistakes.raise_any()
        return Items(items)


def _name(image: dict[str, str]) -> str:
    folder = image.get("filepath")
    return f"{folder}/{image['filename']}" if folder else image["filename"]


FORMAT = KarpathySpec
