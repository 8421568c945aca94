"""The tasks of the bundled scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.tasks.task import (
    MeansOnly,
    Metric,
    Scores,
    fraction,
    of_references,
    words,
)


class Captioning(MeansOnly):
    """Describe the scene: CIDEr (pycocoevalcap) and exact match."""

    name = "captioning"
    metrics: tuple[Metric, ...] = (
        Metric("cider", "CIDEr", 0.0, 10.0, True),
        fraction("exact_match"),
    )
    primary = "exact_match"
    chance: float | None = None
    max_new_tokens = 32

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"caption": str}. CIDEr weighs words by the references given here: score a
        whole set at once."""
        if not answers:
            return {"cider": np.zeros(0), "exact_match": np.zeros(0)}
        # Imported late: pycocoevalcap pulls in matplotlib-sized dependencies that other tasks do
        # not need.
        from pycocoevalcap.cider.cider import Cider

        said = [words(a) for a in answers]
        meant = [words(c) for c in of_references(references, "caption")]
        pairs = list(zip(said, meant, strict=True))
        _, cider = Cider().compute_score(
            {i: [m] for i, (_, m) in enumerate(pairs)}, {i: [s] for i, (s, _) in enumerate(pairs)}
        )
        return {
            "cider": np.asarray(cider, np.float64),
            "exact_match": np.array([s == m for s, m in pairs], np.float64),
        }
