"""The tasks: what counts as a right answer, and in which unit.

    answers (what the MLLM wrote) --score--> one value per sample and metric
    references (JSON, from the world) --^

The value of a data set is the mean over its samples.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Scores = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Metric:
    """A metric's name, unit and range."""

    name: str
    unit: str
    low: float
    high: float
    higher_is_better: bool


class Task(Protocol):
    """One task. `primary` names the metric of the curves; all primaries are fractions in [0, 1]."""

    name: str
    metrics: tuple[Metric, ...]
    primary: str
    chance: float | None
    """The primary metric of guessing; None where guessing has no meaning."""
    max_new_tokens: int

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Per-sample values of every metric, each (number of samples,)."""
        ...


def _fraction(name: str) -> Metric:
    return Metric(name, "fraction", 0.0, 1.0, True)


def _words(text: str) -> str:
    """Lower case, single spaces, no punctuation: what two equal answers have in common."""
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def _field(references: Sequence[str], field: str) -> list[Any]:
    return [json.loads(reference)[field] for reference in references]


class Captioning:
    """Describe the scene: CIDEr (pycocoevalcap) and exact match."""

    name = "captioning"
    metrics: tuple[Metric, ...] = (
        Metric("cider", "CIDEr", 0.0, 10.0, True),
        _fraction("exact_match"),
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

        said = [_words(a) for a in answers]
        meant = [_words(c) for c in _field(references, "caption")]
        pairs = list(zip(said, meant, strict=True))
        _, cider = Cider().compute_score(
            {i: [m] for i, (_, m) in enumerate(pairs)}, {i: [s] for i, (s, _) in enumerate(pairs)}
        )
        return {
            "cider": np.asarray(cider, np.float64),
            "exact_match": np.array([s == m for s, m in pairs], np.float64),
        }


class OneWord:
    """A task whose answer is one word, right or wrong."""

    metrics: tuple[Metric, ...] = (_fraction("accuracy"),)
    primary = "accuracy"
    max_new_tokens = 2

    def __init__(self, name: str, field: str, chance: float | None = None) -> None:
        self.name = name
        self.chance = chance
        self._field = field

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {field: str}."""
        meant = _field(references, self._field)
        right = [_words(a) == _words(m) for a, m in zip(answers, meant, strict=True)]
        return {"accuracy": np.array(right, np.float64)}


class Rec:
    """Referring expression comprehension: is the answered box right, IoU with the reference at
    least 0.5?"""

    name = "rec"
    metrics: tuple[Metric, ...] = (_fraction("accuracy@0.5"),)
    primary = "accuracy@0.5"
    chance: float | None = None
    max_new_tokens = 6

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"box": [x0, y0, x1, y1] pixels, "size": side of the image in pixels}."""
        # Imported late, so that reading metric names does not cost importing torch.
        import torch
        from torchvision.ops import box_iou

        right = []
        for answer, reference in zip(answers, references, strict=True):
            truth = json.loads(reference)
            guess = parse_box(answer, float(truth["size"]))
            if guess is None:
                right.append(0.0)
                continue
            iou = box_iou(torch.tensor([guess]), torch.tensor([truth["box"]], dtype=torch.float32))
            right.append(float(iou.item() >= 0.5))
        return {"accuracy@0.5": np.array(right, np.float64)}


class ZeroShot:
    """Zero-shot classification by the encoder: is the class the best, is it among the best five?"""

    name = "zeroshot"
    metrics: tuple[Metric, ...] = (_fraction("accuracy"), _fraction("accuracy_top5"))
    primary = "accuracy"
    chance: float | None = None
    max_new_tokens = 1

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Answers: JSON lists of classes, best first. References: {"class": str}."""
        meant = _field(references, "class")
        ranked: list[list[str]] = [json.loads(answer) for answer in answers]
        pairs = list(zip(ranked, meant, strict=True))
        return {
            "accuracy": np.array([m in r[:1] for r, m in pairs], np.float64),
            "accuracy_top5": np.array([m in r[:5] for r, m in pairs], np.float64),
        }


def parse_box(answer: str, size: float) -> tuple[float, float, float, float] | None:
    """The box, in pixels of an image of side `size`, that four location words describe.

    Returns None for anything but exactly four location words or for an empty box: a wrong answer,
        not an error.
    """
    from trainables.world.captions import LOCATION_BINS

    words = answer.split()
    bins = [re.fullmatch(r"loc(\d+)", word) for word in words]
    if len(bins) != 4 or not all(bins):
        return None
    x0, y0, x1, y1 = (int(m.group(1)) / LOCATION_BINS * size for m in bins if m)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


_ALL: tuple[Task, ...] = (
    Captioning(),
    OneWord("vqa", "answer"),
    Rec(),
    OneWord("fewshot", "label", chance=0.2),  # five classes
    ZeroShot(),
)
TASKS: dict[str, Task] = {task.name: task for task in _ALL}
