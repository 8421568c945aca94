"""Results of lmms-eval: `*_results.json`, and `*_samples_{task}.jsonl` beside it.

The results hold `{"results": {task: {"metric,filter": value, "metric_stderr,filter": ...}},
"higher_is_better": {task: {metric: bool}}, "n-samples": ..., "configs": ...}`. Every number of a
task is a metric, but for its standard errors and the statistics of repeated answers; CIDEr is the
primary one. A group has no scores of its own here: its tasks have them. Where a task has several
filters, the filter's name is a part of the metric's.

The samples are a line of JSON per test sample, with its values under the metrics' names, as numbers
or as objects with a `score`. They are read of metrics that are the mean of these values (or 100
times it), not of an F1 score or CIDEr, which are no means over samples.

An accuracy, by its name, is a `share`; other metrics have their own unit, unless the samples of all
points lie within 0 to 1 (see across.py).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.io.benchmarks.scores import (
    SAMPLE,
    Results,
    ResultsError,
    Scale,
    Score,
    UnknownFormError,
    finite,
)

FILE: Final = re.compile(r"(?P<run>.*)_results\.json")
"""Names of results files; `{run}_samples_{task}.jsonl` are their samples."""
_STATISTICS: Final = re.compile(
    r".+_(stderr|stderr_clt|stderr_clustered"
    r"|expected_accuracy|consensus_accuracy|internal_variance|consistency_rate)"
)
"""Names of what is computed beside a metric."""
_SHARES: Final = re.compile(
    r".* (?:.*[^a-z])?(?:accuracy|acc|exact_match|anls|iou|f1|precision|recall)(?:[^a-z].*)?"
    r"|.* (?:relaxed|seed)_.*|mmstar.*"
)
"""Tasks and metrics, in lower case and with a blank between, that are fractions or percentages."""
_CIDER: Final = "cider"
"""What the names of captions' primary metrics, in lower case, end with."""
_PERCENT: Final = 100.0
_AGREE: Final = 1e-6
"""Largest difference between a score and the mean of its samples, relative to the score."""


