"""Score files of VLMEvalKit: `{model}_{benchmark}_acc.csv`, `_score.csv`, and both as `.json`.

    benchmarks                             columns or keys           metrics here
    MMBench, SEEDBench, MMStar, AI2D, ...  split, Overall            accuracy
    TextVQA, DocVQA, OCRVQA, ChartQA, ...  Overall                   accuracy
    POPE                                   Overall, acc, ...         f1, accuracy, precision, ...
    HallusionBench                         aAcc, fAcc, qAcc          accuracy, figure_accuracy, ...
    MME                                    perception, reasoning     the same, in points
    COCO_VAL                               Bleu, ROUGE_L, CIDEr      cider, bleu-1 to -4, rouge_l
    RefCOCO                                Precision@1, Average IoU  accuracy@0.5, iou
    MMVet, MathVista                       acc                       accuracy
    OCRBench                               Final Score Norm          accuracy
    MTVQA; AMBER                           Average; Avg ACC          accuracy

Only overall scores are read. Those of groups (abilities, categories) have few samples each and
would be a curve each. A file with several splits and no overall score gives a task per split. Where
the file's name holds a judge (`MMVet_gpt-4-turbo`), so does the task's: scores of two judges do not
compare. More is better in all of these metrics.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from textwrap import shorten
from typing import Any, Final

from analysis.io.benchmarks.scores import (
    Results,
    ResultsError,
    Scale,
    Score,
    UnknownFormError,
    finite,
    parse_json,
)

FILE: Final = re.compile(r"(?P<stem>.+)_(?:acc|score)\.(?:csv|json)")
"""Names of score files; a model's and a benchmark's name may both hold `_`."""
_LABELS: Final = ("split", "Split", "Category", "Task&Skill")
"""Columns that say what a row is about."""
_OVERALL: Final = ("Overall", "ALL", "Average")
"""What such a column holds in the row about all samples."""
_COUNTS: Final = ("tot", "Samples")


_FORMS: Final[tuple[Mapping[str, tuple[str, Scale]], ...]] = (
    {"Final Score Norm": ("accuracy", "percent")},
    {
        "CIDEr": ("cider", "own"),
        **{f"Bleu_{n}": (f"bleu-{n}", "own") for n in range(1, 5)},
        "ROUGE_L": ("rouge_l", "own"),
    },
    {
        "Overall": ("f1", "percent"),
        "acc": ("accuracy", "percent"),
        "precision": ("precision", "percent"),
        "recall": ("recall", "percent"),
    },
    {
        "aAcc": ("accuracy", "percent"),
        "fAcc": ("figure_accuracy", "percent"),
        "qAcc": ("question_accuracy", "percent"),
    },
    {"perception": ("perception", "own"), "reasoning": ("reasoning", "own")},
    {"Precision@1": ("accuracy@0.5", "percent"), "Average IoU": ("iou", "fraction")},
    {"Overall": ("accuracy", "share")},
    {"Average": ("accuracy", "share")},
    {"Avg ACC": ("accuracy", "percent")},
    {"acc": ("accuracy", "share")},
)
"""Forms of files: column -> name and unit of its metric, the primary one first. A file has the
first form of which it has all columns."""


def read_vlmevalkit(data: bytes, name: str, models: Iterable[str]) -> Results:
    """The overall scores of one file.

    Args:
        data: its bytes.
        name: its name, without directories.
        models: names that the model may have; of those that the file's name begins with, the
            longest is taken.

    Raises:
        UnknownFormError: another name, or no overall score among columns that are known.
        ResultsError: damaged, or a score that is no finite number.
    """
    model, benchmark = _model_and_benchmark(name, models)
    rows = _rows_of_json(parse_json(data)) if name.endswith(".json") else _rows_of_csv(data)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    form = next((form for form in _FORMS if form.keys() <= set(columns)), None)
    if form is None:
        raise UnknownFormError(
            f"no overall score: it holds {_listed(columns)}; known are "
            f"{'; '.join(' with '.join(form) for form in _FORMS)}"
        )
    scores = [
        Score(
            task=f"{benchmark} {part}" if part else benchmark,
            metric=metric,
            value=finite(row.get(column), f"{' '.join(filter(None, (column, part)))}"),
            scale=scale,
            benchmark=benchmark,
            split=split,
            n_samples=_count(row),
            higher_is_better=True,
        )
        for part, split, row in _overall(rows)
        for column, (metric, scale) in form.items()
    ]
    return Results(model, tuple(scores))


def _model_and_benchmark(name: str, models: Iterable[str]) -> tuple[str, str]:
    """The two names that a file's name holds."""
    known = FILE.fullmatch(name)
    if known is None:
        raise UnknownFormError("not named MODEL_BENCHMARK_acc or _score, .csv or .json")
    stem, candidates = known["stem"], sorted({*models} - {""}, key=len)
    for model in reversed(candidates):
        if stem.startswith(f"{model}_") and stem != f"{model}_":
            return model, stem.removeprefix(f"{model}_")
    raise ResultsError(
        f"which part of {stem!r} is the MLLM's name is not known: it begins with none of "
        f"{', '.join(map(repr, candidates))} (column mllm, and the directories above the file)"
    )


def _rows_of_csv(data: bytes) -> list[dict[str, Any]]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        rows = [{str(k): v for k, v in row.items()} for row in reader]
    except (ValueError, csv.Error) as error:
        raise ResultsError(f"not a CSV ({error})") from None
    if not rows:
        raise ResultsError("not a CSV with rows")
    return rows


def _rows_of_json(content: Any) -> list[dict[str, Any]]:
    """The rows of an object of scores, or of a list of them, as of a table; lists as columns."""
    rows = content if isinstance(content, list) else [content]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise UnknownFormError("neither an object of scores nor a list of such objects")
    flat: list[dict[str, Any]] = []
    for row in rows:
        flat.append({})
        for key, value in row.items():
            parts = value if isinstance(value, list) else []
            flat[-1] |= {f"{key}_{i}": part for i, part in enumerate(parts, 1)} or {key: value}
    return flat


def _overall(rows: list[dict[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
    """Of each row about all samples: what its task's name ends with, the split, and the row."""
    column = next((name for name in _LABELS if name in rows[0]), "")
    if not column and len(rows) == 1:
        return [("", "", rows[0])]
    labels = [str(row.get(column)) for row in rows]
    whole = [row for row, label in zip(rows, labels, strict=True) if label in _OVERALL]
    if len(whole) == 1:
        return [("", "", whole[0])]
    if column not in ("split", "Split") or len({*labels}) < len(labels):
        what = f"{column or 'no column of ' + ', '.join(_LABELS)}: {_listed(labels)}"
        raise UnknownFormError(f"not one row about all samples ({what})")
    if len(rows) == 1:
        return [("", "" if labels[0] == "none" else labels[0], rows[0])]
    return [(label, label, row) for label, row in zip(labels, rows, strict=True)]


def _count(row: Mapping[str, Any]) -> int:
    """The number of samples; 0 where the row does not say it."""
    text = next((str(row[name]) for name in _COUNTS if name in row), "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _listed(names: Iterable[str]) -> str:
    return shorten(", ".join(map(str, names)), 200, placeholder=" ...")
