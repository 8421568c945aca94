"""The four tasks' prompts and references, made from what is known about a scene.

A prompt holds one `<image>` per image; a reference is JSON, and `trainables.tasks` says how it is
scored.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.datasets.scenes.captions import LABELS, LOCATION_BINS, caption, location
from trainables.datasets.scenes.scene import COLOUR_NAMES, DIGITS, POSITIONS, SceneSpec

CAPTION_PROMPT = "<image> describe the scene :"
_COUNTS = ("zero", "one", "two", "three")


@dataclass(frozen=True)
class Question:
    """A prompt, the words that answer it perfectly, and the reference it is scored against.

    `position` indexes POSITIONS: the quadrant to look at, for questions about one object.
    """

    task: str
    prompt: str
    answer: str
    reference: str
    position: int | None = None


def captioning(scene: SceneSpec) -> Question:
    """Describe the scene."""
    text = caption(scene)
    return Question("captioning", CAPTION_PROMPT, text, json.dumps({"caption": text}))


def vqa(scene: SceneSpec, rng: np.random.Generator) -> Question:
    """One question with a one-word answer, of a kind that the scene allows without ambiguity."""
    objects = scene.objects
    by_colour = Counter(o.colour for o in objects)
    by_digit = Counter(o.digit for o in objects)
    target = objects[int(rng.integers(len(objects)))]
    colour, digit = COLOUR_NAMES[target.colour], DIGITS[target.digit]
    position = POSITIONS[target.position]
    choices = [
        (f"which digit is at the {position} ?", digit),
        (f"what colour is the digit at the {position} ?", colour),
    ]
    if by_colour[target.colour] == 1:
        choices += [(f"which digit is {colour} ?", digit)] * 2
    if by_digit[target.digit] == 1:
        choices += [(f"what colour is the {digit} ?", colour)] * 2
    if rng.random() < 0.12:
        choices = [("how many digits ?", _COUNTS[len(objects)])]
    question, answer = choices[int(rng.integers(len(choices)))]
    prompt = f"<image> question : {question} answer :"
    looked_at = None if question.startswith("how many") else target.position
    return Question("vqa", prompt, answer, json.dumps({"answer": answer}), looked_at)


def rec(
    scene: SceneSpec, boxes: Sequence[Sequence[int]], size: int, rng: np.random.Generator
) -> Question:
    """Where is one of the objects? Answered by the four location bins of its tight box."""
    index = int(rng.integers(len(scene.objects)))
    o = scene.objects[index]
    box = [int(v) for v in boxes[index]]
    words = " ".join(location(round(v / size * LOCATION_BINS)) for v in box)
    prompt = f"<image> where is the {COLOUR_NAMES[o.colour]} {DIGITS[o.digit]} ?"
    reference = json.dumps({"box": box, "size": size})
    return Question("rec", prompt, words, reference, o.position)


def fewshot_prompt(labels: Sequence[str]) -> str:
    """Support images with their labels, then the query, with the same words before every label."""
    return " ".join(f"<image> class {label}" for label in labels) + " <image> class"


def fewshot_classes(
    rng: np.random.Generator, ways: int, allowed: Sequence[int] | None = None
) -> list[int]:
    """Draw distinct (colour, digit) classes for an episode.

    Two thirds of the episodes stay within two or three colours, so that colour alone does not
    answer.

    Args:
        allowed: class indices to choose from; None means all.
    """
    pool = list(range(len(COLOUR_NAMES) * len(DIGITS))) if allowed is None else list(allowed)
    n_colours = (2, 3, len(COLOUR_NAMES))[int(rng.integers(3))]
    colours = set(rng.permutation(len(COLOUR_NAMES))[:n_colours].tolist())
    narrow = [c for c in pool if c // len(DIGITS) in colours]
    if len(narrow) < ways:
        narrow = pool
    return [narrow[int(i)] for i in rng.permutation(len(narrow))[:ways]]


def fewshot(rng: np.random.Generator, ways: int = len(LABELS)) -> tuple[list[str], int]:
    """The support's labels in random order, and which support image shares the query's class."""
    labels = [LABELS[int(i)] for i in rng.permutation(len(LABELS))[:ways]]
    return labels, int(rng.integers(ways))
