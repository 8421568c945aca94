"""Few-shot episodes from mini-ImageNet's CSV: lines `filename,label`, an image of a class each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field

from search_spaces.specs.base import Positive
from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.items import Item, Items, PublishedBenchmark, is_text
from trainables.datasets.images.class_names import name_classes

_LABEL = "{label}"
EPISODES: Final = 600
"""Episodes where `limit` is null."""


class MiniImagenetSpec(PublishedBenchmark, ImageDirectorySpec):
    """Settings of format `mini_imagenet`."""

    default_task = "fewshot_names"
    default_prompt = "<image> This is a {label}.\n"
    prompt_fields = ("label",)
    file_settings = ("annotations", "names")
    limits_itself = True
    remark = "its images are from ImageNet's train part: what trains on that has seen them"

    format: Literal["mini_imagenet"]
    limit: Positive | None = None
    """Episodes; null for 600."""
    names: str | None = None
    """What names the classes, as `data.names`."""
    prompt: str | None = None
    """Template that is repeated per image, with `<image>` and `{label}` once; for the image that is
    asked it ends before the label."""
    ways: Annotated[int, Field(ge=2)] = 5
    """Classes of an episode."""
    shots: Positive = 1
    """Labelled images per class of an episode."""

    def _prompt_problems(self) -> list[str]:
        problems = super()._prompt_problems()
        if self.prompt is not None and self.prompt.count(_LABEL) != 1:
            problems.append(f"prompt = {self.prompt!r}: must hold {_LABEL} once")
        return problems

    def items(self) -> Items:
        """n-way k-shot episodes; the reference is {"label": str, "labels": [str]}.

        The images with their labels come in random order, then one more of one of the classes.
        """
        mistakes = self.mistakes()
        table = self.read_table(",", ("filename", "label"))
        rows = mistakes.complete(table, {"filename": is_text, "label": is_text})
        mistakes.unique((row["filename"] for row in rows), "filename")
        mistakes.raise_any()
        members: dict[str, list[str]] = {}
        for row in rows:
            members.setdefault(row["label"].strip(), []).append(row["filename"].strip())
        names = name_classes(sorted(members), self.names, setting="names")
        if len(set(names.values())) < len(names):
            raise self.error("names", "two classes have the same name")
        able = [key for key in names if len(members[key]) > self.shots]
        if len(able) < self.ways:
            raise self.error(
                "ways",
                f"{len(able)} of the {len(members)} classes in {self.annotations!r} have more than "
                f"shots = {self.shots} images",
            )
        count = EPISODES if self.limit is None else self.limit
        return Items([self._episode(number, able, members, names) for number in range(count)])

    def _episode(
        self,
        number: int,
        able: Sequence[str],
        members: dict[str, list[str]],
        names: dict[str, str],
    ) -> Item:
        rng = np.random.default_rng([self.seed or 0, number])
        classes = [able[i] for i in rng.choice(len(able), self.ways, replace=False)]
        asked = classes[int(rng.integers(self.ways))]
        support, query = [], ""
        for key in classes:
            wanted = self.shots + (key == asked)
            drawn = [members[key][i] for i in rng.choice(len(members[key]), wanted, replace=False)]
            support += [(image, names[key]) for image in drawn[: self.shots]]
            query = drawn[-1] if key == asked else query
        support = [support[i] for i in rng.permutation(len(support))]
        shown = "".join(self.fill(label=name) for _, name in support)
        prompt = shown + self.template.split(_LABEL)[0].format().rstrip()
        images = (*(image for image, _ in support), query)
        reference = {"label": names[asked], "labels": [names[key] for key in classes]}
        return Item(f"episode-{number:05d}", images, prompt, reference)


FORMAT = MiniImagenetSpec
