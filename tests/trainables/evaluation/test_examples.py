"""Examples of an evaluation: the files hold what went in and what a decoder gives, and the record
says what belongs together."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.trainables.evaluation.setting import Setting
from trainables.evaluation.example_page import (
    AnsweredQuestion,
    ExamplePage,
    ShownImage,
    boxes_of,
    draw_example,
)
from trainables.evaluation.examples import LONGEST, _right, write_examples
from trainables.tasks.common.box_formats import parse_box


def pixels_of(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_inputs_are_the_test_images_and_decoded_ones_what_the_bytes_give(
    setting: Setting, results: dict[str, dict[str, Any]]
) -> None:
    images, codec = setting.images(), setting.codec()
    for scenario, result in results.items():
        *single, several = result["examples"]
        assert [len(example["images"]) for example in single] == [1, 1]
        assert len(several["images"]) > 1
        rates = {row["image_id"]: row for row in result["images"]}
        for image in [image for example in result["examples"] for image in example["images"]]:
            given = images[image["id"]]
            levels = (given[0] * 255).round().byte().permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(
                pixels_of(result["out"] / "examples" / image["input"]), levels
            )
            assert image["bpp"] == rates[image["id"]]["bpp"]
            assert image["psnr"] == rates[image["id"]]["psnr"]
            if scenario in ("uncompressed", "d3"):
                assert image["decoded"] is None
                continue
            # Another decoder, which has nothing but the weights and the bytes.
            x_hat = codec.synthesis(codec.decode(codec.encode(given)))[0]
            expected = (x_hat.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            decoded = pixels_of(result["out"] / "examples" / image["decoded"])
            np.testing.assert_array_equal(decoded, expected)
            error = np.mean((decoded / 255.0 - levels / 255.0) ** 2)
            assert -10 * np.log10(error) == pytest.approx(image["psnr"], abs=0.1)


def test_equal_images_are_one_file_whichever_point_wrote_them(
    results: dict[str, dict[str, Any]],
) -> None:
    def names(scenario: str, part: str) -> list[str]:
        return [i[part] for example in results[scenario]["examples"] for i in example["images"]]

    assert len({tuple(names(scenario, "input")) for scenario in results}) == 1
    assert names("d1", "decoded") == names("reconstruction", "decoded")
    for scenario in results:
        files = results[scenario]["out"] / "examples"
        recorded = {name for part in ("input", "decoded") for name in names(scenario, part) if name}
        assert recorded == {f"images/{file.name}" for file in (files / "images").iterdir()}


def test_samples_are_all_that_is_asked_of_the_images(
    setting: Setting, results: dict[str, dict[str, Any]]
) -> None:
    rows = pq.read_table(setting.root / "world/tasks_test.parquet").to_pylist()
    for result in results.values():
        for example in result["examples"]:
            assert (result["out"] / "examples" / example["page"]).is_file()
            ids = [image["id"] for image in example["images"]]
            asked = {row["sample_id"] for row in rows if row["image_ids"] == ids}
            assert set(example["samples"]) == asked
            assert asked


def test_boxes_are_in_fractions_of_the_image(results: dict[str, dict[str, Any]]) -> None:
    answered = 0
    for result in results.values():
        rec = {row["sample_id"]: row for row in result["samples"] if row["task"] == "rec"}
        for example in result["examples"]:
            assert set(example["boxes"]) == set(example["samples"]) & set(rec)
            for sample, boxes in example["boxes"].items():
                truth = json.loads(rec[sample]["reference"])
                assert truth["size"] == 64
                np.testing.assert_allclose(np.array(boxes["wanted"]) * 64, truth["box"])
                guess = parse_box(rec[sample]["answer"], 64.0)
                assert (boxes["answered"] is None) is (guess is None)
                if guess is not None:
                    answered += 1
                    np.testing.assert_allclose(np.array(boxes["answered"]) * 64, guess)
    assert sum(len(example["boxes"]) for r in results.values() for example in r["examples"]) > 0


def example_page(width: int, height: int, answer: str, form: str) -> ExamplePage:
    """A grey image with a box wanted from its middle to its lower right corner."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    box = [width / 2, height / 2, width, height]
    reference = json.dumps({"box": box, "size": max(width, height), "format": form})
    question = AnsweredQuestion("a-0", "grounding", "<image> Where?", reference, answer, True)
    return ExamplePage("a", [ShownImage("a", pixels, None, 0.5, None)], [question])


def test_boxes_follow_the_format_of_the_answer_and_the_shape_of_the_image() -> None:
    for form, answer in (
        ("shikra", "[0.25,0.25,0.75,0.5]"),
        ("internvl", "[[250, 250, 750, 500]]"),
    ):
        example = example_page(64, 64, answer, form)
        assert boxes_of(example, example.questions[0]) == (
            (0.5, 0.5, 1, 1),
            (0.25, 0.25, 0.75, 0.5),
        )
    wide = example_page(96, 48, "[0,0,0.5,0.25]", "shikra")
    assert boxes_of(wide, wide.questions[0]) == ((0.5, 0.5, 1, 1), (0, 0, 0.5, 0.5))
    nothing = example_page(64, 64, "I see none", "shikra")
    assert boxes_of(nothing, nothing.questions[0]) == ((0.5, 0.5, 1, 1), None)


def test_the_page_has_the_boxes_where_they_are() -> None:
    page = np.asarray(draw_example("t", example_page(96, 48, "[0,0,0.5,0.25]", "shikra")))
    # The input is 256 x 128 pixels from (24, 68): the wanted box is white, the answered one amber.
    white, amber = (255, 255, 255), (255, 196, 0)
    assert tuple(page[68 + 64, 24 + 200]) == white
    assert tuple(page[68 + 63, 24 + 60]) == amber
    assert tuple(page[68 + 30, 24 + 60]) == tuple(page[68 + 100, 24 + 200]) == (90, 90, 90)


def test_a_caption_is_neither_right_nor_wrong() -> None:
    right_of = {task: (_right(task, 0.3), _right(task, 0.0)) for task in ("captions", "open_vqa")}
    assert right_of == {"captions": (None, None), "open_vqa": (True, False)}
    green, red = (24, 128, 56), (197, 34, 31)
    for right, colours in ((True, {green}), (False, {red}), (None, set())):
        example = example_page(64, 64, "I see none", "shikra")
        example = replace(example, questions=[replace(example.questions[0], right=right)])
        page = np.asarray(draw_example("t", example)).astype(int)
        drawn = {c for c in (green, red) if (np.abs(page - c).max(-1) < 12).sum() > 20}
        assert drawn == colours


def test_large_images_are_kept_smaller_and_of_their_shape(tmp_path: Path) -> None:
    write_examples(tmp_path, "t", "grounding", [example_page(1536, 768, "", "shikra")])
    (example,) = json.loads((tmp_path / "examples.json").read_text())
    assert pixels_of(tmp_path / example["images"][0]["input"]).shape == (LONGEST // 2, LONGEST, 3)
    np.testing.assert_allclose(example["boxes"]["a-0"]["wanted"], (0.5, 0.5, 1, 1))
