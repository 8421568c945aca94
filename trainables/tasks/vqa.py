"""Questions about a scene with one-word answers."""

from __future__ import annotations

from collections import Counter

import numpy as np

from trainables.datasets.worlds.samples import SceneSample
from trainables.datasets.worlds.scenes.scene import COLOUR_NAMES, DIGITS, POSITIONS, SceneSpec
from trainables.datasets.worlds.world import DrawnScene
from trainables.tasks.common.one_name import OneName

_COUNTS = ("zero", "one", "two", "three")


class SceneVqa(OneName):
    """Which digit, what colour, how many? One word answers."""

    data_kinds = ("scenes",)
    has_training_answers = True

    def scene_samples(
        self, scene: DrawnScene[SceneSpec], rng: np.random.Generator
    ) -> list[SceneSample]:
        """Two questions, or one where both draws ask the same."""
        first, second = question(scene.spec, rng), question(scene.spec, rng)
        return [first] if second.prompt == first.prompt else [first, second]


def question(scene: SceneSpec, rng: np.random.Generator) -> SceneSample:
    """A question of a kind that the scene allows without ambiguity."""
    objects = scene.objects
    by_colour = Counter(o.colour for o in objects)
    by_digit = Counter(o.digit for o in objects)
    target = objects[int(rng.integers(len(objects)))]
    colour, digit = COLOUR_NAMES[target.colour], DIGITS[target.digit]
    position = POSITIONS[target.position]
    choices = [
        (f"which digit is at the {position} ?", digit),
        (f"what colour is the digit at the {position} ?", colour),
    ]
    if by_colour[target.colour] == 1:
        choices += [(f"which digit is {colour} ?", digit)] * 2
    if by_digit[target.digit] == 1:
        choices += [(f"what colour is the {digit} ?", colour)] * 2
    if rng.random() < 0.12:
        choices = [("how many digits ?", _COUNTS[len(objects)])]
    question, answer = choices[int(rng.integers(len(choices)))]
    prompt = f"<image> question : {question} answer :"
    looked_at = None if question.startswith("how many") else target.position
    return SceneSample(prompt, answer, {"answer": answer}, looked_at)


TASK = SceneVqa()
