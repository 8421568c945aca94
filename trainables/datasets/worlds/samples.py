"""What a task asks of a made world: its samples, and the contract of tasks that do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from trainables.datasets.worlds.world import DrawnScene, World

LABELS: Final[tuple[str, ...]] = ("A", "B", "C", "D", "E")
"""Of the classes of a few-shot episode."""


@dataclass(frozen=True)
class SceneSample:
    """A prompt about one scene, with the answer that is right.

    Attributes:
        prompt: with one `<image>`.
        answer: the words that answer it perfectly.
        reference: JSON data that `Task.score` compares answers with.
        position: which object is asked about, or where it is, as the world numbers objects or
            places; None where the whole scene is asked about.
    """

    prompt: str
    answer: str
    reference: Mapping[str, object]
    position: int | None = None


@dataclass(frozen=True)
class EpisodeSample:
    """A prompt about several images.

    Attributes:
        image_ids: the images, in the order of the prompt's `<image>`.
        prompt, answer, reference: as in `SceneSample`.
    """

    image_ids: tuple[str, ...]
    prompt: str
    answer: str
    reference: Mapping[str, object]


class SceneTask(Protocol):
    """A task with samples of single scenes."""

    def scene_samples(self, scene: DrawnScene[Any], rng: np.random.Generator) -> list[SceneSample]:
        """The samples of one scene; `rng` is the source of all randomness."""


@runtime_checkable
class EpisodeTask(Protocol):
    """A task with samples that show several single-digit scenes."""

    def episode(
        self, images_of_class: Mapping[int, Sequence[str]], rng: np.random.Generator
    ) -> EpisodeSample:
        """One episode.

        Args:
            images_of_class: class index -> ids of the images with one digit of that class.
            rng: the source of all randomness.
        """


@dataclass(frozen=True)
class SceneTasks:
    """The tasks that a made world gets samples of, by name.

    Attributes:
        world: of the scenes.
        in_turn: draw from one generator per scene, in this order.
        episodes: show several scenes.
    """

    world: World[Any]
    in_turn: Mapping[str, SceneTask]
    episodes: Mapping[str, EpisodeTask] = field(default_factory=dict)
