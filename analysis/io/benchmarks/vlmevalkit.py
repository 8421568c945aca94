"""Score files of VLMEvalKit: `{model}_{benchmark}_acc.csv`, `_score.csv`, and both as `.json`.

    benchmarks                             columns or keys           metrics here
    MMBench, SEEDBench, MMStar, AI2D, ...  split, Overall            accuracy
    TextVQA, DocVQA, OCRVQA, ChartQA, ...  Overall                   accuracy
    POPE                                   Overall, acc, ...         f1, accuracy, precision, ...
    HallusionBench                         aAcc, fAcc, qAcc          accuracy, figure_accuracy, ...
    MME                                    perception, reasoning     the same, in points
    COCO_VAL                               Bleu, ROUGE_L, CIDEr      cider, bleu-1 to -4, rouge_l
    RefCOCO                                Precision@1, Average IoU  accuracy@0.5, iou
    MMVet, MathVista, MathVision           acc                       accuracy
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
from collections.abc import Collection, Iterable, Mapping
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
_LABELS: Final = ("split", "Split", "Category", "Task&Skill", "Subject")
"""Columns that say what a row is about."""
_OVERALL: Final = ("Overall", "ALL", "Average")
"""What such a column holds in the row about all samples."""
_COUNTS: Final = ("tot", "Samples")
_PERCENT: Final = re.compile(r"(?:OCRVQA|TextVQA|DocVQA|InfoVQA|ChartQA|GQA|VizWiz)(?:_.*)?")
"""Benchmarks of which `Overall` is a percentage."""
_REPEATS: Final = re.compile(
    r"(.+)_cotpost|(.+GMAI-MMBench.*)_(?:clinical vqa task|department|perceptual granularity)"
)
"""Stems of files that have the overall score of others."""

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
    {"Average": ("accuracy", "percent")},
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
        ResultsError: damaged, or a task without a finite number.
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
    scores: list[Score] = []
    left_out: list[str] = []
    for part, split, row in _overall(rows):
        task = f"{benchmark} {part}" if part else benchmark
        read, odd = {}, []
        for column in form:
            try:
                read[column] = finite(row.get(column), column)
            except ResultsError as error:
                odd.append(f"{task} {error}")
        if not read:
            raise ResultsError(odd[0])
        left_out += odd
        scores += [
            Score(
                task=task,
                metric=form[column][0],
                value=value,
                scale=_unit(form[column][1], column, columns, benchmark),
                benchmark=benchmark,
                split=split,
                n_samples=_count(row),
                higher_is_better=True,
            )
            for column, value in read.items()
        ]
    return Results(model, tuple(scores), tuple(left_out))


def repeated(names: Iterable[str]) -> dict[str, str]:
    """Names of files that repeat the overall score of another one: that one's name."""
    first: dict[str, str] = {}
    others: dict[str, str] = {}
    for name in sorted(names, key=len):
        if known := FILE.fullmatch(name):
            whole = _whole(known["stem"]) + name.removeprefix(known["stem"])
            if first.setdefault(whole, name) != name:
                others[name] = first[whole]
    return others


def _whole(stem: str) -> str:
    """A file's stem without what tells it from others of the same overall score."""
    known = _REPEATS.fullmatch(stem)
    return (known[1] or known[2]) if known else stem


def _unit(scale: Scale, column: str, columns: Collection[str], benchmark: str) -> Scale:
    """The unit of a score that is either, where the file's other columns or its name say it."""
    if scale != "share":
        return scale
    if column == "Overall" and "split" in columns:
        return "fraction"
    is_percent = "tot" in columns if column == "acc" else _PERCENT.fullmatch(benchmark)
    return "percent" if is_percent else scale


def _model_and_benchmark(name: str, models: Iterable[str]) -> tuple[str, str]:
    """The two names that a file's name holds."""
    known = FILE.fullmatch(name)
    if known is None:
        raise UnknownFormError("not named MODEL_BENCHMARK_acc or _score, .csv or .json")
    stem, candidates = _whole(known["stem"]), sorted({*models} - {""}, key=len)
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
        unlabelled = f"no column of {', '.join(_LABELS)} in {_listed(rows[0])}"
        what = f"{column}: {_listed(labels)}" if column else unlabelled
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
