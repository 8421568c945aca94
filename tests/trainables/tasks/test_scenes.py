"""The demo's world: reproducible, unambiguous, disjoint splits, honest boxes."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from trainables.datasets.worlds.locations import LOCATION_BINS
from trainables.datasets.worlds.scenes.captions import caption, vocabulary
from trainables.datasets.worlds.scenes.drawing import render, render_with_ink
from trainables.datasets.worlds.scenes.sampling import sample_scene
from trainables.datasets.worlds.scenes.scene import (
    COLOUR_NAMES,
    COLOURS,
    DIGITS,
    POSITIONS,
    class_names,
)
from trainables.datasets.worlds.world import SPLITS, DrawnScene, scene_rng
from trainables.datasets.worlds.write import write_world
from trainables.recipes.common import UNK_ID, build_tokenizer
from trainables.tasks import captioning, rec, scene_tasks, vqa

SIZES = {
    "seed": 3,
    "n_train": 20,
    "n_val": 12,
    "n_test": 30,
    "n_episodes": 24,
    "n_val_episodes": 24,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("world")
    write_world(directory, scene_tasks(), **SIZES)
    return directory


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_same_arguments_write_the_same_world_and_another_seed_another(
    world: Path, tmp_path: Path
) -> None:
    write_world(tmp_path / "again", scene_tasks(), **SIZES)
    write_world(tmp_path / "other", scene_tasks(), **{**SIZES, "seed": 4})
    for name in ("images_train", "images_test", "tasks_val", "tasks_test"):
        path = f"{name}.parquet"
        assert _rows(world / path) == _rows(tmp_path / "again" / path)
        assert _rows(world / path) != _rows(tmp_path / "other" / path)


def test_a_scene_does_not_depend_on_how_many_others_are_written(
    world: Path, tmp_path: Path
) -> None:
    write_world(tmp_path, scene_tasks(), **{**SIZES, "n_test": 5})
    fewer = {row["image_id"]: row for row in _rows(tmp_path / "images_test.parquet")}
    more = {row["image_id"]: row for row in _rows(world / "images_test.parquet")}
    for i in range(5):
        assert fewer[f"test-{i:06d}"] == more[f"test-{i:06d}"]


def test_splits_share_no_handwriting_and_no_part_of_a_photograph() -> None:
    samples: dict[str, set[int]] = {}
    columns: dict[str, set[int]] = {}
    targets = load_digits().target
    for split in SPLITS:
        scenes = [sample_scene(scene_rng(0, split, i), split) for i in range(400)]
        samples[split] = {o.sample for scene in scenes for o in scene.objects}
        columns[split] = {
            x for _, left, _, side in (s.crop for s in scenes) for x in range(left, left + side)
        }
        assert all(targets[o.sample] == o.digit for scene in scenes for o in scene.objects)
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not samples[a] & samples[b]
        assert not columns[a] & columns[b]


def test_a_scene_has_one_to_three_distinct_digits_in_reading_order() -> None:
    counts = set()
    for i in range(300):
        objects = sample_scene(scene_rng(1, "train", i), "train").objects
        counts.add(len(objects))
        assert len({(o.colour, o.digit) for o in objects}) == len(objects)
        positions = [o.position for o in objects]
        assert positions == sorted(set(positions))
    assert counts == {1, 2, 3}


@pytest.mark.parametrize("size", [96, 128])
def test_boxes_are_tight_around_the_ink_and_stay_in_their_quadrant(size: int) -> None:
    scenes = [sample_scene(scene_rng(2, "test", i), "test") for i in range(20)]
    _, boxes, ink = render_with_ink(scenes, size)
    half = size // 2
    for scene, page, scene_boxes in zip(scenes, ink[:, 0] > 0.5, boxes, strict=True):
        for o, (x0, y0, x1, y1) in zip(scene.objects, scene_boxes, strict=True):
            left, top = o.position % 2 * half, o.position // 2 * half
            quadrant = torch.zeros_like(page)
            quadrant[top : top + half, left : left + half] = True
            ys, xs = torch.nonzero(page & quadrant, as_tuple=True)
            expected = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
            assert [x0, y0, x1, y1] == expected


def test_ink_has_its_colour_and_the_rest_is_the_photograph() -> None:
    scenes = [sample_scene(scene_rng(5, "test", i), "test", n_objects=1) for i in range(10)]
    images, _, ink = render_with_ink(scenes)
    for scene, image, page in zip(scenes, images, ink[:, 0], strict=True):
        (o,) = scene.objects
        colour = torch.tensor(COLOURS[COLOUR_NAMES[o.colour]]) / 255.0
        painted = image[:, page == 1.0]
        assert painted.shape[1] > 100
        torch.testing.assert_close(painted, colour[:, None].expand_as(painted))
        left, top = o.position % 2 * 64, o.position // 2 * 64
        outside = torch.ones(128, 128, dtype=torch.bool)
        outside[top : top + 64, left : left + 64] = False
        bare = sample_scene(scene_rng(5, "test", 0), "test", n_objects=1)
        bare = type(bare)((), scene.crop, scene.flip)
        background, _ = render([bare, scenes[0]])
        torch.testing.assert_close(image[:, outside], background[0][:, outside])


def test_images_file_describes_what_it_shows(world: Path) -> None:
    classes = json.loads((world / "classes.json").read_text())
    assert classes["names"] == class_names()
    assert all(t.count("{}") == 1 for t in classes["templates"])
    rows = _rows(world / "images_test.parquet")
    ids = [row["image_id"] for row in rows]
    assert len(set(ids)) == len(ids)
    for i, row in enumerate(rows[: SIZES["n_test"]]):
        scene = sample_scene(scene_rng(SIZES["seed"], "test", i), "test")
        assert row["caption"] == caption(scene)
        objects = json.loads(row["objects"])
        names = [classes["names"][c] for c in row["classes"]]
        assert names == [f"a {o['colour']} {o['digit']}" for o in objects]
        assert row["caption"] == " and ".join(
            f"{name} at the {o['position']}" for name, o in zip(names, objects, strict=True)
        )
        with Image.open(io.BytesIO(row["png"])) as image:
            assert image.format == "PNG"
            pixels = np.asarray(image)
        assert pixels.shape == (row["height"], row["width"], 3) == (128, 128, 3)
        drawn, boxes = render([scene])
        assert [o["box"] for o in objects] == boxes[0]
        assert np.abs(pixels / 255.0 - drawn[0].permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6


def test_tasks_refer_to_images_of_their_split_and_answers_are_true(world: Path) -> None:
    for split in ("val", "test"):
        images = {row["image_id"]: row for row in _rows(world / f"images_{split}.parquet")}
        tasks = _rows(world / f"tasks_{split}.parquet")
        assert len({row["sample_id"] for row in tasks}) == len(tasks)
        by_task = {
            name: [row for row in tasks if row["task"] == name]
            for name in ("captioning", "vqa", "rec", "fewshot")
        }
        n = SIZES[f"n_{split}"]
        assert len(by_task["captioning"]) == len(by_task["rec"]) == n
        assert n <= len(by_task["vqa"]) <= 2 * n
        assert len(by_task["fewshot"]) == SIZES["n_episodes"]
        for row in tasks:
            assert row["prompt"].count("<image>") == len(row["image_ids"])
            assert set(row["image_ids"]) <= set(images)
        for row in by_task["captioning"]:
            truth = images[row["image_ids"][0]]["caption"]
            assert json.loads(row["reference"])["caption"] == truth
        for row in by_task["rec"]:
            objects = json.loads(images[row["image_ids"][0]]["objects"])
            meant = [o for o in objects if f"the {o['colour']} {o['digit']} ?" in row["prompt"]]
            assert [o["box"] for o in meant] == [json.loads(row["reference"])["box"]]
        for row in by_task["vqa"]:
            objects = json.loads(images[row["image_ids"][0]]["objects"])
            assert json.loads(row["reference"])["answer"] == _answer(row["prompt"], objects)


def _answer(prompt: str, objects: list[dict[str, Any]]) -> str:
    """The only right answer, found from the words of the question and the list of objects."""
    words = prompt.removeprefix("<image> question : ").removesuffix(" ? answer :")
    if words == "how many digits":
        return ("zero", "one", "two", "three")[len(objects)]
    asked = "digit" if words.startswith("which digit") else "colour"
    key = words.split(" is ", 1)[1]
    position = next((p for p in POSITIONS if key.endswith(p)), None)
    if position is not None:
        found = {o[asked] for o in objects if o["position"] == position}
    else:
        word = key.removeprefix("the ")
        assert word in (*COLOUR_NAMES, *DIGITS)
        matching = [o for o in objects if word in (o["colour"], o["digit"])]
        assert len(matching) == 1, "an ambiguous question"
        found = {o[asked] for o in matching}
    assert len(found) == 1
    return str(found.pop())


def test_every_kind_of_question_occurs_and_no_answer_dominates() -> None:
    answers: dict[str, int] = {}
    kinds = set()
    for i in range(600):
        scene = sample_scene(scene_rng(0, "train", i), "train")
        question = vqa.question(scene, scene_rng(0, "train", i, 4))
        answers[question.answer] = answers.get(question.answer, 0) + 1
        kinds.add(" ".join(question.prompt.split()[3:5]))
    assert kinds == {"which digit", "what colour", "how many"}
    assert max(answers.values()) < 0.2 * 600


def test_fewshot_shows_five_classes_and_asks_for_one_of_them_in_another_image(world: Path) -> None:
    images = {row["image_id"]: row for row in _rows(world / "images_test.parquet")}
    asked_at = set()
    for row in _rows(world / "tasks_test.parquet"):
        if row["task"] != "fewshot":
            continue
        *supports, query = row["image_ids"]
        classes = [images[i]["classes"] for i in supports]
        assert len(supports) == 5 == len({c[0] for c in classes})
        assert all(len(c) == 1 for c in classes)
        assert query not in supports
        labels = [word for word in row["prompt"].split() if len(word) == 1]
        assert sorted(labels) == list("ABCDE")
        index = classes.index(images[query]["classes"])
        assert labels[index] == json.loads(row["reference"])["label"]
        asked_at.add(index)
    assert len(asked_at) > 1


def test_the_tokenizer_knows_every_word() -> None:
    tokenizer = build_tokenizer(vocabulary(), end=False)
    for i in range(200):
        scene = sample_scene(scene_rng(0, "train", i), "train")
        _, boxes = render([scene])
        rng = scene_rng(0, "train", i, 4)
        drawn = DrawnScene(scene, boxes[0], 128)
        for q in (
            *captioning.TASK.scene_samples(drawn, rng),
            *vqa.TASK.scene_samples(drawn, rng),
            *rec.TASK.scene_samples(drawn, rng),
        ):
            ids = tokenizer(f"{q.prompt} {q.answer}")["input_ids"]
            assert UNK_ID not in ids
            assert tokenizer.decode(ids[1:]) == f"{q.prompt} {q.answer}"


def test_location_words_keep_a_box_to_half_a_bin() -> None:
    scene = sample_scene(scene_rng(0, "val", 0), "val", n_objects=1)
    _, boxes = render([scene])
    drawn = DrawnScene(scene, boxes[0], 128)
    (sample,) = rec.TASK.scene_samples(drawn, scene_rng(0, "val", 0, 4))
    words = sample.answer.split()
    read = [int(w.removeprefix("loc")) * 128 / LOCATION_BINS for w in words]
    assert np.abs(np.array(read) - boxes[0][0]).max() <= 128 / LOCATION_BINS / 2


def test_bad_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size: 33"):
        write_world(
            tmp_path, scene_tasks(), size=33, seed=0, n_train=1, n_val=1, n_test=1, n_episodes=1
        )
    with pytest.raises(ValueError, match="-1"):
        write_world(
            tmp_path,
            scene_tasks(),
            seed=0,
            n_train=-1,
            n_val=1,
            n_test=1,
            n_episodes=1,
        )
