"""The world of tables: what is drawn is what is said, and each question has one answer."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from search_spaces import load_space
from search_spaces.facts.tasks import tasks_of_data
from search_spaces.specs.data import MADE_KINDS, DataSpec
from trainables.datasets.arrays import decode_image
from trainables.datasets.made import WORLDS, world_of
from trainables.datasets.worlds.tabletop.drawing import NOTHING, render, render_with_map
from trainables.datasets.worlds.tabletop.language import caption, name_of, vocabulary
from trainables.datasets.worlds.tabletop.sampling import card_size, sample_table
from trainables.datasets.worlds.tabletop.scene import (
    COLOUR_NAMES,
    COLOURS,
    LEVELS,
    PATTERNS,
    SHAPES,
    SIDE,
    Card,
    TableSpec,
    Thing,
    class_names,
)
from trainables.datasets.worlds.tabletop.shapes import marks, outlines
from trainables.datasets.worlds.world import DrawnScene, scene_rng
from trainables.datasets.worlds.write import write_world
from trainables.recipes.common import UNK_ID, build_tokenizer
from trainables.recipes.tabletop.teacher_losses import targets
from trainables.tasks import TASKS, scene_tasks

SIZES: dict[str, Any] = {"size": 128, "seed": 5, "n_train": 40, "n_val": 8, "n_test": 60}
TASK_NAMES = ("attributes", "counts", "relations", "reading", "locating")
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tabletop")
    write_world(directory, scene_tasks("tabletop"), **SIZES)
    return directory


def rows_of(world: Path, file: str) -> Rows:
    return [dict(row) for row in pq.read_table(world / file).to_pylist()]


def samples_of(world: Path, task: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each sample of a task with what the image's own row says of its things and card."""
    samples = []
    for split in ("train", "test"):
        objects = {
            row["image_id"]: json.loads(row["objects"])
            for row in rows_of(world, f"images_{split}.parquet")
        }
        rows = [row for row in rows_of(world, f"tasks_{split}.parquet") if row["task"] == task]
        samples += [(row, objects[row["image_ids"][0]]) for row in rows]
    assert len(samples) >= 90
    return samples


def table(*things: Thing, level: int = 0) -> TableSpec:
    return TableSpec(
        *(level, things, Card("0X", 100.0, 12.0, 12.0, 0.0)),
        surface=1,
        tint=(0.2, 0.2, 0.2),
        light=0.0,
        grain=3,
    )


def thing(shape: str, pattern: str = "plain", colour: str = "red", **more: Any) -> Thing:
    numbers = SHAPES.index(shape), PATTERNS.index(pattern), COLOUR_NAMES.index(colour)
    place: dict[str, Any] = {"x": 64.0, "y": 64.0, "radius": 16.0, "rotation": 0.0}
    return Thing(*numbers, **{**place, "phase": (0.0, 0.0), **more})


def local(points: int = 400) -> tuple[torch.Tensor, torch.Tensor, float]:
    """u, v (1, points, points) over a square of side 2.6, and the area of a point."""
    at = (torch.arange(points) + 0.5) / points * 2.6 - 1.3
    v, u = torch.meshgrid(at, at, indexing="ij")
    return u[None], v[None], (2.6 / points) ** 2


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("ball", math.pi),
        ("ring", math.pi * (0.99**2 - 0.45**2)),
        ("box", 4 * 0.85**2 - (4 - math.pi) * 0.08**2),
        ("can", 4 * 0.58 * 0.98 - (4 - math.pi) * 0.16**2),
        ("cone", 0.9 * 1.9),
        ("star", 5 * 0.46 * math.sin(math.pi / 5)),  # ten triangles between tips and notches
    ],
)
def test_outlines_enclose_the_areas_of_their_shapes(shape: str, area: float) -> None:
    u, v, point = local()
    inside = outlines(torch.tensor([SHAPES.index(shape)]), u, v) < 0
    assert inside.sum().item() * point == pytest.approx(area, rel=0.01)


@pytest.mark.parametrize(
    ("pattern", "share"),
    [("plain", 0.0), ("striped", 0.5), ("checked", 0.5), ("dotted", math.pi * 0.31**2)],
)
def test_patterns_have_their_share_of_the_second_colour(pattern: str, share: float) -> None:
    number = torch.tensor([PATTERNS.index(pattern)])
    u, v, _ = local()
    cycles = 1.25  # in the radius of a thing of 9 pixels; the square becomes five whole periods
    u, v = (2.5 * axis / (1.3 * cycles) for axis in (u, v))
    values = marks(number, torch.zeros(1, 2), u, v, torch.tensor([9.0]))
    assert values.mean().item() == pytest.approx(share, abs=0.02)
    assert values.min() >= 0
    assert values.max() <= 1


