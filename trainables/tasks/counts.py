"""How many things on the table have a colour, a pattern or a shape?"""

from __future__ import annotations

import numpy as np

from trainables.datasets.worlds.samples import SceneSample
from trainables.datasets.worlds.tabletop.language import ATTRIBUTES, COUNTS, PLURALS
from trainables.datasets.worlds.tabletop.scene import COLOUR_NAMES, PATTERNS, SHAPES, TableSpec
from trainables.datasets.worlds.world import DrawnScene
from trainables.tasks.common.one_name import OneName

_VALUES = {"colour": COLOUR_NAMES, "pattern": PATTERNS, "shape": SHAPES}
_ABSENT = 0.15
"""How often what is asked for may not be there at all."""


class Counts(OneName):
    """The number of things with an attribute."""

    data_kinds = ("tabletop",)
    has_training_answers = True

    def scene_samples(
        self, scene: DrawnScene[TableSpec], rng: np.random.Generator
    ) -> list[SceneSample]:
        """A question about all things, and one about those with an attribute."""
        things = scene.spec.things
        attribute = tuple(ATTRIBUTES)[int(rng.integers(3))]
        of = ATTRIBUTES[attribute]
        values = _VALUES[attribute]
        value = of(things[int(rng.integers(len(things)))])
        if rng.random() < _ABSENT:
            value = values[int(rng.integers(len(values)))]
        named = PLURALS[SHAPES.index(value)] if attribute == "shape" else f"{value} things"
        counted = {"things": len(things), named: sum(of(thing) == value for thing in things)}
        return [
            SceneSample(
                f"<image> question : how many {name} are there ? answer :",
                COUNTS[count],
                {"answer": COUNTS[count]},
            )
            for name, count in counted.items()
        ]


TASK = Counts()
