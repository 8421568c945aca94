"""What a suite's results say: scores of tasks, and values of their test samples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pandas as pd

Scale = Literal["fraction", "percent", "share", "own"]
"""Unit of a score. `share`: a fraction or a percentage, which only the scores of all points tell;
`own`: the metric's own unit, such as MME's points or CIDEr."""
SAMPLE: Final = ("sample_id", "image_id", "value")
"""Columns of `Score.samples`."""


class ResultsError(Exception):
    """Results that cannot be read; the message says why, and not in which file."""


class UnknownFormError(ResultsError):
    """No results of a form that is known here."""


@dataclass(frozen=True)
class Score:
    """The value of one metric on one task.

    Attributes:
        task: the benchmark's name, with that of its split where the file has several.
        metric: name of the metric.
        value: as the file has it, in the unit that `scale` names.
        scale: its unit.
        benchmark: the benchmark's name alone.
        split: of the test samples; empty where the file does not say it.
        n_samples: test samples behind the value; 0: unknown.
        higher_is_better: None where the file does not say it.
        samples: columns `SAMPLE`, values in the score's unit; None where they are not known.
        of_samples: the unit that the samples say: that of a share where they lie within 0 to 1.
        targets: a digest of what is right, by `sample_id` of the samples.
        is_no_mean: samples are there, and the value is not their mean.
    """

    task: str
    metric: str
    value: float
    scale: Scale
    benchmark: str
    split: str = ""
    n_samples: int = 0
    higher_is_better: bool | None = None
    samples: pd.DataFrame | None = field(default=None, compare=False)
    of_samples: Scale | None = None
    targets: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    is_no_mean: bool = False


@dataclass(frozen=True)
class Results:
    """What one file says.

    Attributes:
        model: the MLLM's name; empty where the file does not say it.
        scores: the first of each task is that of its primary metric.
        left_out: a line for each thing that is not read, and why.
    """

    model: str
    scores: tuple[Score, ...]
    left_out: tuple[str, ...] = ()


def parse_json(data: bytes) -> Any:
    """The content of a JSON file.

    Raises:
        ResultsError: not JSON, or nested too deeply.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ResultsError("not JSON") from None


def finite(value: Any, name: str) -> float:
    """A score as a number; texts, as CSV files have them, are read as numbers.

    Raises:
        ResultsError: none, or not finite; the message begins with `name`.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)
        if not math.isfinite(number):
            value = str(number)
            raise ValueError
    except (ValueError, OverflowError):
        shown = repr(value[:40]) if isinstance(value, str) else type(value).__name__
        raise ResultsError(f"{name}: must be a finite number, not {shown}") from None
    return number
