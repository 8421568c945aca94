"""Classification of images in ImageNet's layout: CLASS/*.JPEG, a folder per class.

`annotations` names the classes, as `data.names`.
"""

from __future__ import annotations

from typing import Literal

from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.items import Item, Items, PublishedBenchmark
from trainables.datasets.images.class_names import name_classes
from trainables.datasets.images.files import IMAGE_SUFFIXES, SourceError, absolute, list_files


class ImagenetSpec(PublishedBenchmark, ImageDirectorySpec):
    """Settings of format `imagenet`."""

    default_task = "classification"
    default_seed = 0

    format: Literal["imagenet"]

    def items(self) -> Items:
        """Images in a folder per class; the reference is {"class": "number name"}."""
        try:
            files = list_files(absolute(self.images))
        except SourceError as error:
            raise self.error("images", error) from error
        paths = [f.path for f in files if f.path.lower().endswith(IMAGE_SUFFIXES) and "/" in f.path]
        if not paths:
            raise self.error("images", "no images in folders, one per class")
        keys = sorted({path.split("/")[0] for path in paths})
        names = name_classes(keys, self.annotations, setting="annotations")
        labels = {key: f"{number} {name}" for number, (key, name) in enumerate(names.items())}
        items = [
            Item(path, (path,), self.fill(), {"class": labels[path.split("/")[0]]})
            for path in paths
        ]
        return Items(items, classes=tuple(names.values()))


FORMAT = ImagenetSpec
