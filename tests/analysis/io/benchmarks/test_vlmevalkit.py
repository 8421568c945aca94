"""Score files in the form that VLMEvalKit's code writes: numbers, units, what is refused."""

from __future__ import annotations

import json

import pytest

from analysis.io.benchmarks.scores import Results, ResultsError, UnknownFormError
from analysis.io.benchmarks.vlmevalkit import read_vlmevalkit
from tests.analysis.benchmark_files import vlmevalkit_table as table
from tests.analysis.messages import naming

MODEL = "llava_v1.5_7b"


def read(data: bytes, benchmark: str, ending: str = "acc.csv") -> Results:
    return read_vlmevalkit(data, f"{MODEL}_{benchmark}_{ending}", ["", "llava", MODEL, "T2026"])


def values(results: Results) -> dict[tuple[str, str], tuple[float, str]]:
    return {(s.task, s.metric): (s.value, s.scale) for s in results.scores}


POPE = table(
    {"split": "Overall", "Overall": 40.0, "acc": 25.0, "precision": 100 / 3, "recall": 50.0},
    {"split": "popular", "Overall": 0.0, "acc": 0.0, "precision": 0.0, "recall": 0.0},
    {"split": "random", "Overall": 200 / 3, "acc": 50.0, "precision": 50.0, "recall": 100.0},
)
HALLUSION = table(
    {"split": "Overall", "aAcc": 200 / 3, "fAcc": 50.0, "qAcc": 200 / 3},
    {"split": "VS", "aAcc": 100.0, "fAcc": 100.0, "qAcc": 100.0},
)
MME = table({"perception": 1550.0, "reasoning": 500.0, "OCR": 200.0, "code_reasoning": 50.0})
OCRBENCH = {"Text Recognition": 200, "Final Score": 531, "Final Score Norm": 53.1}
COCO = {"Bleu": [70.1, 52.2, 37.3, 26.4], "ROUGE_L": 51.5, "CIDEr": 95.6}
REFCOCO = table(
    {"Split": "val", "Precision@1": 60.0, "Average IoU": 0.5, "Samples": 20},
    {"Split": "testA", "Precision@1": 70.0, "Average IoU": 0.6, "Samples": 10},
    {"Split": "Average", "Precision@1": 65.0, "Average IoU": 0.55, "Samples": 30},
)
MMVET = table(
    {"Category": "rec", "tot": 2, "acc": 100.0},
    {"Category": "Overall", "tot": 4, "acc": 67.5},
)
MATHVISION = table(
    {"Subject": "Overall", "tot": 8, "prefetch": 1, "hit": 3, "prefetch_rate": 12.5, "acc": 37.5},
    {"Subject": "algebra", "tot": 4, "prefetch": 0, "hit": 1, "prefetch_rate": 0.0, "acc": 25.0},
)


@pytest.mark.parametrize(
    ("data", "benchmark", "ending", "expected"),
    [
        (
            table({"split": "none", "Overall": 2 / 3, "AR": 0.5, "CP": 1.0}),
            "SEEDBench_IMG",
            "acc.csv",
            {"accuracy": (2 / 3, "fraction")},
        ),
        (
            table({"Overall": 58.2, "Book": 40.0}),
            "OCRVQA_TESTCORE",
            "acc.csv",
            {"accuracy": (58.2, "percent")},
        ),
        (
            table({"Average": 0.75, "Overall": 0.5}),
            "MMVP",
            "acc.csv",
            {"accuracy": (0.5, "share")},
        ),
        (
            POPE,
            "POPE",
            "score.csv",
            {
                "f1": (40.0, "percent"),
                "accuracy": (25.0, "percent"),
                "precision": (100 / 3, "percent"),
                "recall": (50.0, "percent"),
            },
        ),
        (
            HALLUSION,
            "HallusionBench",
            "score.csv",
            {
                "accuracy": (200 / 3, "percent"),
                "figure_accuracy": (50.0, "percent"),
                "question_accuracy": (200 / 3, "percent"),
            },
        ),
        (
            MME,
            "MME",
            "score.csv",
            {"perception": (1550.0, "own"), "reasoning": (500.0, "own")},
        ),
        (
            json.dumps(OCRBENCH, indent=4).encode(),
            "OCRBench",
            "score.json",
            {"accuracy": (53.1, "percent")},
        ),
        (
            json.dumps(COCO, indent=4).encode(),
            "COCO_VAL",
            "score.json",
            {
                "cider": (95.6, "own"),
                "bleu-1": (70.1, "own"),
                "bleu-2": (52.2, "own"),
                "bleu-3": (37.3, "own"),
                "bleu-4": (26.4, "own"),
                "rouge_l": (51.5, "own"),
            },
        ),
        (
            REFCOCO,
            "RefCOCO",
            "acc.csv",
            {"accuracy@0.5": (65.0, "percent"), "iou": (0.55, "fraction")},
        ),
        (MMVET, "MMVet_gpt-4-turbo", "score.csv", {"accuracy": (67.5, "percent")}),
        (
            json.dumps({"KO": 12.5, "AR": 10.0, "Average": 11.0}).encode(),
            "MTVQA_TEST",
            "acc.json",
            {"accuracy": (11.0, "percent")},
        ),
        (
            json.dumps([{"split": "none", "Overall": 0.5}]).encode(),  # EVAL_FORMAT=json
            "AI2D_TEST",
            "acc.json",
            {"accuracy": (0.5, "fraction")},
        ),
        (MATHVISION, "MathVision_gpt-4o", "score.csv", {"accuracy": (37.5, "percent")}),
        (table({"Overall": 0.4}), "Another", "acc.csv", {"accuracy": (0.4, "share")}),
    ],
)
def test_overall_scores_of_each_form(
    data: bytes, benchmark: str, ending: str, expected: dict[str, tuple[float, str]]
) -> None:
    results = read(data, benchmark, ending)
    assert results.model == MODEL
    assert values(results) == {(benchmark, metric): pair for metric, pair in expected.items()}
    assert [score.metric for score in results.scores] == list(expected)  # the primary one first
    assert all(score.higher_is_better for score in results.scores)
    assert all(score.samples is None for score in results.scores)


