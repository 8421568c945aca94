"""Examples of evaluations as they go into a sweep's directory and its manifest."""

import json
from pathlib import Path

import numpy as np

from analysis.qualitative.examples import example_of
from orchestrator.tracking.measured import _examples
from trainables.evaluation.example_page import AnsweredQuestion, ExamplePage, ShownImage
from trainables.evaluation.examples import write_examples


def evaluated(directory: Path, answer: str, decoded: int) -> Path:
    """An evaluation's examples: one image, one question with a box."""
    given = np.full((48, 64, 3), 30, np.uint8)
    seen = np.full((48, 64, 3), decoded, np.uint8)
    reference = json.dumps({"box": [0, 0, 32, 24], "size": 64, "format": "shikra"})
    question = AnsweredQuestion("a-0", "grounding", "<image> Where?", reference, answer, True)
    write_examples(
        directory, "t", [ExamplePage("a", [ShownImage("a", given, seen, 0.5, 20.0)], [question])]
    )
    return directory


def test_pages_are_each_evaluation_s_own_and_equal_images_one_file(tmp_path: Path) -> None:
    first = evaluated(tmp_path / "first", "[0,0,0.5,0.5]", 40)
    second = evaluated(tmp_path / "second", "nowhere", 50)
    found = [
        *_examples(first, "examples/key/0-"),
        *_examples(second, "examples/key/1-"),
    ]
    assert [one["page"] for one, _ in found] == ["examples/key/0-a.png", "examples/key/1-a.png"]
    files: dict[str, Path] = {}
    for _, own in found:
        files |= own
    assert len(files) == 2 + 1 + 2  # pages, the input, two decoded images
    for one, own in found:
        (image,) = one["images"]
        assert {one["page"], image["input"], image["decoded"]} == set(own)
        assert all(file.is_file() for file in own.values())
    read = [example_of({"dataset": "d", "mllm": "m", **one}) for one, _ in found]
    assert read[0].query.input == read[1].query.input
    assert read[0].query.decoded != read[1].query.decoded
    assert read[0].wanted == read[1].wanted == {"a-0": (0, 0, 0.5, 0.5)}
    assert read[0].answered == {"a-0": (0, 0, 0.5, 0.5 * 64 / 48)}
    assert read[1].answered == {}


def test_where_nothing_is_decoded_there_is_no_file(tmp_path: Path) -> None:
    image = ShownImage("a", np.zeros((8, 8, 3), np.uint8), None, 24.0, None)
    question = AnsweredQuestion("a-0", "vqa", "<image> What?", '{"answer": "red"}', "red", True)
    write_examples(tmp_path, "t", [ExamplePage("a/b c", [image], [question])])
    ((one, files),) = _examples(tmp_path, "examples/key/")
    assert one["images"][0]["decoded"] is None
    assert set(files) == {"examples/key/a_b_c.png", one["images"][0]["input"]}
    assert example_of({"dataset": "d", "mllm": "m", **one}).samples == ("a-0",)