def test_a_thing_is_where_it_is_said_and_has_its_colour() -> None:
    for colour in COLOUR_NAMES:
        images, boxes, seen = render_with_map([table(thing("box", colour=colour, radius=15.0))])
        half = 0.85 * 15
        assert boxes[0][0] == pytest.approx([64 - half, 64 - half, 64 + half, 64 + half], abs=1)
        middle = images[0, :, 60:68, 60:68].mean((1, 2))
        palette = torch.tensor(COLOURS[colour]) / 255.0
        ratio = middle / palette
        assert ratio.max() / ratio.min() < 1.05  # a lit surface keeps its hue
        assert (seen[0, 60:68, 60:68] == 0).all()


def test_the_thing_in_front_hides_the_one_behind() -> None:
    behind, front = thing("ball", y=60.0), thing("box", colour="blue", y=72.0)
    _, boxes, seen = render_with_map([table(behind, front)])
    _, alone, seen_alone = render_with_map([table(behind)])
    hidden = (seen_alone[0] == 0) & (seen[0] != 0)
    assert (seen[0][hidden] == 1).all()
    assert boxes[0][0][3] < alone[0][0][3]
    assert hidden.sum() > 200


def test_what_is_read_off_the_map_is_what_the_boxes_say() -> None:
    scenes = [sample_table(scene_rng(1, "test", i)) for i in range(24)]
    images, boxes, seen = render_with_map(scenes, size=96)
    assert images.shape == (24, 3, 96, 96)
    assert 0 <= images.min() < images.max() <= 1
    for scene, found, ids in zip(scenes, boxes, seen, strict=True):
        assert set(ids.unique().tolist()) == {NOTHING, *range(len(scene.things) + 1)}
        for number, (x0, y0, x1, y1) in enumerate(found):
            rows, columns = torch.nonzero(ids == number, as_tuple=True)
            assert [x0, y0] == [columns.min(), rows.min()]
            assert [x1, y1] == [columns.max() + 1, rows.max() + 1]


