"""Scores of the tasks, against closed forms and the libraries they stand on."""

import json

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from trainables.datasets.worlds.locations import LOCATION_BINS, location
from trainables.tasks import TASKS
from trainables.tasks.common.box_formats import parse_box


def test_the_tasks_and_their_metrics() -> None:
    assert {name: [m.name for m in TASKS.get(name).metrics] for name in TASKS.names()} == {
        "captioning": ["cider", "exact_match"],
        "vqa": ["accuracy"],
        "rec": ["accuracy@0.5"],
        "fewshot": ["accuracy"],
        "classification": ["accuracy", "accuracy_top5"],
        "captions": [m.name for m in TASKS.get("captions").metrics],  # by what the machine has
        "choice": ["accuracy", "answered"],
        "choice_circular": ["accuracy", "answered", "accuracy_circular"],
        "choice_likelihood": ["accuracy", "accuracy_norm"],
        "yes_no": ["accuracy", "yes_ratio", "precision", "recall", "f1"],
        "grounding": ["accuracy@0.5"],
        "fewshot_names": ["accuracy"],
        "open_vqa": ["accuracy"],
        "text_reading": ["exact_match", "edit_similarity"],
        "agreement": ["agreement", "word_f1"],
        "attributes": ["accuracy"],
        "counts": ["accuracy"],
        "locating": ["accuracy@0.5"],
        "reading": ["exact_match", "edit_similarity"],
        "relations": ["accuracy"],
    }
    for task in TASKS.working().values():
        primary = next(m for m in task.metrics if m.name == task.primary)
        cider = ("CIDEr", 0.0, 10.0)
        expected = cider if task.primary == "cider" else ("fraction", 0.0, 1.0)
        assert (primary.unit, primary.low, primary.high) == expected
        assert primary.higher_is_better
        assert not primary.of_set


def test_captioning_is_cider_and_exact_match() -> None:
    meant = [
        "a red three at the top left",
        "a blue seven at the top right and a pink one at the bottom left",
        "a green zero at the bottom right",
    ]
    said = [meant[0], "a blue seven at the top right", ""]
    scores = TASKS.get("captioning").score(said, [json.dumps({"caption": m}) for m in meant])
    np.testing.assert_array_equal(scores["exact_match"], [1.0, 0.0, 0.0])
    _, expected = Cider().compute_score(
        {i: [m] for i, m in enumerate(meant)}, {i: [s] for i, s in enumerate(said)}
    )
    np.testing.assert_allclose(scores["cider"], expected)
    assert scores["cider"][0] == pytest.approx(10.0)  # a perfect caption's value by definition
    assert 0.0 < scores["cider"][1] < 10.0
    assert scores["cider"][2] == 0.0


def test_captions_differing_in_case_and_punctuation_only_are_equal() -> None:
    reference = json.dumps({"caption": "a red three at the top left"})
    scores = TASKS.get("captioning").score([" A red three, at the top left."], [reference])
    assert scores["exact_match"].tolist() == [1.0]


@pytest.mark.parametrize(("task", "field"), [("vqa", "answer"), ("fewshot", "label")])
def test_one_word_tasks_want_the_word_and_nothing_else(task: str, field: str) -> None:
    answers = ["A", " a ", "A.", "B", "A B", ""]
    references = [json.dumps({field: "A"})] * len(answers)
    scores = TASKS.get(task).score(answers, references)
    assert scores["accuracy"].tolist() == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


def _words(*bins: int) -> str:
    return " ".join(location(b) for b in bins)


def test_rec_counts_boxes_of_iou_one_half_and_more() -> None:
    reference = json.dumps({"box": [0, 0, 64, 64], "size": 128})
    unit = LOCATION_BINS // 2  # the bin of pixel 64
    cases = {
        _words(0, 0, unit, unit): 1.0,
        _words(0, 0, unit, unit // 2): 1.0,  # IoU exactly 1/2
        _words(0, 0, unit, unit // 2 - 1): 0.0,
        _words(0, 0, 2 * unit, unit): 1.0,  # IoU exactly 1/2, from outside
        _words(0, 0, 2 * unit, unit + 1): 0.0,
        _words(unit, unit, 2 * unit, 2 * unit): 0.0,
    }
    scores = TASKS.get("rec").score(list(cases), [reference] * len(cases))
    assert scores["accuracy@0.5"].tolist() == list(cases.values())


@pytest.mark.parametrize(
    "answer",
    ["", "a red three", "loc1 loc2 loc3", "loc1 loc2 loc3 loc4 loc5", "loc1 loc2 locx loc4"],
)
def test_what_is_no_box_is_a_wrong_answer(answer: str) -> None:
    assert parse_box(answer, 128.0) is None
    reference = json.dumps({"box": [0, 0, 64, 64], "size": 128})
    assert TASKS.get("rec").score([answer], [reference])["accuracy@0.5"].tolist() == [0.0]


def test_a_box_without_area_is_none() -> None:
    assert parse_box(_words(4, 4, 4, 8), 128.0) is None
    assert parse_box(_words(8, 4, 4, 8), 128.0) is None
    assert parse_box(_words(1, 2, 3, 4), 128.0) == (4.0, 8.0, 12.0, 16.0)


def test_no_samples_give_no_scores() -> None:
    for task in TASKS.working().values():
        assert {k: v.shape for k, v in task.score([], []).items()} == {
            m.name: (0,) for m in task.metrics if not m.of_set
        }


def test_as_many_answers_as_references_are_needed() -> None:
    for task in TASKS.working().values():
        with pytest.raises(ValueError, match="zip"):
            task.score(['["A"]'], [])
