"""Tasks are found by name, from the project and from other distributions, without torch."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search_spaces import Space, Stage, Stages, evaluation_stage, operating_points
from tests.trainables.distributions import installed
from trainables.datasets.images.convert import write_classes, write_samples_of_stored
from trainables.datasets.images.schemas import IMAGES_SCHEMA
from trainables.datasets.worlds.scenes.world import WORLD as SCENES
from trainables.datasets.worlds.world import Split
from trainables.datasets.worlds.write import write_scene_samples, write_world
from trainables.tasks import TASKS, scene_tasks

PLUGIN = '''
from trainables.tasks import ImageSample, SceneSample, Task, fraction, of_references
import numpy as np


class Counting(Task):
    """How many digits does the scene show?"""

    data_kinds = ("scenes", "folder")
    metrics = (fraction("accuracy"),)
    primary = "accuracy"
    max_new_tokens = 2

    def scene_samples(self, scene, rng):
        count = str(len(scene.spec.objects))
        reference = {"count": count, "luck": int(rng.integers(9))}
        return [SceneSample("<image> count :", count, reference)]

    def image_sample(self, number, names):
        return ImageSample("<image> letters of its class :", {"count": str(len(names[number]))})

    def score(self, answers, references):
        counts = of_references(references, "count")
        right = [a == c for a, c in zip(answers, counts, strict=True)]
        return {"accuracy": np.array(right, np.float64)}


TASK = Counting()
'''
SPACE = {
    "name": "s",
    "codecs": [{"arch": "mbt2018-mean", "lambdas": [0.01], "N": 16, "M": 32}],
    "mllms": ["shipped:llava-scenes"],
}


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[None]:
    """A distribution with the task `counting` and a broken one."""
    directory = tmp_path / "distribution"
    directory.mkdir()
    modules = {"counting_task": PLUGIN, "broken_task": "import no_such_module_at_all\n"}
    entry_points = "[bridgesweep.tasks]\ncounting = counting_task:TASK\nbroken = broken_task:TASK\n"
    with installed(directory, "counters", modules, entry_points):
        yield


def test_importing_every_task_imports_no_torch() -> None:
    code = """
import sys
from trainables.tasks import TASKS
assert len(TASKS.working()) >= 14
assert not TASKS.broken()
print(sorted({"torch", "transformers", "ray", "sklearn"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def problems(**settings: object) -> str:
    with pytest.raises(ValueError, match="validation error") as raised:
        Space.model_validate({**SPACE, **settings})
    return str(raised.value)


def test_an_unknown_task_is_refused_with_the_installed_ones(plugin: None) -> None:
    message = problems(tasks=["vqq"])
    assert "tasks.0" in message
    assert "vqa" in message.partition("(bridgesweep)")[0]
    assert "broken, counting (counters 1.5)" in message.partition("(bridgesweep)")[2]


def test_a_broken_task_fails_only_spaces_that_name_it(plugin: None) -> None:
    assert "no_such_module_at_all" in problems(tasks=["broken"])
    assert Space.model_validate({**SPACE, "tasks": ["vqa", "counting"]}).tasks[1] == "counting"
    listed = problems(tasks=["choice"])
    assert "counting" in listed
    assert "broken" not in listed


def test_a_plugin_task_has_samples_and_an_evaluation_and_changes_no_other_stage(
    plugin: None,
) -> None:
    def keys(*tasks: str) -> dict[str, Stage]:
        space = Space.model_validate({**SPACE, "tasks": tasks})
        stages, (point, *_) = Stages(space), operating_points(space)
        return {m.task: evaluation_stage(stages, point, m) for m in space.measurements}

    plain, more = keys("vqa"), keys("vqa", "counting")
    assert plain["vqa"] == more["vqa"]
    images, samples = (more["counting"].reads[name] for name in ("images", "samples"))
    assert images == plain["vqa"].reads["images"]
    assert isinstance(samples, Stage)
    assert samples.inputs == (images,)
    identity = samples.spec["tasks"]["counting"]
    assert identity.keys() == {"distribution", "version", "content"}
    assert more["counting"].spec["plugin"] == identity


def test_a_plugin_task_adds_samples_and_changes_no_others(plugin: None, tmp_path: Path) -> None:
    sizes = {"size": 64, "seed": 1, "n_train": 3, "n_val": 0, "n_test": 4}
    write_world(tmp_path / "world", scene_tasks(), **sizes)
    splits: tuple[tuple[Split, int], ...] = (("train", 3), ("test", 4))
    for split, count in splits:
        tasks = {"counting": TASKS.get("counting")}
        write_scene_samples(SCENES, tmp_path / "world", tmp_path, split, tasks, seed=1)
        added = pq.read_table(tmp_path / f"tasks_{split}.parquet").to_pylist()
        assert {row["task"] for row in added} == {"counting"}
        ids = [f"{split}-{i:06d}" for i in range(count)]
        assert [row["sample_id"] for row in added] == [f"{i}-counting-0" for i in ids]
        answers = [row["answer"] for row in added]
        assert (
            TASKS.get("counting")
            .score(answers, [r["reference"] for r in added])["accuracy"]
            .tolist()
            == [1.0] * count
        )
        luck = {json.loads(row["reference"])["luck"] for row in added}
        assert len(luck) > 1


def test_a_plugin_task_has_samples_of_labelled_images(plugin: None, tmp_path: Path) -> None:
    images = [
        {"image_id": "a", "png": b"", "width": 1, "height": 1, "classes": [1]},
        {"image_id": "b", "png": b"", "width": 1, "height": 1, "classes": []},
    ]
    (tmp_path / "images_test").mkdir()
    for number, image in enumerate(images):
        part = pa.Table.from_pylist([image], IMAGES_SCHEMA)
        pq.write_table(part, tmp_path / "images_test" / f"part-{number:05d}.parquet")
    write_classes(tmp_path, {"n0": "cat", "n1": "dog"})
    write_samples_of_stored(tmp_path, tmp_path, {"counting": TASKS.get("counting")})
    rows = pq.read_table(tmp_path / "tasks_test.parquet").to_pylist()
    assert [(r["sample_id"], r["prompt"], json.loads(r["reference"])) for r in rows] == [
        ("a-counting", "<image> letters of its class :", {"count": "3"}),
    ]
