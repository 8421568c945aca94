"""Describe a scene in the demo's grammar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.datasets.worlds.samples import SceneSample
from trainables.datasets.worlds.scenes.captions import caption
from trainables.datasets.worlds.scenes.scene import SceneSpec
from trainables.datasets.worlds.world import DrawnScene
from trainables.tasks.common.caption_metrics import CIDER, cider
from trainables.tasks.common.task import Scores, Task, fraction, of_references, words


class Captioning(Task):
    """Describe the scene: CIDEr (pycocoevalcap) and exact match."""

    data_kinds = ("scenes",)
    has_training_answers = True
    metrics = (CIDER, fraction("exact_match"))
    primary = "exact_match"
    max_new_tokens = 32

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"caption": str}. CIDEr weighs words by the references given here: score a
        whole set at once."""
        captions = [words(a) for a in answers]
        truths = [words(c) for c in of_references(references, "caption")]
        right = [c == t for c, t in zip(captions, truths, strict=True)]
        return {
            "cider": cider(captions, [[t] for t in truths]),
            "exact_match": np.array(right, np.float64),
        }

    def scene_samples(
        self, scene: DrawnScene[SceneSpec], rng: np.random.Generator
    ) -> list[SceneSample]:
        """One caption; nothing is random."""
        text = caption(scene.spec)
        return [SceneSample("<image> describe the scene :", text, {"caption": text})]


TASK = Captioning()
