"""POPE's metrics, against scikit-learn, and the bootstrap of what is no mean."""

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from analysis.sampling.intervals import (
    RESAMPLES,
    bootstrap_mean,
    percentile_interval,
    resampled_means,
)
from trainables.tasks import TASKS
from trainables.tasks.common.set_metrics import set_values
from trainables.tasks.yes_no import yes_or_no


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        ("yes", "yes"),
        ("Yes, there is a dog.", "yes"),
        (" YES!", "yes"),
        ("No.", "no"),
        ("no", "no"),
        ("There is not a dog in the image.", "no"),
        ("There isn't one. Yes?", "no"),
        ("There isn’t one", "no"),
        ("The answer is yes. No doubt.", "yes"),
        ("Let me see. No, nothing.", "no"),
        ("nothing noteworthy", None),
        ("eyes", None),
        ("", None),
    ],
)
def test_answers_are_understood(answer: str, meaning: str | None) -> None:
    assert yes_or_no(answer) == meaning


def _answers(n: int, seed: int) -> tuple[list[str], list[str], list[str]]:
    rng = np.random.default_rng(seed)
    meant = rng.choice(["yes", "no"], n)
    said = np.where(rng.random(n) < 0.3, rng.choice(["yes", "no"], n), meant)
    return said.tolist(), meant.tolist(), [json.dumps({"answer": m}) for m in meant]


def test_the_metrics_are_those_of_scikit_learn() -> None:
    task = TASKS.get("yes_no")
    said, meant, references = _answers(60, 1)
    scores = task.score(said, references)
    assert scores["accuracy"].mean() == pytest.approx(accuracy_score(meant, said))
    assert scores["yes_ratio"].mean() == pytest.approx(said.count("yes") / 60)
    of_set = set_values(task, said, references)
    expected = precision_recall_fscore_support(meant, said, pos_label="yes", average="binary")
    for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
        assert of_set[name].value == pytest.approx(value)
        assert of_set[name].low < value < of_set[name].high


def test_what_is_neither_yes_nor_no_is_wrong_and_no_yes() -> None:
    references = [json.dumps({"answer": a}) for a in ("yes", "no")]
    scores = TASKS.get("yes_no").score(["", "?"], references)
    assert scores["accuracy"].tolist() == scores["yes_ratio"].tolist() == [0.0, 0.0]
    of_set = set_values(TASKS.get("yes_no"), ["", "?"], references)
    assert [of_set[name].value for name in ("precision", "recall", "f1")] == [0.0, 0.0, 0.0]


def test_the_intervals_resample_as_those_of_means_do() -> None:
    # Recall where every reference is yes is a mean of answers, and so has the mean's interval.
    said, _, _ = _answers(40, 2)
    references = [json.dumps({"answer": "yes"})] * 40
    recall = set_values(TASKS.get("yes_no"), said, references)["recall"]
    assert (recall.low, recall.high) == pytest.approx(bootstrap_mean([s == "yes" for s in said]))
    # F1 of every resample, by scikit-learn's definition on whole counts.
    said, meant, references = _answers(40, 3)
    weights = resampled_means(np.eye(40), RESAMPLES, 0)
    yes, true = (np.array(x) == "yes" for x in (said, meant))
    f1 = 2 * (weights @ (yes & true)) / (weights @ yes.astype(float) + weights @ true.astype(float))
    found = set_values(TASKS.get("yes_no"), said, references)["f1"]
    assert (found.low, found.high) == pytest.approx(percentile_interval(f1))


def test_the_intervals_resample_images_where_several_samples_ask_about_one() -> None:
    said, _, _ = _answers(40, 2)
    references = [json.dumps({"answer": "yes"})] * 120
    images = np.repeat(np.arange(40), 3).astype(str).tolist()
    once = set_values(TASKS.get("yes_no"), said, references[:40])["recall"]
    thrice = set_values(TASKS.get("yes_no"), list(np.repeat(said, 3)), references, images)
    assert (thrice["recall"].low, thrice["recall"].high) == pytest.approx(
        (once.low, once.high), abs=0.03
    )
