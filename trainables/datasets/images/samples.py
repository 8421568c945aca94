"""The contract of tasks with samples of labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ImageSample:
    """A prompt about one image of a known class.

    Attributes:
        prompt: with one `<image>`.
        reference: JSON data that `Task.score` compares answers with.
    """

    prompt: str
    reference: Mapping[str, object]


class ImageTask(Protocol):
    """A task with samples of labelled images."""

    def image_sample(self, number: int, names: Sequence[str]) -> ImageSample:
        """The sample of an image.

        Args:
            number: index of its class.
            names: of all classes.
        """
