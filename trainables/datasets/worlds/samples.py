"""What a task says about scenes: the samples it asks, and the contract of tasks that do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from trainables.datasets.worlds.scenes.scene import DrawnScene


@dataclass(frozen=True)
class SceneSample:
    """A prompt about one scene, with the answer that is right.

    Attributes:
        prompt: with one `<image>`.
        answer: the words that answer it perfectly.
        reference: JSON data that `Task.score` compares answers with.
        position: index into POSITIONS of the object that is asked about; None where the whole scene
            is.
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

    def scene_samples(self, scene: DrawnScene, rng: np.random.Generator) -> list[SceneSample]:
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
    """The tasks that a world of scenes gets samples of, by name.

    Attributes:
        in_turn: draw from one generator per scene, in this order.
        episodes: show several scenes.
    """

    in_turn: Mapping[str, SceneTask]
    episodes: Mapping[str, EpisodeTask] = field(default_factory=dict)
