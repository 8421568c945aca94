"""The tasks: how a sample is asked, which answer is right, and in which unit that is measured.

| task              | the answer is                       | of                               |
|-------------------|-------------------------------------|----------------------------------|
| captioning        | a sentence of the demo's grammar    | scenes                           |
| vqa, fewshot      | one word                            | scenes                           |
| rec               | a box, in the demo's words          | scenes                           |
| classification    | the encoder's best classes          | images with classes              |
| captions          | a sentence                          | COCO and others, Karpathy splits |
| choice            | a letter                            | SEED-Bench                       |
| choice_circular   | a letter, per rotation of a choice  | MMBench                          |
| choice_likelihood | log-likelihoods, the highest counts | SEED-Bench, MMBench              |
| yes_no            | yes or no                           | POPE                             |
| open_vqa          | a few words                         | VQAv2                            |
| grounding         | a box, as the MLLM writes it        | RefCOCO, RefCOCO+, RefCOCOg      |
| fewshot_names     | the name of a class                 | mini-ImageNet                    |
| text_reading      | the text in the image               | images with text                 |

Each is a file NAME.py with an object `TASK`, or an entry point of another distribution in the group
`bridgesweep.tasks`. Importing a task imports no torch.
"""

from __future__ import annotations

from typing import Final

from search_spaces.plugins.registry import Registry
from trainables.datasets.images.samples import ImageSample
from trainables.datasets.worlds.samples import EpisodeTask, SceneSample, SceneTasks
from trainables.datasets.worlds.scenes.scene import DrawnScene
from trainables.tasks.common.task import Metric, Scores, Task, fraction, of_references, words

TASKS: Final = Registry(
    "bridgesweep.tasks",
    "trainables.tasks",
    "TASK",
    Task,  # type: ignore[type-abstract]
)
_SCENE_TASKS: Final = ("captioning", "vqa", "rec")
"""The project's tasks on single scenes; they draw from one generator in this order."""

__all__ = [
    "TASKS",
    "DrawnScene",
    "ImageSample",
    "Metric",
    "SceneSample",
    "Scores",
    "Task",
    "fraction",
    "image_tasks",
    "of_references",
    "scene_tasks",
    "words",
]


def image_tasks() -> dict[str, Task]:
    """The project's tasks on labelled images."""
    return {"classification": TASKS.get("classification")}


def scene_tasks() -> SceneTasks:
    """The project's tasks on scenes."""
    fewshot = TASKS.get("fewshot")
    assert isinstance(fewshot, EpisodeTask)
    return SceneTasks(
        in_turn={name: TASKS.get(name) for name in _SCENE_TASKS},
        episodes={"fewshot": fewshot},
    )
