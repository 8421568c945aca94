"""Multiple choice: what answers mean, rotations, likelihoods."""

import json

import numpy as np
import pytest

from trainables.tasks import TASKS
from trainables.tasks.common.letters import letter_of
from trainables.tasks.common.set_metrics import set_values

CHOICES = {"A": "dog", "B": "hot dog", "C": "3 cars", "D": "The Eiffel Tower"}


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        (" (c) ", "C"),
        ("D.", "D"),
        ("B. hot dog", "B"),
        ("a) dog", "A"),
        ("[C]: 3 cars", "C"),
        ("**B**", "B"),
        ("The answer is C", "C"),
        ("Answer: D, as in Paris", "D"),
        ("I choose option B because of the bun", "B"),
        ("the correct choice is (A).", "A"),
        ("dog", "A"),
        ("It is a hot dog.", "B"),
        ("There are 3 cars", "C"),
        ("the eiffel tower!", "D"),
        ("I think C fits", "C"),
        ("A train", None),  # an article
        ("I see. A train is there.", None),
        ("E", None),
        ("E. none", None),
        ("A is right", "A"),
        ("A or B", None),
        ("dog or 3 cars", None),
        ("The answer is A. No, the answer is B", None),
        ("no idea", None),
        ("", None),
    ],
)
def test_answers_are_understood(answer: str, letter: str | None) -> None:
    assert letter_of(answer, CHOICES) == letter


def _reference(answer: str, **more: str) -> str:
    return json.dumps({"answer": answer, "choices": CHOICES, **more})


def test_an_answer_without_a_letter_is_wrong_and_counted() -> None:
    references = [_reference("B")] * 4
    scores = TASKS.get("choice").score(["B", "hot dog", "C", "no idea"], references)
    assert scores["accuracy"].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert scores["answered"].tolist() == [1.0, 1.0, 1.0, 0.0]


def test_a_question_is_right_where_all_its_rotations_are() -> None:
    task = TASKS.get("choice_circular")
    groups = ["7", "8", "7", "9", "8", "7"]
    meant = ["A", "B", "C", "D", "B", "B"]
    said = ["A", "B", "C", "D", "A", "B"]  # all of 7, one of two of 8, the one of 9
    references = [_reference(m, group=g) for m, g in zip(meant, groups, strict=True)]
    assert task.score(said, references)["accuracy"].mean() == pytest.approx(5 / 6)
    found = set_values(task, said, references)["accuracy_circular"]
    assert found.value == pytest.approx(2 / 3)
    assert 0.0 <= found.low < found.value < found.high == 1.0


def test_one_row_per_question_makes_both_accuracies_equal() -> None:
    task, rng = TASKS.get("choice_circular"), np.random.default_rng(0)
    said, meant = rng.choice(list("ABCD"), (2, 200)).tolist()
    references = [_reference(m, group=str(i)) for i, m in enumerate(meant)]
    found = set_values(task, said, references)["accuracy_circular"]
    accuracy = task.score(said, references)["accuracy"]
    assert found.value == pytest.approx(accuracy.mean())
    # The interval of a proportion, by the normal approximation.
    half = 1.96 * np.sqrt(accuracy.mean() * (1 - accuracy.mean()) / 200)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_the_likeliest_choice_is_the_answer() -> None:
    task = TASKS.get("choice_likelihood")
    assert task.by_likelihood
    # Characters: 3, 7, 6, 16; per character the last is the likeliest.
    answers = [json.dumps([-3.0, -5.0, -4.0, -8.0])] * 2
    scores = task.score(answers, [_reference("A"), _reference("D")])
    assert scores["accuracy"].tolist() == [1.0, 0.0]
    assert scores["accuracy_norm"].tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match=r"\(3,\).* 4 "):
        task.score(["[-1, -2, -3]"], [_reference("A")])
