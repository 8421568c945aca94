"""Is a thing on the table left of, right of, above or below another one?"""

from __future__ import annotations

import numpy as np

from trainables.datasets.worlds.samples import SceneSample
from trainables.datasets.worlds.tabletop.language import short_names
from trainables.datasets.worlds.tabletop.scene import TableSpec, Thing
from trainables.datasets.worlds.world import DrawnScene
from trainables.tasks.common.one_name import OneName

_APART = 10.0
"""Pixels of a scene of 128 by which the centres differ at least along the axis that is asked."""
_WORDS = (("left of", "right of"), ("above", "below"))
"""Of an axis: where a thing is whose coordinate is the smaller one, and the larger one."""


class Relations(OneName):
    """Where two things are to each other; half of the right answers are yes."""

    data_kinds = ("tabletop",)
    has_training_answers = True
    chance = 0.5

    def scene_samples(
        self, scene: DrawnScene[TableSpec], rng: np.random.Generator
    ) -> list[SceneSample]:
        """A question about each axis, where two things are far enough apart."""
        samples = []
        for axis, words in enumerate(_WORDS):
            pairs = _pairs(scene.spec, axis)
            if not pairs:
                continue
            first, other, number = pairs[int(rng.integers(len(pairs)))]
            is_asked_right = bool(rng.random() < 0.5)
            is_smaller = _place(scene.spec.things[number], axis) < _place(other, axis)
            word = words[is_smaller != is_asked_right]
            names = (list(short_names(scene.spec, thing)) for thing in (first, other))
            one, two = (found[int(rng.integers(len(found)))] for found in names)
            answer = "yes" if is_asked_right else "no"
            samples.append(
                SceneSample(
                    f"<image> question : is the {one} {word} the {two} ? answer :",
                    answer,
                    {"answer": answer},
                    number,
                )
            )
        return samples


def _pairs(scene: TableSpec, axis: int) -> list[tuple[Thing, Thing, int]]:
    """Things that a short name tells apart and that lie apart, with the first one's number."""
    named = [(i, thing) for i, thing in enumerate(scene.things) if any(short_names(scene, thing))]
    return [
        (thing, other, i)
        for i, thing in named
        for j, other in named
        if i != j and abs(_place(thing, axis) - _place(other, axis)) >= _APART
    ]


def _place(thing: Thing, axis: int) -> float:
    return (thing.x, thing.y)[axis]


TASK = Relations()
