"""The demo's world, as the contract of made worlds has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.datasets.worlds.scenes.captions import TEMPLATES, caption
from trainables.datasets.worlds.scenes.sampling import sample_scene
from trainables.datasets.worlds.scenes.scene import (
    COLOUR_NAMES,
    DIGITS,
    POSITIONS,
    SceneSpec,
    class_names,
)
from trainables.datasets.worlds.world import Boxes, DrawnScene, Split

if TYPE_CHECKING:
    from torch import Tensor


class Scenes:
    """Handwritten digits on photographs."""

    def class_names(self) -> Sequence[str]:
        """The (colour, digit) classes."""
        return class_names()

    def templates(self) -> Sequence[str]:
        """Sentences around a class's name."""
        return TEMPLATES

    def sample(self, rng: np.random.Generator, split: Split) -> SceneSpec:
        """One to three digits, for training slightly deformed."""
        return sample_scene(rng, split, augment=split == "train")

    def single(self, rng: np.random.Generator, split: Split, number: int) -> SceneSpec:
        """A single digit of a class."""
        return sample_scene(rng, split, objects=[divmod(number, len(DIGITS))])

    def render(self, scenes: Sequence[SceneSpec], size: int) -> tuple[Tensor, Boxes]:
        """Images and the digits' boxes."""
        from trainables.datasets.worlds.scenes.drawing import render  # imports torch

        return render(scenes, size)

    def classes(self, scene: SceneSpec) -> list[int]:
        """The classes of its digits."""
        return [o.class_index for o in scene.objects]

    def caption(self, scene: SceneSpec) -> str:
        """The caption in the demo's grammar."""
        return caption(scene)

    def objects(self, drawn: DrawnScene[SceneSpec]) -> list[Mapping[str, Any]]:
        """Digit, colour, position and box of each."""
        return [
            {
                "digit": DIGITS[o.digit],
                "colour": COLOUR_NAMES[o.colour],
                "position": POSITIONS[o.position],
                "box": list(box),
            }
            for o, box in zip(drawn.spec.objects, drawn.boxes, strict=True)
        ]


WORLD = Scenes()
