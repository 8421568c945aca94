"""The tasks of the bundled scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.tasks.captions import CIDER, cider
from trainables.tasks.task import MeansOnly, Metric, Scores, fraction, of_references, words


class Captioning(MeansOnly):
    """Describe the scene: CIDEr (pycocoevalcap) and exact match."""

    name = "captioning"
    metrics: tuple[Metric, ...] = (CIDER, fraction("exact_match"))
    primary = "exact_match"
    chance: float | None = None
    max_new_tokens = 32

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"caption": str}. CIDEr weighs words by the references given here: score a
        whole set at once."""
        said = [words(a) for a in answers]
        meant = [words(c) for c in of_references(references, "caption")]
        right = [s == m for s, m in zip(said, meant, strict=True)]
        return {
            "cider": cider(said, [[m] for m in meant]),
            "exact_match": np.array(right, np.float64),
        }
