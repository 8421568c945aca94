"""Where is one of a scene's digits? Answered by the four location bins of its tight box."""

from __future__ import annotations

import numpy as np

from trainables.datasets.worlds.locations import box_words
from trainables.datasets.worlds.samples import SceneSample
from trainables.datasets.worlds.scenes.scene import COLOUR_NAMES, DIGITS, SceneSpec
from trainables.datasets.worlds.world import DrawnScene
from trainables.tasks.grounding import Grounding


class SceneGrounding(Grounding):
    """Referring expressions on scenes, as `Grounding` with boxes in the demo's words."""

    data_kinds = ("scenes",)
    has_training_answers = True
    max_new_tokens = 6

    def scene_samples(
        self, scene: DrawnScene[SceneSpec], rng: np.random.Generator
    ) -> list[SceneSample]:
        """The place of one object, drawn at random."""
        index = int(rng.integers(len(scene.spec.objects)))
        target = scene.spec.objects[index]
        box = [int(v) for v in scene.boxes[index]]
        answer = box_words(box, scene.size)
        prompt = f"<image> where is the {COLOUR_NAMES[target.colour]} {DIGITS[target.digit]} ?"
        reference = {"box": box, "size": scene.size}
        return [SceneSample(prompt, answer, reference, target.position)]


TASK = SceneGrounding()
