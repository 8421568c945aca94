"""Metrics against the evaluation code that others publish: lmms-eval's copies of it.

Where that package is (an extra, `.[lmms]`); the other tests of a task need nothing.
"""

import json
import random
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from trainables.tasks import TASKS
from trainables.tasks.common.set_metrics import set_values

pytestmark = pytest.mark.skipif(
    find_spec("lmms_eval") is None, reason="needs lmms-eval: an extra, `.[lmms]`"
)
PARTS = (
    ("a", "the", "cat", "dogs", "two", "2", "none", "yes", "no", "isnt", "can't", "1,000", "3.5"),
    ("st.", "black-white", "red/blue", "(left)", "what's", "y'all", "right,", "maybe?", "ten"),
    ("Zero", "THE", "end.", "don't", "dont"),
)
WORDS = [word for part in PARTS for word in part]


def test_open_answers_are_worth_what_vqav2s_code_says() -> None:
    from lmms_eval.tasks.vqav2.utils import vqav2_process_results

    rng = random.Random(0)
    answers, references, expected = [], [], []
    for number in range(400):
        pool = [" ".join(rng.choices(WORDS, k=rng.randint(1, 3))) for _ in range(3)]
        people = [rng.choice(pool) for _ in range(10)]
        said = rng.choice(pool)
        answers.append(said)
        references.append(json.dumps({"answers": people}))
        doc = {
            "question_id": number,
            "answers": [{"answer": a, "answer_id": i} for i, a in enumerate(people)],
        }
        expected.append(vqav2_process_results(doc, [said])["exact_match"])
    found = TASKS.get("open_vqa").score(answers, references)["accuracy"]
    assert len(set(expected)) > 3
    np.testing.assert_allclose(found, expected)


def test_yes_and_no_are_counted_as_popes_code_does() -> None:
    from lmms_eval.tasks.pope import utils

    rng = random.Random(0)
    answers = [rng.choice(["yes", "Yes", "no"]) for _ in range(200)]
    meant = [rng.choice(["yes", "no", "no"]) for _ in answers]
    references = [json.dumps({"answer": one}) for one in meant]
    rows: list[Any] = [
        utils.pope_process_results({"answer": m, "question_id": i}, [a])["pope_accuracy"]
        for i, (a, m) in enumerate(zip(answers, meant, strict=True))
    ]
    task = TASKS.get("yes_no")
    found = {name: one.value for name, one in set_values(task, answers, references).items()}
    scores = task.score(answers, references)
    assert scores["accuracy"].mean() == pytest.approx(utils.pope_aggregate_accuracy(rows))
    assert found["precision"] == pytest.approx(utils.pope_aggregate_precision(rows))
    assert found["recall"] == pytest.approx(utils.pope_aggregate_recall(rows))
    assert found["f1"] == pytest.approx(utils.pope_aggregate_f1_score(rows))
    # Its yes ratio is that of the truth, which says nothing of a model; ours is of the answers.
    share = np.mean([answer.lower() == "yes" for answer in answers])
    assert scores["yes_ratio"].mean() == pytest.approx(share)


def test_boxes_are_right_where_refcocos_code_says_so() -> None:
    from lmms_eval.tasks.refcoco import utils_rec

    rng = random.Random(0)
    answers, references, rows = [], [], []
    for number in range(300):
        x, y = rng.uniform(0, 0.5), rng.uniform(0, 0.5)
        box = [x, y, x + rng.uniform(0.1, 0.5), y + rng.uniform(0.1, 0.5)]
        guess = [value + rng.uniform(-0.08, 0.08) for value in box]
        said = "[" + ",".join(f"{value:.3f}" for value in guess) + "]"
        said = said if number % 9 else "nowhere"
        answers.append(said)
        own = [value * 128 for value in box]
        references.append(json.dumps({"box": own, "size": 128, "format": "shikra"}))
        doc = {"answer": "x", "question_id": number, "bbox": box}
        rows.append(utils_rec.refcoco_bbox_rec_process_result(doc, [said])["refcoco_ACC@0.5"])
    found = TASKS.get("grounding").score(answers, references)["accuracy@0.5"]
    assert 0.2 < found.mean() < 0.8
    assert found.mean() == pytest.approx(utils_rec.refcoco_bbox_rec_acc05(rows))


def test_rotations_count_as_in_mmbenchs_code() -> None:
    from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator

    rng = random.Random(0)
    texts = ["a red car", "one blue boat", "three green trees", "his black hat"]
    rows, answers, references = [], [], []
    for question in range(60):
        for turn in range(4):
            choices = dict(zip("ABCD", texts[turn:] + texts[:turn], strict=True))
            answer = next(letter for letter, text in choices.items() if text == texts[0])
            said = answer if rng.random() < 0.85 else rng.choice("ABCD")
            said = rng.choice([said, f"{said}.", f"({said})", choices[said]])
            index = question + turn * 1_000_000
            row = {"index": index, "question": "?", **choices, "answer": answer}
            rows.append({**row, "prediction": said, "category": "x", "hint": ""})
            answers.append(said)
            reference = {"answer": answer, "choices": choices, "group": str(question)}
            references.append(json.dumps(reference))
    overall = MMBench_Evaluator().eval_result(rows, "static")[0]
    found = set_values(TASKS.get("choice_circular"), answers, references)["accuracy_circular"].value
    assert 0.2 < found < 0.9
    assert found == pytest.approx(overall)


def test_letters_count_as_in_seed_benchs_code() -> None:
    from lmms_eval.tasks.seedbench.utils import seed_aggregation_result, seed_process_result

    rng = random.Random(0)
    choices = dict(zip("ABCD", ("red", "green", "blue", "grey"), strict=True))
    answers = [rng.choice(["A", "B", "C", "D", "B. green"]) for _ in range(100)]
    meant = [rng.choice("ABCD") for _ in answers]
    references = [json.dumps({"answer": m, "choices": choices}) for m in meant]
    rows = []
    for answer, right in zip(answers, meant, strict=True):
        doc = {"answer": right, "data_type": "image", "question_id": "1", "data_id": "1"}
        rows.append(seed_process_result(doc, [answer])["seed_image"])
    expected = seed_aggregation_result(rows)
    assert TASKS.get("choice").score(answers, references)["accuracy"].mean() == pytest.approx(
        expected
    )
