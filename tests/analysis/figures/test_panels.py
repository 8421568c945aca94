"""Qualitative panels: the right points, their own pixels, and boxes where they belong."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.curves.assemble import Assembled, assemble
from analysis.figures.common.render import Plot
from analysis.figures.panels import draw_panels
from analysis.io.read import read_sweep
from analysis.qualitative.matched_rate import panels
from tests.analysis.pictures import blurred, scene
from tests.analysis.rich import ELSEWHERE, IMAGES, QUESTIONS, WANTED

AMBER, WHITE = (255, 196, 0), (254, 254, 254)


@pytest.fixture(scope="module")
def rich(rich_dir: Path) -> Assembled:
    return assemble(read_sweep(str(rich_dir)), 50)


def test_a_panel_shows_every_curve_at_the_rate_nearest_to_one(rich: Assembled) -> None:
    for rate in (None, 0.5):
        first, second = panels(rich, rate=rate)
        assert [first.image, second.image] == list(IMAGES)
        points = rich.sweep.points
        target = (
            rate
            or np.sort(
                points.drop_duplicates("point_key").query("scenario == 'reconstruction'")["bpp"]
            )[1]
        )
        owners = {(c.codec, c.scenario) for c in rich.means}
        compressed = [one for one in first.shown if one.scenario != "uncompressed"]
        assert {(one.codec, one.scenario) for one in compressed} == owners
        for one in compressed:
            own = points[(points["scenario"] == one.scenario) & (points["codec"] == one.codec)]
            nearest = own.iloc[np.abs(np.log(own["bpp"] / target)).argmin()]
            assert one.key == nearest["point_key"]


def test_pixels_questions_answers_and_boxes_are_those_of_the_sweep(rich: Assembled) -> None:
    samples = rich.sweep.samples
    assert samples is not None
    for number, panel in enumerate(panels(rich)):
        np.testing.assert_array_equal(panel.pixels, np.asarray(scene(number)))
        asked = {one.task: (one.prompt, one.wanted) for one in panel.questions.values()}
        assert asked["vqa"] == ("What colour is the digit on the left?", QUESTIONS["vqa"][1])
        assert panel.boxes == {f"{panel.image}-rec-0": WANTED}
        for one in panel.shown:
            if "d1" in one.key or one.scenario == "uncompressed":
                assert one.decoded is None
            else:
                np.testing.assert_array_equal(one.decoded, np.asarray(blurred(number, 24)))
            assert len(one.answers) == 4
            for sample, said in one.answers.items():
                row = samples[(samples["point_key"] == one.key) & (samples["sample_id"] == sample)]
                row = row[row["metric"] != "cider"].iloc[0]
                assert (said.answer, said.right) == (row["answer"], row["value"] > 0)
                if said.question.task == "rec":
                    assert one.boxes[sample] == (WANTED if said.right else ELSEWHERE)


def pictures(plot: Plot) -> list[tuple[np.ndarray, np.ndarray, tuple[int, int, int, int]]]:
    """Of each image of a drawn panel: what is drawn around and on it, its own pixels, and where
    it is on the page."""
    with Image.open(io.BytesIO(plot.png)) as image:
        page = np.asarray(image.convert("RGB"))
    found = []
    for axes in plot.figure.axes:
        box = axes.get_position()
        left, right = (round(x * page.shape[1]) for x in (box.x0, box.x1))
        top, bottom = (round((1 - y) * page.shape[0]) for y in (box.y1, box.y0))
        own = np.asarray(axes.images[0].get_array())
        found.append((page[top:bottom, left:right], own, (left, top, right, bottom)))
    return found


def boxes_seen(drawn: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray | None:
    """The outer edges of what has a colour, in fractions of the image; None where nothing has."""
    y, x = np.nonzero((drawn == colour).all(-1))
    if not len(y):
        return None
    high, wide = drawn.shape[:2]
    return np.array([x.min() / wide, y.min() / high, (x.max() + 1) / wide, (y.max() + 1) / high])


def test_every_box_is_drawn_on_the_image_it_belongs_to(rich: Assembled) -> None:
    for number, (panel, plot) in enumerate(zip(panels(rich), draw_panels(rich), strict=True)):
        sample = f"{panel.image}-rec-0"
        first, *others = pictures(plot)
        np.testing.assert_array_equal(first[1], np.asarray(scene(number)))
        np.testing.assert_allclose(boxes_seen(first[0], WHITE), WANTED, atol=0.02)
        assert boxes_seen(first[0], AMBER) is None
        # Every point answers with a box, so each has a picture, in the order of the table.
        assert len(others) == len(panel.shown)
        seen = set()
        for (drawn, own, _), one in zip(others, panel.shown, strict=True):
            box = WANTED if one.answers[sample].right else ELSEWHERE
            seen.add(box)
            np.testing.assert_allclose(boxes_seen(drawn, AMBER), box, atol=0.02)
            assert boxes_seen(drawn, WHITE) is None
            if one.decoded is not None:
                np.testing.assert_array_equal(own, one.decoded)
            elif one.scenario == "uncompressed":
                np.testing.assert_array_equal(own, panel.pixels)
            else:
                assert own.min() >= 255 * 2 // 3
        assert len(seen) == number + 1, "the second image has right and wrong boxes"


@pytest.mark.parametrize("upright", [False, True])
def test_images_keep_their_shape(sweep_dir: Path, tmp_path: Path, upright: bool) -> None:
    """160 x 96 pixels, or 96 x 160; points without an image have no picture where no box is
    wanted."""
    if upright:
        shutil.copytree(sweep_dir, tmp_path, dirs_exist_ok=True)
        for file in (tmp_path / "examples" / "images").iterdir():
            with Image.open(file) as image:
                image.transpose(Image.Transpose.ROTATE_90).save(file)
    assembled = assemble(read_sweep(str(tmp_path if upright else sweep_dir)), 2)
    shape = (160, 96, 3) if upright else (96, 160, 3)
    for panel, plot in zip(panels(assembled), draw_panels(assembled), strict=True):
        assert panel.pixels.shape == shape
        found = pictures(plot)
        decoded = [one.decoded for one in panel.shown if one.decoded is not None]
        assert {one.scenario for one in panel.shown if one.decoded is None} == {
            "uncompressed",
            "d3",
        }
        for (_, own, (left, top, right, bottom)), expected in zip(
            found, [panel.pixels, *decoded], strict=True
        ):
            np.testing.assert_array_equal(own, expected)
            assert (right - left) / (bottom - top) == pytest.approx(shape[1] / shape[0], rel=0.02)
            assert max(right - left, bottom - top) == pytest.approx(0.9 * 300, abs=2)


def test_the_figure_says_it_in_words_too(rich: Assembled) -> None:
    plot = draw_panels(rich, n=1)[0]
    assert "✓ red" in plot.svg
    assert "d3 at 0." in plot.alt
    assert "(right)" in plot.alt
    assert plot.svg.count("<image") == 1 + len(panels(rich)[0].shown)


def test_what_is_neither_right_nor_wrong_says_its_value(rich: Assembled) -> None:
    said = rich.sweep.manifest["tasks"]
    tasks = {**said, "captioning": {**said["captioning"], "primary": "cider"}}
    sweep = dataclasses.replace(rich.sweep, manifest={**rich.sweep.manifest, "tasks": tasks})
    plot = draw_panels(assemble(sweep, 2), n=1)[0]
    assert sweep.samples is not None
    own = sweep.samples[sweep.samples["sample_id"] == f"{IMAGES[0]}-captioning-0"]
    own = own[(own["metric"] == "cider") & own["point_key"].str.startswith("reconstruction")]
    assert any(f"({value:.2g} CIDEr)" in plot.alt for value in own["value"])
    assert "✓ red" in plot.svg
    assert "✓ a red seven" not in plot.svg


def test_no_panel_without_images_or_answers(rich: Assembled, tmp_path: Path) -> None:
    sweep = rich.sweep
    for bare in (
        dataclasses.replace(sweep, directory=None),
        dataclasses.replace(sweep, samples=None),
        dataclasses.replace(sweep, directory=str(tmp_path)),
    ):
        assert panels(dataclasses.replace(rich, sweep=bare)) == []


def test_a_sweep_of_earlier_code_has_no_panels(rich: Assembled) -> None:
    points = {
        key: {**made, "examples": [f"examples/{key}/test-00000.png"]}
        for key, made in rich.sweep.manifest["points"].items()
    }
    old = dataclasses.replace(rich.sweep, manifest={**rich.sweep.manifest, "points": points})
    assert draw_panels(dataclasses.replace(rich, sweep=old)) == []


def test_examples_of_several_images_are_left_out(rich: Assembled) -> None:
    points = {}
    for key, made in rich.sweep.manifest["points"].items():
        first, second = made["examples"]
        several = {**first, "images": [*first["images"], *second["images"]]}
        points[key] = {**made, "examples": [several, second]}
    there = dataclasses.replace(rich.sweep, manifest={**rich.sweep.manifest, "points": points})
    (panel,) = panels(dataclasses.replace(rich, sweep=there))
    assert panel.image == IMAGES[1]
