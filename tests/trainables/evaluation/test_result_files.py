"""Scores that a task does not declare are refused before anything is written."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from trainables.evaluation import result_files
from trainables.evaluation.result_files import score_task
from trainables.evaluation.shard_results import ShardResult
from trainables.evaluation.test_set import Sample
from trainables.tasks.common.one_name import OneName

SAMPLES = [Sample(str(n), "mine", ("i",), "<image> ?", "{}") for n in range(2)]


class Fixed(OneName):
    def __init__(self, scores: dict[str, Any]) -> None:
        self.scores = scores

    def score(self, answers: Any, references: Any) -> dict[str, Any]:
        return self.scores


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ({"accuracy": np.array([0.5, 7.0])}, "accuracy is 7, outside 0 to 1"),
        ({"accuracy": np.array([0.5, np.nan])}, "accuracy is nan"),
        ({"accuracy": np.array([0.5, np.inf])}, "accuracy is inf"),
        ({"accuracy": np.array([0.5, 1.001])}, "accuracy is 1.001"),
        ({"accuracy": np.array([0.5])}, "accuracy has 1 values, not 2"),
        ({"other": np.array([0.5, 0.5])}, "scores are other; it declares accuracy"),
    ],
)
def test_a_value_that_no_metric_declares_names_task_and_metric(
    monkeypatch: pytest.MonkeyPatch, scores: dict[str, Any], reason: str
) -> None:
    monkeypatch.setattr(result_files.TASKS, "get", lambda name: Fixed(scores))
    result = ShardResult(answers={"0": "a", "1": "b"})
    with pytest.raises(ValueError, match="task mine") as error:
        score_task("mine", SAMPLES, result)
    assert reason in str(error.value)
    monkeypatch.setattr(
        result_files.TASKS, "get", lambda name: Fixed({"accuracy": np.array([0.0, 1.0])})
    )
    assert score_task("mine", SAMPLES, result).values["accuracy"].tolist() == [0.0, 1.0]


def test_perfect_captions_may_round_above_ciders_highest_value() -> None:
    rng, vocabulary = np.random.default_rng(0), [f"w{n}" for n in range(12)]
    texts = [" ".join(rng.choice(vocabulary, size=9)) for _ in range(40)]
    samples = [
        Sample(str(n), "captioning", ("i",), "<image> ?", json.dumps({"caption": text}))
        for n, text in enumerate(texts)
    ]
    answers = {str(n): text for n, text in enumerate(texts)}
    cider = score_task("captioning", samples, ShardResult(answers=answers)).values["cider"]
    assert cider.max() > 10.0
    assert cider == pytest.approx(10.0)
