"""What colour, pattern or shape has a thing on the table?"""

from __future__ import annotations

import numpy as np

from trainables.datasets.worlds.samples import SceneSample
from trainables.datasets.worlds.tabletop.language import ATTRIBUTES
from trainables.datasets.worlds.tabletop.scene import TableSpec
from trainables.datasets.worlds.world import DrawnScene
from trainables.tasks.common.one_name import OneName


class Attributes(OneName):
    """One attribute of a thing, which the two others name."""

    data_kinds = ("tabletop",)
    has_training_answers = True

    def scene_samples(
        self, scene: DrawnScene[TableSpec], rng: np.random.Generator
    ) -> list[SceneSample]:
        """Two questions, or as many as the scene allows without ambiguity."""
        asked = questions(scene.spec)
        chosen = rng.permutation(len(asked))[:2]
        return [asked[int(i)] for i in chosen]


def questions(scene: TableSpec) -> list[SceneSample]:
    """All questions about an attribute that have one answer."""
    samples = []
    for wanted, attribute in ATTRIBUTES.items():
        others = [of for name, of in ATTRIBUTES.items() if name != wanted]
        names = [" ".join(of(thing) for of in others) for thing in scene.things]
        for number, (name, thing) in enumerate(zip(names, scene.things, strict=True)):
            if names.count(name) == 1:
                noun = name if wanted != "shape" else f"{name} thing"
                samples.append(
                    SceneSample(
                        f"<image> question : what {wanted} has the {noun} ? answer :",
                        attribute(thing),
                        {"answer": attribute(thing)},
                        number,
                    )
                )
    return samples


TASK = Attributes()
