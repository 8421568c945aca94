"""Few-shot classification of scenes: labelled images of five classes, then one to classify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainables.datasets.worlds.samples import LABELS, EpisodeSample
from trainables.datasets.worlds.scenes.scene import COLOUR_NAMES, DIGITS
from trainables.tasks.common.one_name import OneName


class SceneFewshot(OneName):
    """In-context classification; the answer is the letter of a class."""

    data_kinds = ("scenes",)
    several_images = True
    in_episodes = True
    chance = 1 / len(LABELS)
    reference_field = "label"

    def episode(
        self, images_of_class: Mapping[int, Sequence[str]], rng: np.random.Generator
    ) -> EpisodeSample:
        """An image of each of five classes with its label, then another image of one of them."""
        classes = draw_classes(rng, len(LABELS), sorted(images_of_class))
        labels = [LABELS[int(i)] for i in rng.permutation(len(LABELS))]
        asked = int(rng.integers(len(LABELS)))
        shown = [images_of_class[c][int(rng.integers(len(images_of_class[c])))] for c in classes]
        unseen = [i for i in images_of_class[classes[asked]] if i != shown[asked]]
        query = unseen[int(rng.integers(len(unseen)))]
        prompt = " ".join(f"<image> class {label}" for label in labels) + " <image> class"
        answer = labels[asked]
        return EpisodeSample((*shown, query), prompt, answer, {"label": answer})


def draw_classes(
    rng: np.random.Generator, ways: int, allowed: Sequence[int] | None = None
) -> list[int]:
    """Draw distinct (colour, digit) classes for an episode.

    Two thirds of the episodes stay within two or three colours, so that colour alone does not
    answer.

    Args:
        allowed: class indices to choose from; None means all.
    """
    pool = list(range(len(COLOUR_NAMES) * len(DIGITS))) if allowed is None else list(allowed)
    n_colours = (2, 3, len(COLOUR_NAMES))[int(rng.integers(3))]
    colours = set(rng.permutation(len(COLOUR_NAMES))[:n_colours].tolist())
    narrow = [c for c in pool if c // len(DIGITS) in colours]
    if len(narrow) < ways:
        narrow = pool
    return [narrow[int(i)] for i in rng.permutation(len(narrow))[:ways]]


TASK = SceneFewshot()
