"""Multiple choice: by the letter that is answered, or by the likelihood of each choice's text."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from trainables.tasks.task import (
    MeansOnly,
    Metric,
    Scores,
    Values,
    fraction,
    of_references,
    ratio,
    words,
)

_ALONE = re.compile(r"\W*([A-Za-z])\W*")
_FIRST = re.compile(r"[\s(\[*]*([A-Za-z])\s*[.):\]]")
_NAMED = re.compile(r"\b(?i:answer|option|choice)(?i:\s+is)?\W{0,4}([A-Z])\b")
_ANY = re.compile(r"\b([A-Z])\b")
_ARTICLE = re.compile(r"(?:^|[.!?]\s+)A(?=\s+(?!(?:or|and|is|as|because)\b)[a-z])")


class Choice(MeansOnly):
    """Multiple choice by letter. An answer that names no choice, or two, is wrong.

    `answered` is the share of answers that name one.
    """

    name = "choice"
    metrics: tuple[Metric, ...] = (fraction("accuracy"), fraction("answered"))
    primary = "accuracy"
    chance: float | None = None
    max_new_tokens = 16

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"answer": a letter, "choices": {letter: text}}."""
        said = _letters(answers, references)
        right = [s == m for s, m in zip(said, of_references(references, "answer"), strict=True)]
        return {
            "accuracy": np.array(right, np.float64),
            "answered": np.array([s is not None for s in said], np.float64),
        }


class CircularChoice:
    """Multiple choice, each question asked once per rotation of its choices (MMBench).

    `accuracy` is of all rows; `accuracy_circular` of questions, right where every row of one is:
    the published figure, and `accuracy` itself where each question has one row. Its interval
    resamples questions, each of which counts in one of its rows.
    """

    name = "choice_circular"
    metrics: tuple[Metric, ...] = (*Choice.metrics, fraction("accuracy_circular", of_set=True))
    primary = "accuracy"
    chance: float | None = None
    max_new_tokens = Choice.max_new_tokens
    by_likelihood = False

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: as those of `Choice`, and {"group": what rows of a question share}."""
        return Choice().score(answers, references)

    def statistics(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Questions, and those that are right, in the first row of each."""
        right = self.score(answers, references)["accuracy"]
        rows: dict[str, list[int]] = defaultdict(list)
        for row, group in enumerate(of_references(references, "group")):
            rows[group].append(row)
        found = {"questions": np.zeros(len(right)), "questions_right": np.zeros(len(right))}
        for own in rows.values():
            found["questions"][own[0]] = 1.0
            found["questions_right"][own[0]] = right[own].all()
        return found

    def of_set(self, sums: Mapping[str, Values]) -> Scores:
        """See `Task`."""
        return {"accuracy_circular": ratio(sums["questions_right"], sums["questions"])}


class LikelyChoice(MeansOnly):
    """Multiple choice by the likelihood of each choice's text: the highest is the answer.

    `accuracy` compares whole texts, `accuracy_norm` their log-likelihoods per character, which
    does not prefer short ones. Of equal ones the first counts.
    """

    name = "choice_likelihood"
    metrics: tuple[Metric, ...] = (fraction("accuracy"), fraction("accuracy_norm"))
    primary = "accuracy"
    chance: float | None = None
    max_new_tokens = 1
    by_likelihood = True

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Answers: JSON lists of log-likelihoods, in the order of `choices`. References: as those
        of `Choice`.

        Raises:
            ValueError: not as many log-likelihoods as choices.
        """
        whole, norm = [], []
        for answer, reference in zip(answers, references, strict=True):
            truth = json.loads(reference)
            likely = np.array(json.loads(answer), np.float64)
            letters, texts = list(truth["choices"]), list(truth["choices"].values())
            if likely.shape != (len(texts),):
                raise ValueError(f"{likely.shape} log-likelihoods of {len(texts)} choices")
            lengths = np.array([max(1, len(text)) for text in texts])
            whole.append(letters[int(likely.argmax())] == truth["answer"])
            norm.append(letters[int((likely / lengths).argmax())] == truth["answer"])
        return {
            "accuracy": np.array(whole, np.float64),
            "accuracy_norm": np.array(norm, np.float64),
        }


def _letters(answers: Sequence[str], references: Sequence[str]) -> list[str | None]:
    choices = of_references(references, "choices")
    return [letter_of(answer, own) for answer, own in zip(answers, choices, strict=True)]


def letter_of(answer: str, choices: Mapping[str, str]) -> str | None:
    """The choice that an answer names; None if it names none, or several.

    By its letter alone (`b`, `(B)`), first (`B. a dog`) or named (`The answer is B`); else by the
    text of one choice; else by the only capital letter in it. `A` before a noun is an article.
    """
    if found := _ALONE.fullmatch(answer):
        return _of(found.group(1), choices)
    if (found := _FIRST.match(answer)) and (letter := _of(found.group(1), choices)):
        return letter
    named: set[str] = {letter for letter in _NAMED.findall(answer) if letter in choices}
    if len(named) == 1:
        return named.pop()
    said, texts = f" {words(answer)} ", {x: f" {words(text)} " for x, text in choices.items()}
    inside = [letter for letter, text in texts.items() if text in said]
    # "a hot dog" names the hot dog, not the dog.
    longest = [x for x in inside if not any(texts[x] in texts[y] for y in inside if y != x)]
    if len(longest) == 1:
        return longest[0]
    alone: set[str] = {
        letter for letter in _ANY.findall(_ARTICLE.sub("", answer)) if letter in choices
    }
    return alone.pop() if len(alone) == 1 else None


def _of(letter: str, choices: Mapping[str, str]) -> str | None:
    return letter.upper() if letter.upper() in choices else None
