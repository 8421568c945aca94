"""The report's gallery: every image once, every answer as text, within limits."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from analysis.curves.assemble import Assembled, assemble
from analysis.io.read import AnalysisError, Sweep, read_sweep
from analysis.qualitative.examples import read_image
from analysis.report import gallery as module
from analysis.report.build import write_report
from analysis.report.embed import data_uri
from analysis.report.gallery import Picture, gallery
from tests.analysis.pictures import blurred, scene, write
from tests.analysis.rich import IMAGES, WANTED


@pytest.fixture(scope="module")
def rich(rich_dir: Path) -> Assembled:
    return assemble(read_sweep(str(rich_dir)), 2)


@pytest.fixture(scope="module")
def plain(sweep_dir: Path) -> Assembled:
    return assemble(read_sweep(str(sweep_dir)), 2)


def pixels(picture: Picture) -> np.ndarray:
    data = base64.b64decode(picture.uri.partition(",")[2])
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (picture.width, picture.height)
        return np.asarray(image.convert("RGB")).astype(float)


def cards(shown: dict[str, Any]) -> list[dict[str, Any]]:
    return [*shown["bound"], *(card for part in shown["parts"] for card in part["cards"])]


def test_each_distinct_image_is_there_once_and_looks_as_it_did(
    rich: Assembled, plain: Assembled
) -> None:
    for assembled, size, kinds in ((rich, (256, 256), 1), (plain, (160, 96), 4)):
        found = gallery(assembled)
        # Per test image the input, and of simulated points a decoded image for each rate.
        assert len(found.pictures) == 2 * (1 + kinds)
        assert len({one.uri for one in found.pictures}) == len(found.pictures)
        assert {(one.width, one.height) for one in found.pictures} == {size}
        for number, shown in enumerate(found.shown):
            given = np.asarray(scene(number, *size)).astype(float)
            error = pixels(shown["input"]["picture"]) - given
            assert 10 * np.log10(255**2 / np.mean(error**2)) > 35
    blur = np.asarray(blurred(0, 24)).astype(float)
    shown = gallery(rich).shown[0]
    decoded = [c for c in cards(shown) if c["decoded"]]
    assert all(
        10 * np.log10(255**2 / np.mean((pixels(c["picture"]) - blur) ** 2)) > 35 for c in decoded
    )


def test_every_point_of_every_test_image_has_a_card_with_its_answers(rich: Assembled) -> None:
    samples = rich.sweep.samples
    assert samples is not None
    points = rich.sweep.points.drop_duplicates("point_key")
    found = gallery(rich)
    assert found.left == 0
    assert [shown["title"] for shown in found.shown] == list(IMAGES)
    for shown in found.shown:
        assert [q["label"] for q in shown["questions"]] == ["captioning", "vqa", "rec", "fewshot"]
        assert len(cards(shown)) == len(points) == shown["cards"]
        own = samples[samples["sample_id"].str.startswith(shown["title"])]
        own = own[own["metric"] != "cider"]
        rights = sum(row["answer"].right for card in cards(shown) for row in card["answers"])
        assert rights == int((own["value"] > 0).sum())
        for card in cards(shown):
            assert len(card["answers"]) == 4
            (box,) = card["boxes"]
            right = card["answers"][2]["answer"].right
            assert (box == WANTED) is right
            assert card["decoded"] is (card["picture"] is not shown["input"]["picture"])
            assert card["pale"] is (not card["decoded"] and card["name"] != "uncompressed")


def test_parts_are_a_codec_at_a_rate_or_a_codec_of_one_scenario(rich: Assembled) -> None:
    parts = gallery(rich).shown[0]["parts"]
    titles = [part["title"] for part in parts]
    rates = ["0.0005", "0.0015", "0.004", "0.012"]
    assert titles[:4] == [f"elic lambda {rate}" for rate in rates]
    assert titles[4:] == ["avif", "jpeg", "jpeg2000", "tokens", "webp"]
    assert all(len(part["cards"]) == 11 for part in parts[:4])
    for part in parts[4:]:
        bits = [float(card["bpp"]) for card in part["cards"]]
        assert bits == sorted(bits)
        assert len(bits) == 4
        assert part["bpp"] == f"{part['cards'][0]['bpp']} to {part['cards'][3]['bpp']}"


def several_images(sweep: Sweep) -> Sweep:
    points = {}
    for key, made in sweep.manifest["points"].items():
        first, second = made["examples"]
        shots = [{**first["images"][0], "id": f"shot-{i}"} for i in range(3)]
        points[key] = {**made, "examples": [{**second, "images": [*shots, *second["images"]]}]}
    return dataclasses.replace(sweep, manifest={**sweep.manifest, "points": points})


def test_of_several_images_the_query_is_shown_with_the_others_beside_it(plain: Assembled) -> None:
    found = gallery(dataclasses.replace(plain, sweep=several_images(plain.sweep)))
    (shown,) = found.shown
    assert shown["title"] == "test-1"
    assert len(shown["shots"]) == 3
    assert len({shot["picture"].uri for shot in shown["shots"]}) == 1
    error = pixels(shown["input"]["picture"]) - np.asarray(scene(1, 160, 96)).astype(float)
    assert np.abs(error).mean() < 4


def test_of_several_seeds_the_first_is_shown(plain: Assembled) -> None:
    sweep = plain.sweep
    again = sweep.points[sweep.points["scenario"] != "uncompressed"]
    again = again.assign(seed=7, point_key="again-" + again["point_key"])
    said = sweep.manifest["points"]
    points = said | {f"again-{key}": made for key, made in said.items()}
    for order in ((sweep.points, again), (again, sweep.points)):
        both = dataclasses.replace(
            sweep,
            points=pd.concat(order, ignore_index=True),
            manifest={**sweep.manifest, "points": points},
        )
        found = gallery(dataclasses.replace(plain, sweep=both))
        assert [one["cards"] for one in found.shown] == [21, 21]


def test_it_stays_within_its_limits_and_says_what_it_left_out(
    rich: Assembled, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = gallery(rich)
    total = everything.cards
    monkeypatch.setattr(module, "CARDS", 100)
    some = gallery(rich)
    assert (some.cards, some.left) == (100, total - 100)
    bits = [float(card["bpp"]) for card in cards(some.shown[1])]
    assert max(bits) < max(float(card["bpp"]) for card in cards(everything.shown[1]))
    monkeypatch.setattr(module, "BYTES", len(everything.pictures[0].uri) + 10)
    few = gallery(rich)
    assert len(few.pictures) == 1
    assert few.left == total - few.cards > 0
    monkeypatch.setattr(module, "GROUPS", 0)
    assert gallery(rich).left == total


def test_many_images_are_shown_smaller(plain: Assembled, tmp_path: Path) -> None:
    """Photographs of 512 pixels, a decoded image of its own for every point: all have room."""
    photo = Image.fromarray(load_sample_images().images[0][:427, :427]).resize((512, 512))
    points = {}
    for number, (key, made) in enumerate(plain.sweep.manifest["points"].items()):
        shown = []
        for one in made["examples"]:
            image_of_part = {"input": photo, "decoded": photo.rotate(number + 1)}
            paths = {part: write(tmp_path, image) for part, image in image_of_part.items()}
            shown.append({**one, "images": [{**one["images"][0], **paths}]})
        points[key] = {**made, "examples": shown}
    sweep = dataclasses.replace(
        plain.sweep,
        directory=str(tmp_path),
        manifest={**plain.sweep.manifest, "points": points},
    )
    for limits, size in ((((36, 256), (60, 192)), 256), (((20, 256), (60, 192)), 192), ((), 128)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "LONGEST", limits)
            found = gallery(dataclasses.replace(plain, sweep=sweep))
        assert {(one.width, one.height) for one in found.pictures} == {(size, size)}
        assert found.left == 0
        assert sum(len(one.uri) for one in found.pictures) < module.BYTES


def test_small_images_are_kept_as_they_are_and_others_as_webp() -> None:
    flat = Image.new("RGB", (300, 40), (9, 8, 7))
    assert data_uri(flat).startswith("data:image/png;base64,")
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    assert data_uri(Image.fromarray(noise)).startswith("data:image/webp;base64,")


def test_without_examples_or_of_earlier_code_there_is_none(
    plain: Assembled, tmp_path: Path
) -> None:
    said = plain.sweep.manifest["points"]
    old = {key: {**made, "examples": [f"examples/{key}/0.png"]} for key, made in said.items()}
    for bare in (
        dataclasses.replace(plain.sweep, directory=None),
        dataclasses.replace(plain.sweep, directory=str(tmp_path)),
        dataclasses.replace(plain.sweep, manifest={}),
        dataclasses.replace(plain.sweep, manifest={**plain.sweep.manifest, "points": old}),
    ):
        found = gallery(dataclasses.replace(plain, sweep=bare))
        assert found.shown == found.pictures == []
        text = Path(write_report(bare, str(tmp_path / "out")).html).read_text(encoding="utf-8")
        assert 'id="examples"' not in text


def test_the_page_holds_each_image_once_and_escapes_what_was_said(
    sweep_dir: Path, tmp_path: Path
) -> None:
    sweep = read_sweep(str(sweep_dir))
    assert sweep.samples is not None
    said = sweep.samples.assign(answer="<b>bold</b>")
    text = Path(
        write_report(dataclasses.replace(sweep, samples=said), str(tmp_path)).html
    ).read_text(encoding="utf-8")
    inside = text[text.index('<svg class="store"') :].partition("</defs>")[0]
    uris = re.findall(r'href="(data:image/[^"]+)"', inside)
    assert len(uris) == len(set(uris)) == 2 * (1 + 4)
    used = re.findall(r'<use href="#(i\d+)"', text)
    assert set(used) == set(re.findall(r'<image id="(i\d+)"', inside))
    assert len(used) > len(uris)
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "<b>bold</b>" not in text


def test_every_picture_has_words(sweep_dir: Path, tmp_path: Path) -> None:
    text = Path(write_report(str(sweep_dir), str(tmp_path)).html).read_text(encoding="utf-8")
    pictures = re.findall(r'<svg class="pixels"[^>]*>', text)
    assert len(pictures) > 30
    assert all(re.search(r'role="img" aria-label="[^"]{10,}"', one) for one in pictures)
    assert 'aria-label="Decoded image of d2 at 0.62 bpp"' in text


@pytest.mark.parametrize(
    "path", ["../secret.png", "/secret.png", "file:///secret.png", "a/../../x"]
)
def test_a_sweep_shows_no_files_from_elsewhere(plain: Assembled, path: str) -> None:
    with pytest.raises(AnalysisError, match="not below it"):
        read_image(plain.sweep, path)


def test_only_png_is_opened(plain: Assembled, tmp_path: Path) -> None:
    sweep = dataclasses.replace(plain.sweep, directory=str(tmp_path))
    for form, shown in (("EPS", False), ("JPEG", False), ("PNG", True)):
        Image.new("RGB", (4, 4)).save(tmp_path / "one.png", form)
        assert (read_image(sweep, "one.png") is not None) is shown


@pytest.mark.parametrize("case", ["no prompt", "no reference", "no words"])
def test_samples_without_words_have_cards_without_answers(
    case: str, rich_dir: Path, tmp_path: Path
) -> None:
    samples = pd.read_parquet(rich_dir / "samples.parquet")
    changed = {
        "no prompt": samples.drop(columns="prompt"),
        "no reference": samples.drop(columns="reference"),
        "no words": samples.assign(prompt=None, reference=None, answer=None),
    }[case]
    directory = shutil.copytree(rich_dir, tmp_path / "sweep")
    changed.to_parquet(directory / "samples.parquet")
    shown = gallery(assemble(read_sweep(str(directory)), 2)).shown
    assert shown
    questions = [question for image in shown for question in image["questions"]]
    words = {(question["prompt"], question["wanted"]) for question in questions}
    assert words <= {("", "(nothing)")}
    assert bool(questions) == (case == "no words")
