"""A curve: rate-accuracy points that differ only in rate."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd

from analysis.curves.missing import Missing
from search_spaces.specs.points import JOINED
from search_spaces.specs.scenario_look import ScenarioLook

MEAN: Final = "mean over tasks"
"""Task of the curves that average the tasks' primary metrics."""
MEAN_METRIC: Final = "mean of primary metrics"


@dataclass(frozen=True)
class Curve:
    """Rate-accuracy points that differ only in rate.

    Attributes:
        codec, variant, scenario, mllm, task, metric: what the points have in common; `variant` is
            empty where the space has none or all share the points.
        seeds: seeds found; with several, `frame` holds their means.
        frame: a row per rate, by rising bpp: `lmbda` (nan where there is none), `bpp`, `value`,
            `low`, `high` (95 % interval, nan where unknown), `point_keys` and `seeds` (tuples).
        missing: expected points without a value.
        expected: lambdas that were expected.
        look: of the scenario.
    """

    codec: str
    variant: str
    scenario: str
    mllm: str
    task: str
    metric: str
    seeds: tuple[int, ...]
    frame: pd.DataFrame
    missing: tuple[Missing, ...]
    expected: tuple[float, ...]
    look: ScenarioLook

    @property
    def display_name(self) -> str:
        """Name in sentences: the scenario's title; for a standard the name of its codec."""
        return self.codec if self.look.codec == "standard" and self.codec else self.look.title

    @property
    def owner(self) -> tuple[str, str, str]:
        """Codec, scenario and variant: what the curves of all tasks have in common."""
        return self.codec, self.scenario, self.variant

    @property
    def rank(self) -> tuple[int, str]:
        """Sort key that puts curves into their scenarios' order."""
        return self.look.order, self.scenario

    @property
    def complete(self) -> bool:
        """Whether every expected point is there."""
        return not self.missing

    @property
    def holes(self) -> tuple[float, ...]:
        """Missing lambdas between found ones: a line must not be drawn over them."""
        lambdas = self.frame["lmbda"].dropna().tolist()
        if not lambdas:
            return ()
        gone = set(self.expected) - set(lambdas)
        return tuple(sorted(x for x in gone if min(lambdas) < x < max(lambdas)))

    @property
    def segments(self) -> list[pd.DataFrame]:
        """The frame, cut at its holes."""
        if self.frame.empty:
            return []
        lmbda = self.frame["lmbda"].to_numpy(dtype=np.float64)
        holes = self.holes
        cuts = [
            i + 1
            for i, (a, b) in enumerate(pairwise(lmbda))
            if any(min(a, b) < hole < max(a, b) for hole in holes)
        ]
        edges = [0, *cuts, len(lmbda)]
        return [self.frame.iloc[a:b] for a, b in pairwise(edges)]


def of_variant(variant: str, shared: str) -> bool:
    """Whether a variant has a curve whose own `variant` is empty, a name or several joined."""
    return not shared or variant in shared.split(JOINED)
