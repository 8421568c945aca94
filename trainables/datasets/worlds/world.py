"""The contract of a made world: scenes drawn at random, their images, and what is said of them.

(seed, split, index) --scene_rng--> generator --sample--> scene --render--> pixels, boxes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

if TYPE_CHECKING:  # tasks and plans import no torch
    from torch import Tensor

Split = Literal["train", "val", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "val", "test")
Scene = TypeVar("Scene")
Boxes = list[list[list[int]]]
"""Of each scene those of its objects: [x0, y0, x1, y1] in pixels, x1 and y1 exclusive."""


@dataclass(frozen=True)
class DrawnScene(Generic[Scene]):
    """A scene with what drawing it adds.

    Attributes:
        spec: what is in it, as its world describes it.
        boxes: the objects' tight boxes [x0, y0, x1, y1] in pixels, x1 and y1 exclusive.
        size: side of the image in pixels.
    """

    spec: Scene
    boxes: Sequence[Sequence[int]]
    size: int


class World(Protocol[Scene]):
    """A made world. The same generator gives the same scene, and that the same image."""

    def class_names(self) -> Sequence[str]:
        """The names of what the training images are classified by, "a red three" and so on."""

    def templates(self) -> Sequence[str]:
        """The sentences around a class's name, each with one `{}`."""

    def sample(self, rng: np.random.Generator, split: Split) -> Scene:
        """Draw a scene; those of `train` may vary more."""

    def render(self, scenes: Sequence[Scene], size: int) -> tuple[Tensor, Boxes]:
        """Images (B, 3, size, size), float32 in [0, 1], and boxes."""

    def classes(self, scene: Scene) -> list[int]:
        """Indices into the class names of what is in a scene."""

    def caption(self, scene: Scene) -> str:
        """A sentence about the whole scene."""

    def objects(self, drawn: DrawnScene[Scene]) -> list[Mapping[str, Any]]:
        """What is in a scene, as JSON data, each with its `box`."""


@runtime_checkable
class SingleWorld(Protocol):
    """A world that can show one class alone, as few-shot episodes need it."""

    def single(self, rng: np.random.Generator, split: Split, number: int) -> Any:
        """A scene with one object of a class, by the class's index."""


def scene_rng(seed: int, split: Split, index: int, stream: int = 0) -> np.random.Generator:
    """The generator of everything random about one scene; `stream` separates unrelated uses of the
    same index."""
    return np.random.default_rng(np.random.SeedSequence((seed, SPLITS.index(split), stream, index)))
