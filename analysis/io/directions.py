"""Which direction of a metric is better, in results that do not say so.

A sweep's own tasks declare it in `sweep.json`. Of other people's files it is known by the metric's
name, or said by whoever reads them. A comparison the wrong way round looks like any other: where it
is not known, nothing is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from analysis.io.schema import AnalysisError

_HIGHER: Final = (
    *("exact_match", "accuracy", "acc", "top", "f1", "precision", "recall", "cider", "bleu"),
    *("rouge", "meteor", "spice", "anls", "psnr", "ssim", "ms-ssim", "vmaf", "map", "miou", "auc"),
)
_LOWER: Final = (
    *("mse", "rmse", "mae", "lpips", "dists", "fid", "kid", "nll", "loss", "perplexity", "ppl"),
    *("error", "error_rate", "wer", "cer", "bits"),
)
_KNOWN: Final = {
    better: re.compile(rf"({'|'.join(names)})(?![a-z])")
    for better, names in ((True, _HIGHER), (False, _LOWER))
}
"""What a metric's name begins with: `accuracy@0.5`, `bleu-4`, `psnr-rgb`, `mse`."""
_TURNS: Final = re.compile(r"err|loss|drop|fail|free|diff|gap|dist")
"""What may turn the direction of such a name: `top1_error`, `accuracy_drop`."""


@dataclass(frozen=True)
class Directions:
    """Directions that are said for metrics.

    Attributes:
        higher, lower: metrics of which more, or less, is better.
    """

    higher: frozenset[str] = frozenset()
    lower: frozenset[str] = frozenset()

    def of(self, metrics: Iterable[str], source: str) -> dict[str, bool]:
        """Whether more of each metric is better.

        Raises:
            AnalysisError: a metric is said to be both, or its direction is neither said nor known.
        """
        directions = {metric: self._direction(metric) for metric in metrics}
        both = ", ".join(sorted(self.higher & self.lower))
        if both:
            raise AnalysisError(f"{both}: given as both higher and lower is better")
        unknown = ", ".join(metric for metric, better in directions.items() if better is None)
        if unknown:
            raise AnalysisError(
                f"{source}: metrics {unknown}: not known whether more is better; say so "
                "(--higher-is-better or --lower-is-better NAME, in Python read_sweep(..., "
                "higher_is_better=[NAME]) or lower_is_better), or take out what is no metric"
            )
        return {metric: bool(better) for metric, better in directions.items()}

    def is_lower(self, metric: str) -> bool:
        """Whether less of a metric is said, or by its name known, to be better."""
        return self._direction(metric) is False

    def _direction(self, metric: str) -> bool | None:
        if metric in self.higher or metric in self.lower:
            return metric in self.higher
        name = metric.lower()
        for better, form in _KNOWN.items():
            if (known := form.match(name)) and not _TURNS.search(name[known.end() :]):
                return better
        return None
