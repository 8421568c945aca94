"""What is written on the card on the table?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.datasets.worlds.samples import SceneSample
from trainables.datasets.worlds.tabletop.language import spelled
from trainables.datasets.worlds.tabletop.scene import TableSpec
from trainables.datasets.worlds.world import DrawnScene
from trainables.tasks.common.task import Scores
from trainables.tasks.text_reading import TextReading


class CardReading(TextReading):
    """The characters of a card, each a word of the answer."""

    data_kinds = ("tabletop",)
    has_training_answers = True
    max_new_tokens = 5

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"texts": [str]} without spaces, which count for nothing in answers."""
        return super().score([answer.replace(" ", "") for answer in answers], references)

    def scene_samples(
        self, scene: DrawnScene[TableSpec], rng: np.random.Generator
    ) -> list[SceneSample]:
        """The text of the card; nothing is random."""
        text, number = scene.spec.card.text, len(scene.spec.things)
        reference = {"texts": [text]}
        prompt = "<image> question : what is written on the card ? answer :"
        return [SceneSample(prompt, spelled(text), reference, number)]


TASK = CardReading()