def is_lmms_eval(content: Any) -> bool:
    """Whether the content of a JSON file has the form of lmms-eval's results."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("results"), dict)
        and ("higher_is_better" in content or "configs" in content)
    )


def read_lmms_eval(
    content: Mapping[str, Any], samples_of: Callable[[str], bytes | None]
) -> Results:
    """The scores of one results file, with the values of their samples.

    Args:
        content: of the file, for which `is_lmms_eval` holds.
        samples_of: task -> the bytes of its samples file; None where there is none.

    Raises:
        UnknownFormError: it holds no score.
        ResultsError: parts that are not what they must be, a task whose scores are not finite, or
            damaged samples.
    """
    scores: list[Score] = []
    left_out: list[str] = []
    for task in _tasks(content, left_out):
        numbers = _numbers(task, content, left_out)
        filters = {filter_name for _, filter_name in numbers}
        samples = _samples(task, samples_of(task)) if numbers else []
        targets = _targets(samples)
        if len(targets) < len(samples):
            left_out.append(f"{task}: a document has several samples, so none is read")
            samples = []
        for (metric, filter_name), value in numbers.items():
            name = metric if len(filters) == 1 else f"{metric},{filter_name}"
            score = _score(task, metric, value, content, samples)
            if score.is_no_mean:
                left_out.append(f"{task} {name}: not the mean of its samples, which are not read")
            scores.append(replace(score, metric=name, targets=targets))
    if not scores:
        raise UnknownFormError("no score of a task in `results`")
    return Results(_model(content), tuple(scores), tuple(left_out))


def _tasks(content: Mapping[str, Any], left_out: list[str]) -> Iterator[str]:
    """The tasks; groups of tasks that are there are named in `left_out`."""
    results = content["results"]
    groups = _part(content, "group_subtasks")
    for task, entry in results.items():
        if not isinstance(entry, dict):
            raise ResultsError(f"results.{task[:40]}: not an object")
        members = groups.get(task)
        if isinstance(members, list) and any(str(name) in results for name in members):
            left_out.append(f"{task}: a group, whose tasks are read")
        else:
            yield task


def _numbers(
    task: str, content: Mapping[str, Any], left_out: list[str]
) -> dict[tuple[str, str], float]:
    """(metric, filter) -> value of a task, the primary metric first; those without a number, such
    as files to submit, are named in `left_out`.

    Raises:
        ResultsError: a number is not finite, or an object, and there is no other metric.
    """
    numbers: dict[tuple[str, str], float] = {}
    odd: list[str] = []
    for key, value in content["results"][task].items():
        metric, comma, filter_name = key.rpartition(",")
        if not comma or _STATISTICS.fullmatch(metric):
            continue
        if value is None or isinstance(value, str | list):
            left_out.append(f"{task} {metric}: no number")
            continue
        try:
            numbers[metric, filter_name] = finite(value, f"results.{task}.{key}")
        except ResultsError as error:
            odd.append(str(error))
    if odd and not numbers:
        raise ResultsError(odd[0])
    left_out += odd
    return dict(sorted(numbers.items(), key=lambda item: not item[0][0].lower().endswith(_CIDER)))


def _score(
    task: str,
    metric: str,
    value: float,
    content: Mapping[str, Any],
    lines: list[dict[str, Any]],
) -> Score:
    better = _part(content, "higher_is_better", task).get(metric)
    config = _part(content, "configs", task)
    splits = [config.get(name) for name in ("test_split", "validation_split")]
    count = _part(content, "n-samples", task).get("effective")
    samples = _values(task, metric, lines, config.get("score_key"))
    factor = None if samples is None else _factor(samples, value)
    of_samples: Scale | None = None
    if samples is None or factor is None:
        samples = None
    else:
        share: Scale = "percent" if factor == _PERCENT else "fraction"
        of_samples = share if samples["value"].between(0, 1).all() else "own"
        samples = samples.assign(value=factor * samples["value"])
    return Score(
        task=task,
        metric=metric,
        value=value,
        scale="share" if _SHARES.fullmatch(f"{task} {metric}".lower()) else "own",
        benchmark=task,
        split=next((split for split in splits if isinstance(split, str)), ""),
        n_samples=count if isinstance(count, int) and 0 <= count < 10**9 else 0,
        higher_is_better=better if isinstance(better, bool) else None,
        samples=samples,
        of_samples=of_samples,
        is_no_mean=bool(lines) and samples is None,
    )


def _values(
    task: str, metric: str, lines: list[dict[str, Any]], score_key: Any
) -> pd.DataFrame | None:
    """The samples of a metric, columns `SAMPLE`; None where one has no number, or there is none."""
    rows: list[tuple[str, str, float]] = []
    score_key = score_key if isinstance(score_key, str) else "score"
    for line in lines:
        entry = line.get(metric)
        image = entry.get("image_id") if isinstance(entry, dict) else None
        number = entry.get(score_key) if isinstance(entry, dict) else entry
        if metric not in line:
            continue
        if not isinstance(number, int | float):
            return None
        name = str(line["doc_id"])
        image_name = f"doc {name}" if image is None else f"image {image}"
        number = int(number) if isinstance(number, bool) else number
        rows.append((name, f"{task} {image_name}", finite(number, f"{metric} of {name}")))
    return pd.DataFrame(rows, columns=list(SAMPLE)) if rows else None


def _factor(samples: pd.DataFrame, value: float) -> float | None:
    """What the mean of the samples times is the score; None where the score is no mean of them."""
    mean = samples["value"].mean()
    return next((f for f in (1.0, _PERCENT) if np.isclose(f * mean, value, _AGREE, 0)), None)


def _samples(task: str, data: bytes | None) -> list[dict[str, Any]]:
    """The lines of a samples file."""
    lines: list[dict[str, Any]] = []
    for number, line in enumerate((data or b"").splitlines(), 1):
        place = f"samples of {task}, line {number}"
        try:
            sample = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            raise ResultsError(f"{place}: not JSON") from None
        if sample is None:
            continue
        if not isinstance(sample, dict) or not isinstance(sample.get("doc_id"), int | str):
            raise ResultsError(f"{place}: not an object with `doc_id`, a number or a text")
        lines.append(sample)
    return lines


def _targets(lines: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """A digest of the right answer by the sample's name: data in another order have others."""
    return {
        str(line["doc_id"]): hashlib.blake2b(
            json.dumps(line.get("target"), sort_keys=True).encode(), digest_size=8
        ).hexdigest()
        for line in lines
    }


def _model(content: Mapping[str, Any]) -> str:
    names = (content.get("model_name"), _part(content, "config").get("model"))
    return next((name for name in names if isinstance(name, str) and name), "")


def _part(content: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """An object inside the results; empty where it is none."""
    inner: Any = content
    for name in path:
        inner = inner.get(name) if isinstance(inner, Mapping) else None
    return inner if isinstance(inner, dict) else {}