def test_the_same_seed_gives_the_same_scenes_and_another_one_others() -> None:
    one, again = (sample_table(scene_rng(3, "train", 7)) for _ in range(2))
    other, in_test = sample_table(scene_rng(4, "train", 7)), sample_table(scene_rng(3, "test", 7))
    assert one == again
    assert len({one, other, in_test}) == 3
    torch.testing.assert_close(render([one])[0], render([again])[0], rtol=0, atol=0)
    # A scene's pixels do not depend on what is drawn with it.
    torch.testing.assert_close(render([other, one])[0][1:], render([one])[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", range(len(LEVELS)))
def test_each_level_has_its_things_and_nothing_covers_the_card(level: int) -> None:
    kind = LEVELS[level]
    scenes = [sample_table(scene_rng(0, "train", i), [level]) for i in range(150)]
    counts = Counter(len(scene.things) for scene in scenes)
    assert set(counts) == set(range(kind.things[0], kind.things[1] + 1))
    nearest = []
    for scene in scenes:
        assert len({name_of(t) for t in scene.things}) == len(scene.things)
        assert all(t.radius < t.x < SIDE - t.radius for t in scene.things)
        for i, a in enumerate(scene.things):
            for b in scene.things[:i]:
                nearest.append(math.hypot(a.x - b.x, a.y - b.y) / (a.radius + b.radius))
    assert min(nearest) >= 1 - kind.overlap
    if kind.overlap:
        assert min(nearest) < 1 - 0.6 * kind.overlap
    _, _, seen = render_with_map(scenes[:40])
    for scene, ids in zip(scenes[:40], seen, strict=True):
        width, height = card_size(scene.card.text, scene.card.height)
        area = (ids == len(scene.things)).sum().item()
        assert area == pytest.approx(width * height, rel=0.12)
        # Something is seen of each thing: half of a star's area is less than a tenth of its box.
        for number, t in enumerate(scene.things):
            assert (ids == number).sum().item() >= 0.08 * (2 * t.radius) ** 2


def test_levels_are_drawn_alike_and_recorded(world: Path) -> None:
    levels = Counter(sample_table(scene_rng(0, "train", i)).level for i in range(2000))
    assert set(levels) == set(range(len(LEVELS)))
    assert all(abs(count - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75) for count in levels.values())
    for row in rows_of(world, "images_test.parquet"):
        *things, card = json.loads(row["objects"])
        (level,) = {thing["level"] for thing in (*things, card)}
        least, most = LEVELS[level].things
        assert least <= len(things) <= most


def test_a_space_may_take_some_levels_alone() -> None:
    space = load_space("smoke", ["data={kind: tabletop, levels: [1, 3]}", "tasks=[counts]"])
    scenes = [world_of(space.data).sample(scene_rng(0, "test", i), "test") for i in range(60)]
    assert {scene.level for scene in scenes} == {1, 3}
    assert DataSpec(kind="tabletop", levels=(1, 3)).scenes() != DataSpec(kind="tabletop").scenes()
    assert "levels" not in DataSpec().scenes()
    assert DataSpec.model_fields["levels"].default == tuple(range(len(LEVELS)))
    for data, message in (
        ({"kind": "tabletop", "levels": [1, 1]}, r"levels \[1, 1\]: each may stand once"),
        ({"kind": "tabletop", "levels": [4]}, "less than or equal to 3"),
        ({"kind": "scenes", "levels": [1]}, "levels is no setting of kind 'scenes'"),
    ):
        with pytest.raises(ValidationError, match=message):
            DataSpec.model_validate(data)


def test_a_world_is_written_with_its_images_classes_and_captions(world: Path) -> None:
    classes = json.loads((world / "classes.json").read_text())
    names = classes["names"]
    assert len(set(names)) == len(names) == 144
    assert names == class_names()
    for row in rows_of(world, "images_test.parquet"):
        *things, card = json.loads(row["objects"])
        assert [names[number] for number in row["classes"]] == [f"a {t['name']}" for t in things]
        *said, on_card = row["caption"].split(" and ")
        assert on_card == f"a card with {' '.join(card['text'])}"
        assert sorted(said) == sorted(f"a {t['name']}" for t in things)
        assert decode_image(row["png"]).shape[:2] == (128, 128)


def test_attributes_have_one_answer(world: Path) -> None:
    for row, (*things, _) in samples_of(world, "attributes"):
        words = row["prompt"].split()
        wanted = words[words.index("what") + 1]
        noun = words[words.index("the") + 1 : words.index("?")]
        known = set(noun) - {"thing"}
        fitting = [t["name"].split() for t in things if known <= set(t["name"].split())]
        assert len(fitting) == 1
        place = ("pattern", "colour", "shape").index(wanted)
        assert row["answer"] == fitting[0][place]


def test_counts_are_those_of_the_things(world: Path) -> None:
    numbers = ("zero", "one", "two", "three", "four", "five", "six")
    answers = Counter()
    for row, (*things, _) in samples_of(world, "counts"):
        words = row["prompt"].split()
        asked = words[words.index("many") + 1]
        singular = {"boxes": "box"}.get(asked, asked.removesuffix("s"))
        names = [t["name"].split() for t in things]
        count = (
            len(things)
            if asked == "things"
            else sum(asked in name or singular in name for name in names)
        )
        assert row["answer"] == numbers[count]
        answers[row["answer"]] += 1
    assert "zero" in answers


def test_relations_are_those_of_the_things_where_nothing_is_hidden() -> None:
    """The centres of what is seen say the same."""
    task, rng, answers = TASKS.get("relations"), np.random.default_rng(0), Counter[str]()
    scenes = [sample_table(scene_rng(2, "val", i), [0]) for i in range(200)]
    _, boxes = render(scenes)
    drawn = scene_tasks("tabletop").world
    for scene, found in zip(scenes, boxes, strict=True):
        shown = DrawnScene(scene, found, SIDE)
        objects = [o for o in drawn.objects(shown) if "text" not in o]
        for sample in task.scene_samples(shown, rng):
            asked = sample.prompt.split(" the ", 1)[1].removesuffix(" ? answer :")
            (one, word), two = _two_things(asked)
            (first,), (other,) = ([o for o in objects if _fits(o, name)] for name in (one, two))
            axis = 0 if word in ("left of", "right of") else 1
            middle = [(o["box"][axis] + o["box"][axis + 2]) / 2 for o in (first, other)]
            is_smaller = middle[0] < middle[1]
            assert sample.answer == (
                "yes" if is_smaller == (word in ("left of", "above")) else "no"
            )
            answers[sample.answer] += 1
    assert sum(answers.values()) > 200
    assert abs(answers["yes"] - answers["no"]) < 4 * math.sqrt(sum(answers.values()))


def _two_things(text: str) -> tuple[tuple[str, str], str]:
    for word in ("left of", "right of", "above", "below"):
        one, found, two = text.partition(f" {word} the ")
        if found:
            return (one, word), two
    raise AssertionError(text)


def _fits(found: Any, name: str) -> bool:
    return set(name.split()) <= set(found["name"].split())


def test_the_card_is_read_letter_by_letter(world: Path) -> None:
    task = TASKS.get("reading")
    for row, objects in samples_of(world, "reading"):
        assert row["answer"] == " ".join(objects[-1]["text"])
        right = task.score([row["answer"]], [row["reference"]])
        assert right["exact_match"] == right["edit_similarity"] == [1.0]
    reference = json.dumps({"texts": ["A4K"]})
    near = task.score(["A 7 K"], [reference])
    assert near["exact_match"] == [0.0]
    assert near["edit_similarity"] == pytest.approx([2 / 3])


def test_another_text_is_another_picture_and_nothing_else() -> None:
    scene = sample_table(scene_rng(0, "test", 0), [3])
    other = replace(scene, card=replace(scene.card, text="7H2"[: len(scene.card.text)]))
    assert scene.card.text != other.card.text
    images, boxes = render([scene, other])
    x0, y0, x1, y1 = boxes[0][-1]
    differs = (images[0] - images[1]).abs().amax(0) > 0.1
    assert differs.sum() > 5
    differs[y0 - 1 : y1 + 1, x0 - 1 : x1 + 1] = False
    assert not differs.any()


def test_boxes_are_answered_in_words_that_the_metric_reads(world: Path) -> None:
    task = TASKS.get("locating")
    samples = samples_of(world, "locating")
    answers, references = ([row[name] for row, _ in samples] for name in ("answer", "reference"))
    # A box of few pixels loses more to the rounding of its corners.
    assert np.mean(task.score(answers, references)["accuracy@0.5"]) == 1.0
    for row, (*things, _) in samples:
        name = row["prompt"].removeprefix("<image> where is the ").removesuffix(" ?")
        (found,) = (t for t in things if _fits(t, name))
        assert json.loads(row["reference"])["box"] == found["box"]


def test_all_that_is_said_is_in_the_vocabulary(world: Path) -> None:
    words = vocabulary()
    assert len(set(words)) == len(words)
    tokenizer = build_tokenizer(words, end=True)
    texts = [row["caption"] for row in rows_of(world, "images_train.parquet")]
    for split in ("train", "val", "test"):
        for row in rows_of(world, f"tasks_{split}.parquet"):
            texts += [row["prompt"].removeprefix("<image> "), row["answer"]]
    texts += json.loads((world / "classes.json").read_text())["names"]
    ids = tokenizer(texts)["input_ids"]
    assert not any(UNK_ID in row for row in ids)
    longest = max(len(row) for row in ids)
    assert longest <= 40  # positions of the teacher's text tower


def test_the_teacher_s_targets_are_what_its_patches_show() -> None:
    left, right = thing("ball", "dotted", "green", x=24.0, y=40.0), thing("can", x=104.0, y=72.0)
    scene = table(left, right)
    _, boxes, seen = render_with_map([scene])
    truth = targets([scene], boxes, seen)
    at_left, at_right, nowhere = (2 * 8 + 1), (4 * 8 + 6), (7 * 8 + 3)
    assert truth.is_shown[0, [at_left, at_right]].all()
    assert not truth.is_shown[0, nowhere]
    shapes, patterns, colours = truth.kinds
    assert [shapes[0, at_left], shapes[0, at_right]] == [SHAPES.index("ball"), SHAPES.index("can")]
    assert patterns[0, at_left] == PATTERNS.index("dotted")
    assert colours[0, at_left] == COLOUR_NAMES.index("green")
    assert (128 * truth.box[0, at_left]).tolist() == pytest.approx(boxes[0][0])
    assert truth.text[0].tolist() == [0, 19, 20]
    card = truth.on_card[0].view(8, 8)
    rows, columns = torch.nonzero(card, as_tuple=True)
    assert (16 * rows).max() <= 20
    assert (16 * columns).min() >= 64


def test_the_made_worlds_are_those_of_the_settings_and_their_tasks_those_of_the_data() -> None:
    assert tuple(WORLDS) == MADE_KINDS
    for kind in MADE_KINDS:
        tasks = scene_tasks(kind)
        assert sorted([*tasks.in_turn, *tasks.episodes]) == sorted(tasks_of_data(kind))


def test_a_space_may_name_it_and_its_tasks() -> None:
    assert sorted(tasks_of_data("tabletop")) == sorted(TASK_NAMES)
    space = load_space("smoke", ["data={kind: tabletop}", f"tasks=[{', '.join(TASK_NAMES)}]"])
    assert space.data.is_made
    assert space.data.label == "tabletop"


def test_captions_name_things_from_left_to_right() -> None:
    for i in range(100):
        scene = sample_table(scene_rng(0, "train", i))
        *said, _ = caption(scene).split(" and ")
        places = {f"a {name_of(thing)}": thing.x for thing in scene.things}
        assert [places[name] for name in said] == sorted(places.values())
