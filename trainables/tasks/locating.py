"""Where is a thing on the table? Answered by the four location bins of what is seen of it."""

from __future__ import annotations

import numpy as np

from trainables.datasets.worlds.locations import box_words
from trainables.datasets.worlds.samples import SceneSample
from trainables.datasets.worlds.tabletop.language import short_names
from trainables.datasets.worlds.tabletop.scene import TableSpec
from trainables.datasets.worlds.world import DrawnScene
from trainables.tasks.grounding import Grounding


class Locating(Grounding):
    """Referring expressions on tables, as `Grounding` with boxes in location words."""

    data_kinds = ("tabletop",)
    has_training_answers = True
    max_new_tokens = 6

    def scene_samples(
        self, scene: DrawnScene[TableSpec], rng: np.random.Generator
    ) -> list[SceneSample]:
        """The place of one thing that a short name tells apart; none where there is none."""
        spec = scene.spec
        named = [
            (i, name) for i, thing in enumerate(spec.things) for name in short_names(spec, thing)
        ]
        if not named:
            return []
        index, name = named[int(rng.integers(len(named)))]
        box = [int(v) for v in scene.boxes[index]]
        answer = box_words(box, scene.size)
        reference = {"box": box, "size": scene.size}
        return [SceneSample(f"<image> where is the {name} ?", answer, reference, index)]


TASK = Locating()
