"""Captions in the JSON of the Karpathy splits (COCO, Flickr30k): several references per image.

{"images": [{"filename", "filepath" (COCO), "split", "sentences": [{"raw"}], "cocoid" or "imgid"}]}
"""

from __future__ import annotations

from typing import Literal

from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.items import (
    Item,
    Items,
    Mistakes,
    PublishedBenchmark,
    entries,
    fill,
    is_text,
    keep_complete,
    of_split,
    read_json,
)

DEFAULT_SPLIT = "test"


class KarpathySpec(PublishedBenchmark, ImageDirectorySpec):
    """Settings of format `coco_karpathy`."""

    default_task = "captions"
    default_prompt = "<image>\nDescribe this image in one short sentence."

    format: Literal["coco_karpathy"]
    split: str | None = None
    """Which of the splits is used; null: test."""

    @property
    def chosen_split(self) -> str | None:
        """The split of the annotations that is used."""
        return self.split

    def items(self) -> Items:
        """The samples of the annotations."""
        return read_karpathy(self)


def read_karpathy(spec: KarpathySpec) -> Items:
    """The images of a split; the reference is {"captions": [str]}."""
    uri, mistakes = spec.annotations, Mistakes()
    images = entries("annotations", uri, read_json("annotations", uri), "images")
    fields = {
        "filename": is_text,
        "split": is_text,
        "sentences": lambda value: isinstance(value, list) and bool(value),
    }
    images = keep_complete(images, fields, mistakes)
    mistakes.raise_any("annotations", uri)
    kept = of_split(spec, images, spec.split or DEFAULT_SPLIT, [image["split"] for image in images])
    mistakes.unique((_name(image) for image in kept), "image")
    items = []
    for image in kept:
        captions = [s.get("raw") for s in image["sentences"] if isinstance(s, dict)]
        if len(captions) < len(image["sentences"]) or not all(map(is_text, captions)):
            mistakes.add("a sentence without 'raw'", image["filename"])
            continue
        sample = str(image.get("cocoid", image.get("imgid", image["filename"])))
        items.append(Item(sample, (_name(image),), fill(spec), {"captions": captions}))
    mistakes.unique((item.sample_id for item in items), "cocoid or imgid")
    mistakes.raise_any("annotations", uri)
    return Items(items)


def _name(image: dict[str, str]) -> str:
    folder = image.get("filepath")
    return f"{folder}/{image['filename']}" if folder else image["filename"]


FORMAT = KarpathySpec
