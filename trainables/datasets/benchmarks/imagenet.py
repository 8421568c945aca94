"""Zero-shot classification of images in ImageNet's layout: CLASS/*.JPEG, a folder per class.

`annotations` names the classes, as `data.names`.
"""

from __future__ import annotations

from typing import Literal

from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.items import Item, Items, PublishedBenchmark, fill
from trainables.datasets.benchmarks.mini_imagenet import class_names_of
from trainables.datasets.images.files import IMAGE_SUFFIXES, SourceError, absolute, list_files


class ImagenetSpec(PublishedBenchmark, ImageDirectorySpec):
    """Settings of format `imagenet`."""

    default_task = "zeroshot"
    default_seed = 0

    format: Literal["imagenet"]

    def items(self) -> Items:
        """The samples of the annotations."""
        return read_imagenet(self)


def read_imagenet(spec: ImagenetSpec) -> Items:
    """Images in a folder per class; the reference is {"class": "number name"}."""
    try:
        files = list_files(absolute(spec.images))
    except SourceError as error:
        raise SourceError(f"images = {spec.images!r}: {error}") from error
    paths = [f.path for f in files if f.path.lower().endswith(IMAGE_SUFFIXES) and "/" in f.path]
    if not paths:
        raise SourceError(f"images = {spec.images!r}: no images in folders, one per class")
    keys = sorted({path.split("/")[0] for path in paths})
    names = class_names_of(keys, spec.annotations, "annotations")
    labels = {key: f"{number} {name}" for number, (key, name) in enumerate(names.items())}
    items = [
        Item(path, (path,), fill(spec), {"class": labels[path.split("/")[0]]}) for path in paths
    ]
    return Items(items, classes=tuple(names.values()))


FORMAT = ImagenetSpec
