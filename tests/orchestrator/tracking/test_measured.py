"""Examples of evaluations as they go into a sweep's directory and its manifest."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.qualitative.examples import example_of
from orchestrator.tracking.measured import Measured, _add_example, _examples
from search_spaces import OperatingPoint
from trainables.evaluation.example_page import AnsweredQuestion, ExamplePage, ShownImage
from trainables.evaluation.examples import write_examples


def evaluated(directory: Path, answer: str, decoded: int) -> Path:
    """An evaluation's examples: one image, one question with a box."""
    given = np.full((48, 64, 3), 30, np.uint8)
    seen = np.full((48, 64, 3), decoded, np.uint8)
    reference = json.dumps({"box": [0, 0, 32, 24], "size": 64, "format": "shikra"})
    question = AnsweredQuestion("a-0", "grounding", "<image> Where?", reference, answer, True)
    write_examples(
        directory,
        "t",
        "grounding",
        [ExamplePage("a", [ShownImage("a", given, seen, 0.5, 20.0)], [question])],
    )
    return directory


def stored(examples: Path) -> set[str]:
    """The files of the evaluation, as its manifest names them."""
    files = (path for path in examples.rglob("*") if path.is_file())
    return {f"examples/{path.relative_to(examples).as_posix()}" for path in files}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("page", "/etc/hostname"),
        ("page", "../../secret.png"),
        ("page", "images"),
        ("page", "gone.png"),
        ("input", "../../../home/bashrc"),
        ("input", "/etc/hostname"),
        ("decoded", "a.png"),
    ],
)
def test_an_evaluation_names_no_files_but_its_own(tmp_path: Path, key: str, name: str) -> None:
    directory = evaluated(tmp_path / "stage" / "examples", "nowhere", 40)
    (tmp_path / "secret.png").write_text("secret")
    record = directory / "examples.json"
    entry = json.loads(record.read_text())
    (entry[0] if key == "page" else entry[0]["images"][0])[key] = name
    record.write_text(json.dumps(entry))
    names = stored(directory) | {"examples//etc/hostname", "examples/../../secret.png"}
    with pytest.raises(ValueError, match="is no file of the examples"):
        list(_examples(directory, "examples/key/", names))


def test_pages_are_each_evaluation_s_own_and_equal_images_one_file(tmp_path: Path) -> None:
    first = evaluated(tmp_path / "first", "[0,0,0.5,0.5]", 40)
    second = evaluated(tmp_path / "second", "nowhere", 50)
    found = [
        *_examples(first, "examples/key/0-", stored(first)),
        *_examples(second, "examples/key/1-", stored(second)),
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
    write_examples(tmp_path, "t", "vqa", [ExamplePage("a/b c", [image], [question])])
    ((one, files),) = _examples(tmp_path, "examples/key/", stored(tmp_path))
    assert one["images"][0]["decoded"] is None
    assert set(files) == {"examples/key/a_b_c.png", one["images"][0]["input"]}
    assert example_of({"dataset": "d", "mllm": "m", **one}).samples == ("a-0",)


def test_tasks_that_show_the_same_images_share_an_example() -> None:
    def entry(sample: str, *image_ids: str, mllm: str = "m") -> dict[str, Any]:
        images = [{"id": image_id} for image_id in image_ids]
        boxes = {sample: {"wanted": [0, 0, 1, 1], "answered": None}}
        page = f"{sample}.png"
        return {
            "dataset": "d",
            "mllm": mllm,
            "page": page,
            "images": images,
            "samples": [sample],
            "boxes": boxes,
        }

    point = OperatingPoint(None, None, "uncompressed", 0)
    measured = Measured("k", point, {}, [], pd.DataFrame(), [], {}, [], {}, [])
    for example in (
        entry("a", "1"),
        entry("b", "1"),
        entry("c", "1", "2"),
        entry("d", "1", mllm="n"),
    ):
        _add_example(measured, example, {example["page"]: Path(example["page"])})
    assert [example["samples"] for example in measured.examples] == [["a", "b"], ["c"], ["d"]]
    assert measured.examples[0]["boxes"].keys() == {"a", "b"}
    assert measured.files.keys() == {example["page"] for example in measured.examples}
