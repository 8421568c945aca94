"""The letter of a multiple choice that an answer names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from trainables.tasks.common.task import words

_LETTER_ALONE = re.compile(r"\W*([A-Za-z])\W*")
_LETTER_FIRST = re.compile(r"[\s(\[*]*([A-Za-z])\s*[.):\]]")
_LETTER_NAMED = re.compile(r"\b(?i:answer|option|choice)(?i:\s+is)?\W{0,4}([A-Z])\b")
_ANY_CAPITAL = re.compile(r"\b([A-Z])\b")
_ARTICLE = re.compile(r"(?:^|[.!?]\s+)A(?=\s+(?!(?:or|and|is|as|because)\b)[a-z])")


def letter_of(answer: str, choices: Mapping[str, str]) -> str | None:
    """The choice that an answer names; None if it names none, or several.

    By its letter alone (`b`, `(B)`), first (`B. a dog`) or named (`The answer is B`); else by the
    text of one choice; else by the only capital letter in it. `A` before a noun is an article.
    """
    if match := _LETTER_ALONE.fullmatch(answer):
        return _of(match.group(1), choices)
    if (match := _LETTER_FIRST.match(answer)) and (letter := _of(match.group(1), choices)):
        return letter
    named: set[str] = {letter for letter in _LETTER_NAMED.findall(answer) if letter in choices}
    if len(named) == 1:
        return named.pop()
    sentence, texts = f" {words(answer)} ", {x: f" {words(text)} " for x, text in choices.items()}
    inside = [letter for letter, text in texts.items() if text in sentence]
    # "a hot dog" names the hot dog, not the dog.
    longest = [x for x in inside if not any(texts[x] in texts[y] for y in inside if y != x)]
    if len(longest) == 1:
        return longest[0]
    alone: set[str] = {
        letter for letter in _ANY_CAPITAL.findall(_ARTICLE.sub("", answer)) if letter in choices
    }
    return alone.pop() if len(alone) == 1 else None


def _of(letter: str, choices: Mapping[str, str]) -> str | None:
    return letter.upper() if letter.upper() in choices else None
