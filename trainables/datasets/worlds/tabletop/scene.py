"""What is in a scene of things on a table; imports no torch.

generator --sampling.py--> TableSpec --drawing.py--> pixels, boxes of what is seen
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SHAPES: Final = ("ball", "box", "cone", "can", "ring", "star")
PATTERNS: Final = ("plain", "striped", "dotted", "checked")
COLOURS: Final = {
    "red": (205, 35, 40),
    "orange": (240, 140, 25),
    "green": (40, 145, 60),
    "blue": (40, 80, 200),
    "purple": (130, 50, 160),
    "white": (235, 235, 230),
}
COLOUR_NAMES: Final = tuple(COLOURS)
SURFACES: Final = ("wood", "stone", "cloth", "tiles")
CHARACTERS: Final = tuple("0123456789ACEHKLPTUX")
"""What may stand on a card: no two are told apart by a stroke of one pixel alone."""
SIDE: Final = 128
"""Pixels of the side of the scenes in which all lengths are given."""
RADII: Final = (9.0, 13.0, 18.0)
"""Half the side of a small, a medium and a large thing."""


@dataclass(frozen=True)
class Level:
    """How difficult a scene is.

    Attributes:
        things: the least and the largest number of things.
        sizes: which of `RADII` occur.
        overlap: the share of two radii's sum by which things may be closer than side by side.
        text: height of the card's characters in pixels.
        contrast: of the table's texture.
        noise: standard deviation of the pixels' noise, of 1.
    """

    things: tuple[int, int]
    sizes: tuple[int, ...]
    overlap: float
    text: float
    contrast: float
    noise: float


LEVELS: Final = (
    Level((2, 3), (1, 2), 0.0, 15.0, 0.06, 0.0),
    Level((3, 4), (0, 1, 2), 0.1, 12.0, 0.10, 0.005),
    Level((4, 5), (0, 1, 2), 0.3, 10.0, 0.14, 0.01),
    Level((5, 6), (0, 1, 2), 0.45, 8.0, 0.18, 0.02),
)


@dataclass(frozen=True)
class Thing:
    """One thing: `shape`, `pattern` and `colour` index SHAPES, PATTERNS and COLOUR_NAMES.

    Attributes:
        x, y: its centre in pixels of a scene of `SIDE`.
        radius: half its side in the same pixels.
        rotation: radians, clockwise.
        phase: of its pattern, two numbers in [0, 1).
    """

    shape: int
    pattern: int
    colour: int
    x: float
    y: float
    radius: float
    rotation: float
    phase: tuple[float, float]

    @property
    def class_index(self) -> int:
        """Index of the (pattern, colour, shape) class in `class_names()`."""
        return (self.pattern * len(COLOUR_NAMES) + self.colour) * len(SHAPES) + self.shape


@dataclass(frozen=True)
class Card:
    """A card with a text of characters; x, y, height in pixels, rotation in radians,
    anticlockwise."""

    text: str
    x: float
    y: float
    height: float
    rotation: float


@dataclass(frozen=True)
class TableSpec:
    """All that a scene is made of.

    Attributes:
        level: index into LEVELS.
        things: from the back to the front.
        card: it overlaps no thing.
        surface: index into SURFACES.
        tint: the table's mean colour, of 1.
        light: where the light comes from, in radians clockwise from the right.
        grain: seed of the table's texture and of the noise.
    """

    level: int
    things: tuple[Thing, ...]
    card: Card
    surface: int
    tint: tuple[float, float, float]
    light: float
    grain: int


def class_names() -> list[str]:
    """Names of the (pattern, colour, shape) classes: "a plain red ball", "a plain red box", ..."""
    return [
        f"a {pattern} {colour} {shape}"
        for pattern in PATTERNS
        for colour in COLOUR_NAMES
        for shape in SHAPES
    ]
