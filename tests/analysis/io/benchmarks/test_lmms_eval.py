"""Results in the form of lmms-eval's: metrics, filters, directions, samples, what is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from analysis.io.benchmarks.lmms_eval import is_lmms_eval, read_lmms_eval
from analysis.io.benchmarks.scores import Results, ResultsError, Score, UnknownFormError
from tests.analysis.benchmark_files import lmms_content, lmms_samples
from tests.analysis.messages import naming

HITS = (1.0, 0.0, 1.0, 1.0)


def pope(hit: float) -> dict[str, Any]:
    entry = {"question_id": 3, "score": hit, "prediction": "yes", "ground_truth": "yes"}
    return {"pope_accuracy": entry, "pope_f1_score": entry}


CONTENT = lmms_content(
    {
        "pope": {"pope_accuracy,none": 0.75, "pope_f1_score,none": 0.8571},
        "textvqa_val": {"exact_match,none": 0.55, "submission,none": None},
        "mme": {"mme_cognition_score,none": 250.0, "mme_perception_score,none": 1400.5},
    },
    {
        "pope": {"pope_accuracy": True, "pope_f1_score": True},
        "textvqa_val": {"exact_match": True, "submission": True},
        "mme": {"mme_perception_score": True, "mme_cognition_score": True},
    },
)
SAMPLES = {"pope": lmms_samples(*map(pope, HITS))}


def read(
    content: dict[str, Any] = CONTENT, samples: Callable[[str], bytes | None] = SAMPLES.get
) -> Results:
    assert is_lmms_eval(content)
    return read_lmms_eval(json.loads(json.dumps(content)), samples)


def by_metric(results: Results) -> dict[str, Score]:
    return {score.metric: score for score in results.scores}


def test_every_number_is_a_metric_of_its_task() -> None:
    results = read()
    assert results.model == "liuhaotian/llava-v1.5-7b"
    assert [(s.task, s.metric, s.value, s.scale) for s in results.scores] == [
        ("pope", "pope_accuracy", 0.75, "share"),
        ("pope", "pope_f1_score", 0.8571, "share"),
        ("textvqa_val", "exact_match", 0.55, "share"),
        ("mme", "mme_cognition_score", 250.0, "own"),
        ("mme", "mme_perception_score", 1400.5, "own"),
    ]
    assert {s.split for s in results.scores} == {"val"}
    assert {s.n_samples for s in results.scores} == {4}
    assert all(s.higher_is_better is True for s in results.scores)
    assert "textvqa_val submission: no number" in results.left_out


def test_samples_of_a_mean_are_read_and_no_others() -> None:
    scores = by_metric(read())
    samples = scores["pope_accuracy"].samples
    assert samples is not None
    assert samples["value"].tolist() == list(HITS)
    assert samples["sample_id"].tolist() == ["0", "1", "2", "3"]
    assert samples["image_id"].tolist() == [f"pope doc {n}" for n in range(4)]
    assert scores["pope_f1_score"].samples is None
    assert "pope pope_f1_score: not the mean of its samples, which are not read" in read().left_out


def test_samples_of_one_image_share_it() -> None:
    lines = [{"hit": {"image_id": n // 2, "score": hit}} for n, hit in enumerate(HITS)]
    content = lmms_content({"qa": {"hit,none": 0.75}}, {"qa": {"hit": True}})
    (score,) = read(content, {"qa": lmms_samples(*lines)}.get).scores
    assert score.samples is not None
    assert score.samples["image_id"].tolist() == [f"qa image {n // 2}" for n in range(4)]
    assert (score.scale, score.of_samples) == ("own", "fraction")


def test_a_percentage_has_samples_of_its_unit() -> None:
    content = lmms_content({"qa": {"hit,none": 75.0}}, {"qa": {"hit": True}})
    lines = [{"hit": bool(hit)} for hit in HITS]
    (score,) = read(content, {"qa": lmms_samples(*lines)}.get).scores
    assert score.of_samples == "percent"
    assert score.samples is not None
    np.testing.assert_array_equal(score.samples["value"], 100 * np.array(HITS))


def test_filters_are_told_apart_and_their_samples_are_not() -> None:
    content = lmms_content({"qa": {"acc,strict": 0.5, "acc,flexible": 0.75}}, {"qa": {"acc": True}})
    lines = lmms_samples({"acc": 1.0}, {"acc": 0.0})
    results = read(content, {"qa": lines + lines}.get)
    assert {m: s.value for m, s in by_metric(results).items()} == {
        "acc,strict": 0.5,
        "acc,flexible": 0.75,
    }
    assert all(s.samples is None and s.higher_is_better for s in results.scores)
    assert any("several samples" in line for line in results.left_out)


def test_a_group_is_not_counted_beside_its_tasks() -> None:
    content = lmms_content(
        {"refcoco": {" ": " "}, "val": {"acc,none": 0.5}, "testA": {"acc,none": 0.6}},
        {"val": {"acc": True}, "testA": {"acc": True}, "refcoco": {"acc": True}},
        group_subtasks={"refcoco": ["val", "testA"]},
    )
    content["results"]["refcoco"] = {"alias": "refcoco", "acc,none": 0.55}
    assert [s.task for s in read(content).scores] == ["val", "testA"]
    assert read(content).left_out == ("refcoco: a group, whose tasks are read",)


def test_directions_come_from_the_file() -> None:
    content = lmms_content(
        {"asr": {"wer,none": 0.2, "mer,none": 0.3}}, {"asr": {"wer": False, "mer": None}}
    )
    assert {m: s.higher_is_better for m, s in by_metric(read(content)).items()} == {
        "wer": False,
        "mer": None,
    }


def test_statistics_of_repeated_answers_are_no_metrics() -> None:
    content = lmms_content({"qa": {"acc,none": 0.5}}, {"qa": {"acc": True}})
    names = ("expected_accuracy", "consensus_accuracy", "internal_variance", "consistency_rate")
    content["results"]["qa"] |= {f"acc_{name},none": 0.5 for name in names}
    content["results"]["qa"] |= {"paired_baseline_score": 50.0}
    assert [s.metric for s in read(content).scores] == ["acc"]


@pytest.mark.parametrize(
    ("task", "metric", "scale"),
    [
        ("chartqa", "relaxed_overall", "share"),
        ("chartqa", "relaxed_human_split", "share"),
        ("seedbench", "seed_all", "share"),
        ("seedbench_2", "seed_Single_Image", "share"),
        ("mmstar", "average", "share"),
        ("mmstar", "math", "share"),
        ("mle_bench", "average", "own"),
        ("my_recall", "points", "own"),
    ],
)
def test_names_of_accuracies(task: str, metric: str, scale: str) -> None:
    (score,) = read(lmms_content({task: {f"{metric},none": 0.5}}, {task: {metric: True}})).scores
    assert score.scale == scale


def test_the_primary_metric_of_captions_is_cider() -> None:
    names = ("coco_Bleu_4", "coco_CIDEr", "coco_ROUGE_L")
    content = lmms_content(
        {"coco": {f"{name},none": 0.5 for name in names}}, {"coco": dict.fromkeys(names, True)}
    )
    assert [s.metric for s in read(content).scores] == ["coco_CIDEr", "coco_Bleu_4", "coco_ROUGE_L"]


@pytest.mark.parametrize("value", [float("nan"), {"a": 1}, True])
def test_a_metric_without_a_number_is_left_out(value: object) -> None:
    content = lmms_content({"qa": {"odd,none": value, "acc,none": 0.5}}, {"qa": {"acc": True}})
    results = read(content)
    assert [score.metric for score in results.scores] == ["acc"]
    (line,) = results.left_out
    assert line.startswith("results.qa.odd,none: must be a finite number")


def changed(**parts: Any) -> dict[str, Any]:
    return {**CONTENT, **parts}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (changed(results={"pope": 3}), ["results.pope", "object"]),
        (changed(results={"pope": {"acc,none": float("nan")}}), ["pope.acc,none", "nan"]),
        (changed(results={"pope": {"acc,none": float("inf")}}), ["pope.acc,none", "inf"]),
        (changed(results={"pope": {"acc,none": {"a": 1}}}), ["pope.acc,none", "dict"]),
        (changed(results={"pope": {"acc,none": True}}), ["pope.acc,none", "bool"]),
    ],
)
def test_scores_that_are_none_are_said(content: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ResultsError, match=naming(*words)):
        read(content)


@pytest.mark.parametrize("results", [{}, {"pope": {}}, {"pope": {"submission,none": None}}])
def test_results_without_a_score_are_said(results: dict[str, Any]) -> None:
    with pytest.raises(UnknownFormError, match="no score"):
        read(changed(results=results))


@pytest.mark.parametrize("part", ["higher_is_better", "configs", "n-samples", "group_subtasks"])
@pytest.mark.parametrize("value", [None, 3, [1], {"pope": 3}, {"pope": {"pope_accuracy": "x"}}])
def test_parts_of_another_form_say_nothing(part: str, value: object) -> None:
    assert {s.task for s in read(changed(**{part: value})).scores} >= {"pope", "mme"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", ["pope", "line 1", "JSON"]),
        (b'{"doc_id": 1}\n' + b"[" * 10**6, ["pope", "line 2", "JSON"]),
        (b"[1]", ["pope", "line 1", "doc_id"]),
        (b'{"doc_id": [1]}', ["pope", "line 1", "doc_id"]),
        (b"\xff\xfe", ["pope", "line 1", "JSON"]),
        (b'{"doc_id": 1, "pope_accuracy": NaN}', ["pope_accuracy of 1", "nan"]),
        (b'{"doc_id": 1, "pope_accuracy": 1' + b"0" * 400 + b"}", ["pope_accuracy of 1"]),
    ],
)
def test_damaged_samples_are_said(data: bytes, words: list[str]) -> None:
    with pytest.raises(ResultsError, match=naming(*words)):
        read(CONTENT, {"pope": data}.get)


@pytest.mark.parametrize("depth", [500, 900, 5_000, 20_000, 10**6])
def test_nested_targets_are_digested_or_said(depth: int) -> None:
    line = b'{"doc_id": 1, "target": ' + b"[" * depth + b"]" * depth + b"}"
    with contextlib.suppress(ResultsError):
        assert all(score.targets for score in read(CONTENT, {"pope": line}.get).scores[:1])


@pytest.mark.parametrize("value", ["yes", None, [1], {"score": "1"}, {}])
def test_samples_without_numbers_are_left_out(value: object) -> None:
    lines = lmms_samples({"pope_accuracy": value}, {"pope_accuracy": 1.0})
    results = read(CONTENT, {"pope": lines}.get)
    assert all(s.samples is None for s in results.scores)
    assert any(line.startswith("pope pope_accuracy: ") for line in results.left_out)


@pytest.mark.parametrize("content", [[], 3, {"results": []}, {"results": {}}, {"space": 1}])
def test_other_json_is_not_taken_for_it(content: object) -> None:
    assert not is_lmms_eval(content)
