"""Things on a table, as the contract of made worlds has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.datasets.worlds.tabletop.language import TEMPLATES, caption, name_of
from trainables.datasets.worlds.tabletop.sampling import sample_table
from trainables.datasets.worlds.tabletop.scene import LEVELS, TableSpec, class_names
from trainables.datasets.worlds.world import Boxes, DrawnScene, Split

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Tabletop:
    """Textured things of several sizes, some partly hidden, and a card to read.

    Attributes:
        levels: how difficult scenes are, indices into LEVELS.
    """

    levels: Sequence[int] = tuple(range(len(LEVELS)))

    def class_names(self) -> Sequence[str]:
        """The (pattern, colour, shape) classes."""
        return class_names()

    def templates(self) -> Sequence[str]:
        """Sentences around a class's name."""
        return TEMPLATES

    def sample(self, rng: np.random.Generator, split: Split) -> TableSpec:
        """A scene of one of the levels."""
        return sample_table(rng, self.levels)

    def render(self, scenes: Sequence[TableSpec], size: int) -> tuple[Tensor, Boxes]:
        """Images, and boxes of the things and, last, of the card."""
        from trainables.datasets.worlds.tabletop.drawing import render  # imports torch

        return render(scenes, size)

    def classes(self, scene: TableSpec) -> list[int]:
        """The classes of its things."""
        return [thing.class_index for thing in scene.things]

    def caption(self, scene: TableSpec) -> str:
        """All things from left to right, and the card."""
        return caption(scene)

    def objects(self, drawn: DrawnScene[TableSpec]) -> list[Mapping[str, Any]]:
        """The name and box of each thing from the back to the front, and the card's text and box,
        each with the level of the scene."""
        scene = drawn.spec
        *boxes, card = (list(box) for box in drawn.boxes)
        things = zip(scene.things, boxes, strict=True)
        named = [{"name": name_of(t), "box": box, "level": scene.level} for t, box in things]
        return [
            *named,
            {"name": "card", "text": scene.card.text, "box": card, "level": scene.level},
        ]


WORLD = Tabletop()
