"""Classification: few-shot episodes from mini-ImageNet's CSV, and images in ImageNet's layout.

mini-ImageNet   filename,label     an image of a class per line
ImageNet        CLASS/*.JPEG       and a file that names the classes
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces import BenchmarkSpec
from search_spaces.specs.benchmark import EPISODES
from trainables.datasets.benchmarks.items import (
    Item,
    Items,
    Mistakes,
    fill,
    is_text,
    keep_complete,
    read_table,
)
from trainables.datasets.images.class_names import name_classes
from trainables.datasets.images.files import IMAGE_SUFFIXES, SourceError, absolute, list_files

_LABEL = "{label}"


def read_mini_imagenet(spec: BenchmarkSpec) -> Items:
    """n-way k-shot episodes; the reference is {"label": str, "labels": [str]}.

    The images with their labels come in random order, then one more of one of the classes.
    """
    mistakes = Mistakes()
    table = read_table("annotations", spec.annotations, ",", ("filename", "label"))
    rows = keep_complete(table, {"filename": is_text, "label": is_text}, mistakes)
    mistakes.unique((row["filename"] for row in rows), "filename")
    mistakes.raise_any("annotations", spec.annotations)
    members: dict[str, list[str]] = {}
    for row in rows:
        members.setdefault(row["label"].strip(), []).append(row["filename"].strip())
    names = _names(sorted(members), spec.names, "names")
    if len(set(names.values())) < len(names):
        raise SourceError(f"names = {spec.names!r}: two classes have the same name")
    able = [key for key in names if len(members[key]) > spec.shots]
    if len(able) < spec.ways:
        raise SourceError(
            f"ways = {spec.ways}: {len(able)} of the {len(members)} classes in "
            f"{spec.annotations!r} have more than shots = {spec.shots} images"
        )
    count = EPISODES if spec.limit is None else spec.limit
    return Items([_episode(spec, number, able, members, names) for number in range(count)])


def _episode(
    spec: BenchmarkSpec,
    number: int,
    able: Sequence[str],
    members: dict[str, list[str]],
    names: dict[str, str],
) -> Item:
    rng = np.random.default_rng([spec.seed or 0, number])
    classes = [able[i] for i in rng.choice(len(able), spec.ways, replace=False)]
    asked = classes[int(rng.integers(spec.ways))]
    support, query = [], ""
    for key in classes:
        wanted = spec.shots + (key == asked)
        drawn = [members[key][i] for i in rng.choice(len(members[key]), wanted, replace=False)]
        support += [(image, names[key]) for image in drawn[: spec.shots]]
        query = drawn[-1] if key == asked else query
    support = [support[i] for i in rng.permutation(len(support))]
    shown = "".join(fill(spec, label=name) for _, name in support)
    prompt = shown + spec.template.split(_LABEL)[0].format().rstrip()
    images = (*(image for image, _ in support), query)
    reference = {"label": names[asked], "labels": [names[key] for key in classes]}
    return Item(f"episode-{number:05d}", images, prompt, reference)


def read_imagenet(spec: BenchmarkSpec) -> Items:
    """Images in a folder per class; the reference is {"class": "number name"}."""
    assert spec.images is not None
    try:
        files = list_files(absolute(spec.images))
    except SourceError as error:
        raise SourceError(f"images = {spec.images!r}: {error}") from error
    paths = [f.path for f in files if f.path.lower().endswith(IMAGE_SUFFIXES) and "/" in f.path]
    if not paths:
        raise SourceError(f"images = {spec.images!r}: no images in folders, one per class")
    keys = sorted({path.split("/")[0] for path in paths})
    names = _names(keys, spec.annotations, "annotations")
    said = {key: f"{number} {name}" for number, (key, name) in enumerate(names.items())}
    items = [Item(path, (path,), fill(spec), {"class": said[path.split("/")[0]]}) for path in paths]
    return Items(items, classes=tuple(names.values()))


def _names(keys: Sequence[str], file: str | None, setting: str) -> dict[str, str]:
    try:
        return name_classes(keys, file)
    except SourceError as error:
        raise SourceError(str(error).replace("data.names", setting)) from error
