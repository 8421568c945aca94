"""The contract of a task: its metrics, how an answer is scored, and how a set of samples is.

    answers, references (JSON) --score--> a value per sample and metric --mean--> of the set
                               --statistics--> sums over the set --of_set--> metrics of the set

A metric that is no mean over samples (F1, corpus BLEU) is a function of sums of per-sample
statistics; its interval resamples the samples and sums again (`set_metrics.py`).
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.facts.tasks import TaskFacts
from trainables.datasets.images.samples import ImageSample
from trainables.datasets.worlds.samples import SceneSample
from trainables.datasets.worlds.world import DrawnScene

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


class Task(TaskFacts, ABC):
    """One task: its metrics and how answers are scored; on scenes also what is asked.

    A subclass sets `metrics`, `primary` and `max_new_tokens` and defines `score`. To be asked on
    a made world it has its kind in `data_kinds` and defines `scene_samples`; on labelled
    images, `data_kinds = ("folder", "parquet", "datasets")` and `image_sample`.
    """

    chance: float | None = None
    """The primary metric of guessing; None where guessing has no meaning."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """Those that can be computed on this machine."""

    @property
    @abstractmethod
    def primary(self) -> str:
        """The metric of the curves, a mean over samples."""

    @property
    @abstractmethod
    def max_new_tokens(self) -> int:
        """The length of an answer, in tokens of the MLLM."""

    @abstractmethod
    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Per-sample values of every metric that is not of a set, each (number of samples,).

        Args:
            answers: what the MLLM (or the encoder) answered.
            references: JSON, as the samples have them.
        """

    def statistics(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Per-sample statistics whose sums over a set make its set metrics, each (samples,)."""
        return {}

    def of_set(self, sums: Mapping[str, Values]) -> Scores:
        """The set metrics of R sets.

        Args:
            sums: of every statistic, each (R,).

        Returns:
            Each (R,), finite.
        """
        return {}

    def scene_samples(self, scene: DrawnScene[Any], rng: np.random.Generator) -> list[SceneSample]:
        """The samples of one scene, of a task whose `data_kinds` has its world.

        Args:
            scene: its objects, their boxes and the image's size.
            rng: the source of all randomness.
        """
        raise NotImplementedError(f"{type(self).__name__} has no samples of scenes")

    def image_sample(self, number: int, names: Sequence[str]) -> ImageSample:
        """The sample of a labelled image, of a task whose `data_kinds` has other kinds of data.

        Args:
            number: index of the image's class.
            names: of all classes.
        """
        raise NotImplementedError(f"{type(self).__name__} has no samples of labelled images")


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
