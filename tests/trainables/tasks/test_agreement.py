"""Agreement of answers: equal ones, and shared words."""

import json

import pytest

from trainables.tasks import TASKS


@pytest.mark.parametrize(
    ("answer", "original", "agreement", "word_f1"),
    [
        ("A red boat.", "red boat", 1, 1),
        ("boat", "a red boat", 0, 2 / 3),
        ("red red boat", "red boat", 0, 4 / 5),
        ("two", "2", 1, 1),
        ("", "", 0, 0),
        (".", "the", 0, 0),
        ("", "boat", 0, 0),
        ("house", "boat", 0, 0),
    ],
)
def test_answers_agree_as_far_as_they_share_words(
    answer: str, original: str, agreement: float, word_f1: float
) -> None:
    scores = TASKS.get("agreement").score([answer], [json.dumps({"original": original})])
    assert scores["agreement"] == [agreement]
    assert scores["word_f1"] == pytest.approx([word_f1])
