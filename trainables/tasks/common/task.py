"""What a task is: its metrics, how an answer is scored, and how a set of samples is.

    answers, references (JSON) --score--> a value per sample and metric --mean--> of the set
                               --statistics--> sums over the set --of_set--> metrics of the set

A metric that is no mean over samples (F1, corpus BLEU) is a function of sums of per-sample
statistics; its interval resamples the samples and sums again (`sets.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Scores = dict[str, Values]


@dataclass(frozen=True)
class Metric:
    """A metric's name, unit, range and direction; `of_set`: it is no mean over samples."""

    name: str
    unit: str
    low: float
    high: float
    higher_is_better: bool
    of_set: bool = False


class Task(Protocol):
    """One task. `primary` names the metric of the curves, a mean over samples."""

    name: str
    primary: str
    chance: float | None
    """The primary metric of guessing; None where guessing has no meaning."""
    max_new_tokens: int
    by_likelihood: bool
    """Whether an answer is no text that is generated, but the log-likelihood of each of the
    reference's `choices` (letter -> text) after the prompt, in their order, as a JSON list."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those that can be computed on this machine."""
        ...

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Per-sample values of every metric that is not of a set, each (number of samples,)."""
        ...

    def statistics(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Per-sample statistics whose sums over a set make its set metrics, each (samples,)."""
        ...

    def of_set(self, sums: Mapping[str, Values]) -> Scores:
        """The set metrics of R sets.

        Args:
            sums: of every statistic, each (R,).

        Returns:
            Each (R,), finite.
        """
        ...


class MeansOnly:
    """What tasks share whose metrics are all means over samples."""

    by_likelihood = False

    def statistics(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """See `Task`: none."""
        return {}

    def of_set(self, sums: Mapping[str, Values]) -> Scores:
        """See `Task`: none."""
        return {}


def fraction(name: str, of_set: bool = False) -> Metric:
    """A metric in [0, 1], the higher the better."""
    return Metric(name, "fraction", 0.0, 1.0, True, of_set)


def words(text: str) -> str:
    """Lower case, single spaces, no punctuation: what two equal answers have in common."""
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def of_references(references: Sequence[str], name: str) -> list[Any]:
    """A field of every reference."""
    return [json.loads(reference)[name] for reference in references]


def ratio(over: Values, under: Values) -> Values:
    """Their quotient; 0 where there is nothing to divide by."""
    return np.divide(over, under, out=np.zeros(np.shape(over)), where=under > 0)
