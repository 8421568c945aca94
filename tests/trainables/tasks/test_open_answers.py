"""Open answers: VQA's accuracy by its published formula, read text by edit distance."""

import itertools
import json

import numpy as np
import pytest

from trainables.tasks import TASKS
from trainables.tasks.open_vqa import normalized, vqa_accuracy
from trainables.tasks.text_reading import similarity


@pytest.mark.parametrize(("agreeing", "accuracy"), list(enumerate([0, 0.3, 0.6, 0.9, *[1] * 7])))
def test_accuracy_of_an_answer_that_so_many_of_ten_people_gave(
    agreeing: int, accuracy: float
) -> None:
    people = ["blue"] * agreeing + [f"other {i}" for i in range(10 - agreeing)]
    # The published definition: the mean of min(count / 3, 1) over all choices of nine people.
    nine = [sum(p == "blue" for p in some) for some in itertools.combinations(people, 9)]
    assert np.mean([min(count / 3, 1) for count in nine]) == pytest.approx(accuracy)
    assert vqa_accuracy("Blue.", people) == pytest.approx(accuracy)
    reference = json.dumps({"answers": people})
    assert TASKS.get("open_vqa").score(["Blue."], [reference])["accuracy"][0] == pytest.approx(
        accuracy
    )


def test_a_single_persons_answer_decides_alone() -> None:
    assert vqa_accuracy("two", ["2"]) == 1.0
    assert vqa_accuracy("two", ["3"]) == 0.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Cat", "cat"),
        ("a dog and an owl", "dog and owl"),
        ("Two", "2"),
        ("none", "0"),
        ("ten cats.", "10 cats"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("y'alld've", "y'all'd've"),
        ("twas, whats", "'twas what's"),
        ("black-white", "black white"),
        ("black - white", "black white"),
        ("yes, it is", "yes it is"),
        ("1,000", "1000"),
        ("1,000-2,000", "10002000"),
        ("3.5", "3.5"),
        ("3.", "3"),
        ("st. john", "st john"),
        ("it's", "it's"),
        (" what?\n", "what"),
        ("", ""),
    ],
)
def test_answers_get_the_challenges_spelling(answer: str, expected: str) -> None:
    assert normalized(answer) == expected


def test_read_text_is_compared_without_case_and_punctuation() -> None:
    reference = json.dumps({"texts": ["Main St.", "MAIN STREET"]})
    answers = ["main st", "Main\nStreet!", "Main Sreet", "", "STOP"]
    scores = TASKS.get("text_reading").score(answers, [reference] * len(answers))
    assert scores["exact_match"].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    # One letter of eleven is missing; of "stop" two of "main street" stay.
    np.testing.assert_allclose(scores["edit_similarity"], [1, 1, 10 / 11, 0, 2 / 11])


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("kitten", "sitting", 3), ("flaw", "lawn", 2), ("", "abc", 3), ("abc", "abc", 0)],
)
def test_edit_distance(a: str, b: str, distance: int) -> None:
    for one, other in ((a, b), (b, a)):
        assert similarity(one, other) == pytest.approx(1 - distance / max(len(a), len(b)))