def test_splits_without_an_overall_score_are_tasks() -> None:
    data = table(
        {"split": "dev", "Overall": 0.5, "a": 0.5, "b": ""},
        {"split": "validation", "Overall": 1.0, "a": "", "b": 1.0},
    )
    results = read(data, "MMMU_DEV_VAL")
    assert values(results) == {
        ("MMMU_DEV_VAL dev", "accuracy"): (0.5, "fraction"),
        ("MMMU_DEV_VAL validation", "accuracy"): (1.0, "fraction"),
    }
    assert [s.split for s in results.scores] == ["dev", "validation"]
    assert {s.benchmark for s in results.scores} == {"MMMU_DEV_VAL"}
    (alone,) = read(table({"split": "dev", "Overall": 0.5}), "MMBench_DEV_EN").scores
    assert (alone.task, alone.split) == ("MMBench_DEV_EN", "dev")
    with_all = table(
        *({"split": s, "Overall": v} for s, v in (("val", 0.5), ("test", 0.3), ("ALL", 0.4)))
    )
    (whole,) = read(with_all, "MMT-Bench_ALL").scores
    assert (whole.task, whole.split, whole.value) == ("MMT-Bench_ALL", "", 0.4)


def test_counts_of_samples_are_kept() -> None:
    assert [s.n_samples for s in read(REFCOCO, "RefCOCO").scores] == [30, 30]
    assert [s.n_samples for s in read(MMVET, "MMVet_gpt-4o", "score.csv").scores] == [4]
    assert [s.n_samples for s in read(MME, "MME", "score.csv").scores] == [0, 0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["CSV"]),
        (b'"split","Overall"\n"none","0.5', ["CSV"]),
        (b"\xff\xfe\x00", ["CSV"]),
        (table({"split": "test", "Overall": ""}), ["Overall", "''"]),
        (table({"split": "test", "Overall": "nan"}), ["Overall", "nan"]),
        (table({"split": "test", "Overall": "inf"}), ["Overall", "inf"]),
        (table({"split": "test", "Overall": "many"}), ["Overall", "many"]),
        (table({"subject": "a", "Avg": 0.5}), ["subject, Avg", "Overall", "CIDEr"]),
        (table({"Overall": 0.5}, {"Overall": 0.6}), ["one row"]),
        (table({"Topic": "a", "acc": 1}, {"Topic": "b", "acc": 2}), ["one row", "Topic, acc"]),
        (table({"split": "a", "Overall": 1}, {"split": "a", "Overall": 0}), ["split", "a, a"]),
        (table({"Category": "a", "acc": 1}, {"Category": "b", "acc": 0}), ["Category", "a, b"]),
    ],
)
def test_what_is_no_table_of_scores_is_said(data: bytes, words: list[str]) -> None:
    with pytest.raises(ResultsError, match=naming(*words)):
        read(data, "MMStar")


@pytest.mark.parametrize("text", ["{", "[" * 10**6, "[]", "3", '["a"]', '{"Overall": [1]}'])
def test_json_that_is_none_is_said(text: str) -> None:
    with pytest.raises(ResultsError):
        read(text.encode(), "MMStar", "acc.json")


@pytest.mark.parametrize("value", ["null", "true", "{}", "1e999", "1" * 400, "NaN"])
def test_scores_that_are_no_numbers_are_refused(value: str) -> None:
    with pytest.raises(ResultsError, match="Overall: must be a finite number"):
        read(f'{{"Overall": {value}}}'.encode(), "MMStar", "acc.json")


def test_a_metric_without_a_number_is_left_out() -> None:
    data = table({"split": "Overall", "Overall": 40.0, "acc": 25.0, "precision": "", "recall": 5})
    results = read(data, "POPE", "score.csv")
    assert [score.metric for score in results.scores] == ["f1", "accuracy", "recall"]
    (line,) = results.left_out
    assert line.startswith("POPE precision: must be a finite number")


def test_the_models_name_must_be_known() -> None:
    data = table({"Overall": 50.0})
    name = "llava_7b_TextVQA_VAL_acc.csv"
    with pytest.raises(ResultsError, match=naming("llava_7b_TextVQA_VAL", "'q30'", "mllm")):
        read_vlmevalkit(data, name, ["", "q30"])
    assert read_vlmevalkit(data, name, ["llava", "llava_7b"]).scores[0].task == "TextVQA_VAL"
    with pytest.raises(UnknownFormError, match="_acc"):
        read_vlmevalkit(data, "llava_7b_TextVQA_VAL.csv", ["llava_7b"])
