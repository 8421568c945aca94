"""Qualitative panels: the right points, and just the pixels that the sweep stored."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.curves import Assembled, assemble
from analysis.panels import DECODED_AT, INPUT_AT, NOTHING, PAGE_WIDTH, SIDE, draw_panels, panels
from analysis.points import read_sweep
from tests.analysis.rich import IMAGES, QUESTIONS, scene


@pytest.fixture(scope="module")
def rich(rich_dir: Path) -> Assembled:
    return assemble(read_sweep(str(rich_dir)), 50)


def test_pages_are_laid_out_as_the_evaluation_draws_them() -> None:
    from trainables.evaluation.examples import Shown, draw_example

    rng = np.random.default_rng(0)
    image, other = rng.integers(0, 255, (2, 128, 128, 3), dtype=np.uint8)
    asked = [("vqa", "<image> What?", '{"answer": "red"}', "red", True)]
    for decoded in (other, None):
        page = draw_example("d2", Shown("x", [image], [decoded], 0.2, None, asked))
        assert page.width == PAGE_WIDTH
        pixels = np.asarray(page)

        def cut(at: tuple[int, int], pixels: np.ndarray = pixels) -> np.ndarray:
            return pixels[at[1] : at[1] + SIDE, at[0] : at[0] + SIDE]

        np.testing.assert_array_equal(cut(INPUT_AT), image.repeat(2, 0).repeat(2, 1))
        if decoded is not None:
            np.testing.assert_array_equal(cut(DECODED_AT), other.repeat(2, 0).repeat(2, 1))
        else:
            assert (cut(DECODED_AT)[4:40, 4:40] == NOTHING).all()


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


def test_pixels_questions_and_answers_are_those_of_the_sweep(rich: Assembled) -> None:
    samples = rich.sweep.samples
    assert samples is not None
    for number, panel in enumerate(panels(rich)):
        np.testing.assert_array_equal(panel.pixels, np.asarray(scene(number)))
        asked = {task: (prompt, wanted) for task, prompt, wanted in panel.questions.values()}
        assert asked["vqa"] == ("What colour is the digit on the left?", QUESTIONS["vqa"][1])
        decoded = {one.scenario: one.decoded is not None for one in panel.shown}
        assert decoded["reconstruction"]
        assert not decoded["d1"]
        assert not decoded["uncompressed"]
        for one in panel.shown:
            for sample, (answer, right) in one.answers.items():
                row = samples[(samples["point_key"] == one.key) & (samples["sample_id"] == sample)]
                row = row[row["metric"] != "cider"].iloc[0]
                assert (answer, right) == (row["answer"], row["value"] > 0)


def test_the_figure_says_it_in_words_too(rich: Assembled) -> None:
    plot = draw_panels(rich, n=1)[0]
    assert "✓ red" in plot.svg
    assert "d3 at 0." in plot.alt
    assert "(right)" in plot.alt
    assert plot.svg.count("<image") == 1 + sum(
        one.decoded is not None for one in panels(rich)[0].shown
    )


def test_no_panel_without_pages_or_answers(rich: Assembled, tmp_path: Path) -> None:
    sweep = rich.sweep
    for bare in (
        dataclasses.replace(sweep, directory=None),
        dataclasses.replace(sweep, samples=None),
        dataclasses.replace(sweep, directory=str(tmp_path)),
    ):
        assert panels(dataclasses.replace(rich, sweep=bare)) == []


def test_pages_of_several_images_are_left_out(rich: Assembled, tmp_path: Path) -> None:
    said = rich.sweep.manifest["points"]
    for made in said.values():
        for path in made["examples"]:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (900, 300)).save(tmp_path / path)
    there = dataclasses.replace(rich.sweep, directory=str(tmp_path))
    assert panels(dataclasses.replace(rich, sweep=there)) == []
