"""The tasks: how a sample is asked, which answer is right, and in which unit that is measured.

| task              | the answer is                       | of                               |
|-------------------|-------------------------------------|----------------------------------|
| captioning        | a sentence of the demo's grammar    | scenes                           |
| vqa, fewshot      | one word                            | scenes                           |
| rec               | a box, in the demo's words          | scenes                           |
| attributes        | a colour, a pattern or a shape      | tabletop                         |
| counts            | a number                            | tabletop                         |
| relations         | yes or no                           | tabletop                         |
| reading           | the characters on a card            | tabletop                         |
| locating          | a box, in the demo's words          | tabletop                         |
| classification    | the encoder's best classes          | images with classes              |
| captions          | a sentence                          | COCO and others, Karpathy splits |
| choice            | a letter                            | SEED-Bench                       |
| choice_circular   | a letter, per rotation of a choice  | MMBench                          |
| choice_likelihood | log-likelihoods, the highest counts | SEED-Bench, MMBench              |
| yes_no            | yes or no                           | POPE                             |
| open_vqa          | a few words                         | VQAv2                            |
| grounding         | a box, as the MLLM writes it        | RefCOCO, RefCOCO+, RefCOCOg      |
| fewshot_names     | the name of a class                 | mini-ImageNet                    |
| agreement         | as the MLLM's about the original    | images of one's own              |
| text_reading      | the text in the image               | images with text                 |

Each is a file NAME.py with an object `TASK`, or an entry point of another distribution in the group
`bridgesweep.tasks`. Importing a task imports no torch.
"""

from __future__ import annotations

from typing import Any, Final

from search_spaces.plugins.registry import Registry
from trainables.datasets.images.samples import ImageSample
from trainables.datasets.worlds.samples import EpisodeTask, SceneSample, SceneTasks
from trainables.datasets.worlds.world import DrawnScene, World
from trainables.tasks.common.task import Metric, Scores, Task, fraction, of_references, words

TASKS: Final = Registry(
    "bridgesweep.tasks",
    "trainables.tasks",
    "TASK",
    Task,  # type: ignore[type-abstract]
)
_IN_TURN: Final = {
    "scenes": ("captioning", "vqa", "rec"),
    "tabletop": ("attributes", "counts", "relations", "reading", "locating"),
}
"""The project's tasks on single scenes of each made world; they draw from one generator in this
order."""
_EPISODES: Final = {"scenes": ("fewshot",)}

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


def scene_tasks(kind: str = "scenes", world: World[Any] | None = None) -> SceneTasks:
    """The project's tasks on a made world.

    Args:
        kind: of the space's data.
        world: with settings of its own; None for the one of that kind.
    """
    from trainables.datasets.made import WORLDS  # scikit-learn takes a second

    episodes: dict[str, EpisodeTask] = {}
    for name in _EPISODES.get(kind, ()):
        task = TASKS.get(name)
        assert isinstance(task, EpisodeTask)
        episodes[name] = task
    in_turn = {name: TASKS.get(name) for name in _IN_TURN[kind]}
    return SceneTasks(world or WORLDS[kind], in_turn, episodes)
