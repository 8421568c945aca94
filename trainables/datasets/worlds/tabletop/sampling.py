"""Drawing at random what a scene on a table is made of.

Splits differ in their generators alone. Textures do not recur; looks of things, and the texts of
cards, which are few, do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from trainables.datasets.worlds.tabletop.scene import (
    CHARACTERS,
    COLOUR_NAMES,
    LEVELS,
    PATTERNS,
    RADII,
    SHAPES,
    SIDE,
    SURFACES,
    Card,
    Level,
    TableSpec,
    Thing,
)

_TRIES: Final = 200
"""For a place of one thing; then the scene is begun anew."""
_SHARED: Final = 0.5
"""How often a thing has an attribute of an earlier one, so that one word does not name it."""
_TURNS: Final = (0.0, 0.35, 0.2, 0.25, 0.0, math.pi)
"""The largest rotation of each of SHAPES, in radians."""
CARD_ASPECT: Final = 0.82
"""Width of a character over the height of the text."""
CARD_ROOM: Final = 0.55
"""Edge of the card around its text, over the height of the text."""


def sample_table(
    rng: np.random.Generator, levels: Sequence[int] = tuple(range(len(LEVELS)))
) -> TableSpec:
    """Draw a scene.

    Args:
        rng: source of all randomness.
        levels: indices into LEVELS, of which one is drawn.
    """
    number = levels[int(rng.integers(len(levels)))] if len(levels) > 1 else levels[0]
    kind = LEVELS[number]
    card, places = _places(rng, kind)
    looks = _looks(rng, len(places))
    things = [
        Thing(
            *(shape, pattern, colour, x, y, radius),
            rotation=float(rng.uniform(-1, 1)) * _TURNS[shape],
            phase=(float(rng.random()), float(rng.random())),
        )
        for (shape, pattern, colour), (x, y, radius) in zip(looks, places, strict=True)
    ]
    things.sort(key=lambda thing: thing.y + thing.radius)
    brightness = float(rng.uniform(0.35, 0.75))
    tint = brightness * (1 + rng.uniform(-0.25, 0.25, 3))
    return TableSpec(
        *(number, tuple(things), card),
        surface=int(rng.integers(len(SURFACES))),
        tint=(float(tint[0]), float(tint[1]), float(tint[2])),
        light=float(rng.uniform(0, 2 * math.pi)),
        grain=int(rng.integers(2**31)),
    )


def _looks(rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    """The distinct shapes, patterns and colours of a scene's things."""
    looks: list[tuple[int, int, int]] = []
    while len(looks) < count:
        look = [int(rng.integers(len(n))) for n in (SHAPES, PATTERNS, COLOUR_NAMES)]
        if looks and rng.random() < _SHARED:
            kept = int(rng.integers(3))
            look[kept] = looks[int(rng.integers(len(looks)))][kept]
        if (found := (look[0], look[1], look[2])) not in looks:
            looks.append(found)
    return looks


def _places(rng: np.random.Generator, kind: Level) -> tuple[Card, list[tuple[float, float, float]]]:
    """A card, and x, y and radius of each thing."""
    count = int(rng.integers(kind.things[0], kind.things[1] + 1))
    radii = [
        RADII[kind.sizes[int(rng.integers(len(kind.sizes)))]] * float(rng.uniform(0.92, 1.08))
        for _ in range(count)
    ]
    while True:
        card = _card(rng, kind)
        places: list[tuple[float, float, float]] = []
        for radius in radii:
            place = _place(rng, radius, card, places, kind.overlap)
            if place is None:
                break
            places.append(place)
        if len(places) == count:
            return card, places


def _card(rng: np.random.Generator, kind: Level) -> Card:
    text = "".join(rng.choice(CHARACTERS, int(rng.integers(2, 4))))
    half = card_size(text, kind.text)[0] / 2 + 2
    x, y = (float(rng.uniform(half, SIDE - half)) for _ in range(2))
    return Card(text, x, y, kind.text, float(rng.uniform(-0.12, 0.12)))


def card_size(text: str, height: float) -> tuple[float, float]:
    """Width and height of a card in pixels."""
    return height * (CARD_ASPECT * len(text) + CARD_ROOM), height * (1 + CARD_ROOM)


def _place(
    rng: np.random.Generator,
    radius: float,
    card: Card,
    places: Sequence[tuple[float, float, float]],
    overlap: float,
) -> tuple[float, float, float] | None:
    """A place for a thing of a radius; None where none is found."""
    width, height = card_size(card.text, card.height)
    for _ in range(_TRIES):
        x, y = (float(rng.uniform(radius + 1, SIDE - radius - 1)) for _ in range(2))
        gap = math.hypot(
            max(0.0, abs(x - card.x) - width / 2), max(0.0, abs(y - card.y) - height / 2)
        )
        # A rotated card reaches a little further.
        if gap < radius + 3:
            continue
        if all(
            math.hypot(x - other_x, y - other_y) >= (radius + other) * (1 - overlap)
            for other_x, other_y, other in places
        ):
            return x, y, radius
    return None
