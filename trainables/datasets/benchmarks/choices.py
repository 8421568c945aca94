"""Multiple choice: SEED-Bench's JSON and MMBench's TSV.

SEED-Bench  {"questions": [{"question_id", "data_type", "data_id" (the image), "question",
             "choice_a" .. "choice_d", "answer": "A", "question_type_id"}], "question_type": {}}
MMBench     index, question, hint, A .. D, answer, image (base64, or the index of another row)

MMBench asks each question once per rotation of its options, in rows whose index differs by
millions; a question counts (`accuracy_circular`) where all of them are right. What is published
without those rows is scored without them, then both accuracies are one. By likelihood a rotation
changes nothing, so only the first row of each question is used.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from string import ascii_uppercase
from typing import Any

from search_spaces import BenchmarkSpec
from trainables.datasets.benchmarks.items import (
    Item,
    Items,
    Mistakes,
    entries,
    fill,
    is_id,
    is_text,
    keep_complete,
    of_split,
    read_json,
    read_table,
)

LETTERS = ascii_uppercase[:8]
ROTATION = 1_000_000
"""Between the indices of a question's rotations."""
_COLUMNS = ("index", "question", "A", "B", "answer", "image")
_INDEX_LENGTH = 64
"""A shorter image is the index of the row that has it."""


def read_seed_bench(spec: BenchmarkSpec) -> Items:
    """The questions about images; the reference is {"answer": "A", "choices": {"A": str}}."""
    uri, mistakes = spec.annotations, Mistakes()
    content = read_json("annotations", uri)
    rows = entries("annotations", uri, content, "questions")
    fields = {"question_id": is_id, "data_id": is_id, "question": is_text, "answer": is_text}
    rows = keep_complete(rows, fields, mistakes)
    mistakes.unique((row["question_id"] for row in rows), "question_id")
    kept = [row for row in rows if row.get("data_type", "image") == "image"]
    named = content.get("question_type")
    types = {number: name for name, number in named.items()} if isinstance(named, dict) else {}
    splits = [str(types.get(row.get("question_type_id"), "")) for row in kept]
    items = []
    for row in of_split(spec, kept, spec.split, splits):
        options = {x: row.get(f"choice_{x.lower()}") for x in LETTERS}
        choices = {x: str(text) for x, text in options.items() if text is not None}
        answer = row["answer"].strip().upper()
        _check(choices, answer, row["question_id"], mistakes)
        prompt = fill(spec, question=row["question"], options=_listed(choices))
        reference = {"answer": answer, "choices": choices}
        items.append(Item(str(row["question_id"]), (str(row["data_id"]),), prompt, reference))
    mistakes.raise_any("annotations", uri)
    left_out = {"questions about videos": len(rows) - len(kept)} if len(rows) > len(kept) else {}
    return Items(items, left_out=left_out)


def read_mmbench(spec: BenchmarkSpec) -> Items:
    """The rows of a TSV; the reference is {"answer": "A", "choices": {"A": str}, "group": str}."""
    uri, mistakes = spec.annotations, Mistakes()
    table = read_table("annotations", uri, "\t", _COLUMNS)
    fields = {"index": _is_index, "question": is_text, "answer": is_text, "image": is_text}
    rows = keep_complete(table, fields, mistakes)
    mistakes.unique((_index(row) for row in rows), "index")
    images = {_index(row): row["image"].strip() for row in rows}
    left_out: Counter[str] = Counter()
    items, embedded = [], {}
    for row in of_split(spec, rows, spec.split, [row.get("split") or "" for row in rows]):
        index, image = _index(row), row["image"].strip()
        if spec.scoring == "likelihood" and index >= ROTATION:
            left_out["rotations of other questions"] += 1
            continue
        if len(image) < _INDEX_LENGTH and image.isdigit():
            image = images.get(int(image), "")
        if not image:
            mistakes.add("image is the index of no row", index)
        choices = {x: row[x].strip() for x in LETTERS if _is_there(row.get(x))}
        answer = row["answer"].strip().upper()
        _check(choices, answer, index, mistakes)
        hint = f"{row['hint'].strip()}\n" if _is_there(row.get("hint")) else ""
        prompt = fill(spec, question=row["question"], options=_listed(choices), hint=hint)
        # A question's rotations show one image, which is coded once.
        name = hashlib.sha256(image.encode()).hexdigest()[:16]
        embedded[name] = image
        reference = {"answer": answer, "choices": choices, "group": str(index % ROTATION)}
        items.append(Item(str(index), (name,), prompt, reference, group=str(index % ROTATION)))
    mistakes.raise_any("annotations", uri)
    return Items(items, embedded, left_out)


def _check(choices: dict[str, str], answer: str, where: object, mistakes: Mistakes) -> None:
    if len(choices) < 2:
        mistakes.add("fewer than two choices", where)
    elif answer not in choices:
        mistakes.add("answer is none of the choices", f"{where}: {answer} of {', '.join(choices)}")


def _listed(choices: dict[str, str]) -> str:
    return "\n".join(f"{letter}. {text}" for letter, text in choices.items())


def _is_there(cell: str | None) -> bool:
    return bool(cell and cell.strip()) and cell != "nan"


def _is_index(cell: Any) -> bool:
    return is_text(cell) and cell.strip().removesuffix(".0").isdigit()


def _index(row: dict[str, str]) -> int:
    return int(row["index"].strip().removesuffix(".0"))
