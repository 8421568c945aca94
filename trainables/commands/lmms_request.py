"""A request of lmms-eval: its prompt, images, answer length and stop words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.mllms.prompts import PLACEHOLDER

NAME = "bridgesweep"
MAX_NEW_TOKENS = 128
"""The length of answers where a task sets none, in tokens."""


class LmmsError(ValueError):
    """Input that is missing or cannot be evaluated; the message has a line per mistake."""


class LmmsRequest:
    """A request of lmms-eval for a generated answer.

    Args:
        tasks: lmms-eval's samples by task and split.
        args: of the request: context, generation arguments, image function, sample number, task,
            split.

    Attributes:
        number: of the sample.
        task: its name.
    """

    def __init__(self, tasks: Mapping[str, Any], args: tuple[Any, ...]) -> None:
        self._context, self._generation, self._visual, self.number, self.task, split = args
        self._doc = tasks[self.task][split][self.number]

    def images(self) -> list[Any]:
        """The images of the sample (Pillow).

        Raises:
            LmmsError: the task gives something else, such as a video.
        """
        images = list(self._visual(self._doc) or [])
        for image in images:
            if not hasattr(image, "convert"):
                raise LmmsError(f"{self.task}: {type(image).__name__} is no image")
        return images

    def prompt(self, images: int) -> str:
        """The prompt with a placeholder per image, in front unless the task has placed them."""
        if PLACEHOLDER in self._context or not images:
            return str(self._context)
        return " ".join([PLACEHOLDER] * images) + f"\n{self._context}"

    def max_new_tokens(self, beams: int) -> int:
        """The longest answer in tokens.

        Raises:
            LmmsError: the task samples answers, or searches with another number of beams.
        """
        if self._generation.get("do_sample") or float(self._generation.get("temperature") or 0) > 0:
            raise LmmsError(f"{self.task} samples its answers; {NAME} does not")
        if int(self._generation.get("num_beams") or 1) not in (1, beams):
            raise LmmsError(
                f"{self.task} wants {self._generation['num_beams']} beams; the sweep's "
                f"evaluation.beams is {beams}"
            )
        return int(self._generation.get("max_new_tokens") or MAX_NEW_TOKENS)

    def cut(self, text: str) -> str:
        """The answer up to the first of the task's stop words."""
        until = self._generation.get("until") or []
        for stop in [until] if isinstance(until, str) else until:
            text = text.split(stop)[0] if stop else text
        return text
