"""What is said about scenes on a table: captions, and the words that name one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trainables.datasets.worlds.locations import LOCATION_BINS, location
from trainables.datasets.worlds.tabletop.scene import (
    CHARACTERS,
    COLOUR_NAMES,
    PATTERNS,
    SHAPES,
    TableSpec,
    Thing,
)

TEMPLATES: tuple[str, ...] = ("{}", "a photo of {}", "a table with {}", "there is {}")
PLURALS: tuple[str, ...] = ("balls", "boxes", "cones", "cans", "rings", "stars")
"""Of SHAPES."""
ATTRIBUTES: dict[str, Callable[[Thing], str]] = {
    "pattern": lambda thing: PATTERNS[thing.pattern],
    "colour": lambda thing: COLOUR_NAMES[thing.colour],
    "shape": lambda thing: SHAPES[thing.shape],
}
"""Attribute -> its word for a thing; a name has these words in this order."""
COUNTS: tuple[str, ...] = ("zero", "one", "two", "three", "four", "five", "six")
_WORDS = (
    "a and is are has there photo of table with the where what how many thing things colour "
    "pattern shape on card written left right above below yes no question answer ? :"
)


def name_of(thing: Thing) -> str:
    """ "plain red ball": its pattern, colour and shape."""
    return " ".join(attribute(thing) for attribute in ATTRIBUTES.values())


def caption(scene: TableSpec) -> str:
    """ "a plain red ball and a dotted blue can and a card with K 7", from left to right."""
    things = sorted(scene.things, key=lambda thing: thing.x)
    named = [f"a {name_of(thing)}" for thing in things]
    return " and ".join([*named, f"a card with {spelled(scene.card.text)}"])


def spelled(text: str) -> str:
    """The characters of a card, each a word."""
    return " ".join(text)


def short_names(scene: TableSpec, thing: Thing) -> Iterator[str]:
    """Names of two words that this thing alone has: "red ball", "striped ball"."""
    for first in ("colour", "pattern"):
        names = [f"{ATTRIBUTES[first](t)} {ATTRIBUTES['shape'](t)}" for t in scene.things]
        name = names[scene.things.index(thing)]
        if names.count(name) == 1:
            yield name


def vocabulary() -> list[str]:
    """Every word of captions, questions and answers, once, in a fixed order.

    Words are only ever appended: the shipped models know them by number.
    """
    words = [
        *_WORDS.split(),
        *SHAPES,
        *PLURALS,
        *PATTERNS,
        *COLOUR_NAMES,
        *CHARACTERS,
        *COUNTS,
        *(location(b) for b in range(LOCATION_BINS + 1)),
    ]
    return list(dict.fromkeys(words))
