"""Open questions with several people's answers: the accuracy of VQA (Antol et al., ICCV 2015).

answer, answers of people --normalise--> equal ones counted among all people but one:
min(count / 3, 1) --mean over who is left out--> accuracy

Both sides are normalised, as the challenge's server does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainables.tasks.common.one_name import AccuracyTask

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGITS_WITH_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_ARTICLES = frozenset(["a", "an", "the"])
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
} | {"none": "0"}
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
you've
"""


def _spellings(contraction: str) -> list[str]:
    """How it is written with one of its apostrophes left out, or the only one."""
    places = [i for i, letter in enumerate(contraction) if letter == "'"]
    return [contraction[:i] + contraction[i + 1 :] for i in places]


_WRITTEN = {wrong: right for right in _CONTRACTIONS.split() for wrong in _spellings(right)}


class OpenVqa(AccuracyTask):
    """A short answer, worth as much as people agree with it."""

    max_new_tokens = 10

    def accuracy(self, answer: str, reference: Mapping[str, Any]) -> float:
        """References: {"answers": [str]}, of people, ten where published."""
        return vqa_accuracy(answer, reference["answers"])


def vqa_accuracy(answer: str, people: Sequence[str]) -> float:
    """How far people agree with an answer, 0 to 1; a single one decides alone."""
    normalized_answer = normalized(answer)
    equal = [normalized_answer == normalized(person) for person in people]
    if len(equal) == 1:
        return float(equal[0])
    agreeing = [sum(equal) - agrees for agrees in equal]
    return float(np.mean([min(count / 3, 1.0) for count in agreeing]))


def normalized(answer: str) -> str:
    """An answer in the challenge's spelling.

    Lower case, numbers to ten as digits, without articles and punctuation, contractions with their
    apostrophes. A mark between two words becomes a space, one that has a space beside it or stands
    with a number such as 1,000 vanishes, as do periods that no digit follows.
    """
    text = " ".join(answer.split())
    clean = text
    for mark in _PUNCTUATION:
        apart = f"{mark} " in text or f" {mark}" in text or _DIGITS_WITH_COMMA.search(text)
        clean = clean.replace(mark, "" if apart else " ")
    words = [_NUMBERS.get(word, word) for word in _PERIOD.sub("", clean).lower().split()]
    return " ".join(_WRITTEN.get(word, word) for word in words if word not in _ARTICLES)


TASK = OpenVqa()
