"""What is in a scene of handwritten digits on a photograph; imports no torch.

generator --sampling.py--> SceneSpec --drawing.py--> pixels
"""

from __future__ import annotations

from dataclasses import dataclass

DIGITS: tuple[str, ...] = ("zero", "one", "two", "three", "four", "five", "six", "seven")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 25, 25),
    "green": (30, 180, 40),
    "blue": (35, 70, 240),
    "yellow": (250, 220, 20),
    "pink": (255, 95, 205),
    "white": (250, 250, 250),
}
COLOUR_NAMES: tuple[str, ...] = tuple(COLOURS)
POSITIONS: tuple[str, ...] = ("top left", "top right", "bottom left", "bottom right")


@dataclass(frozen=True)
class ObjectSpec:
    """One digit: `digit`, `colour` and `position` index DIGITS, COLOUR_NAMES and POSITIONS;
    `sample` is a row of `load_digits`; `glyph_side` and the shift are pixels of a 128 px scene;
    `rotation` is radians."""

    digit: int
    colour: int
    position: int
    sample: int
    glyph_side: float
    shift: tuple[float, float]
    rotation: float = 0.0
    shear: float = 0.0
    stretch: float = 1.0
    threshold: float = 0.2

    @property
    def class_index(self) -> int:
        """Index of the (colour, digit) class in `class_names()`."""
        return self.colour * len(DIGITS) + self.digit


@dataclass(frozen=True)
class SceneSpec:
    """All that a scene is made of. `crop` = (photo, left, top, side) in pixels of the
    photograph."""

    objects: tuple[ObjectSpec, ...]
    crop: tuple[int, int, int, int]
    flip: bool


def class_names() -> list[str]:
    """Names of the (colour, digit) classes, colour-major: "a red zero", "a red one", ..."""
    return [f"a {colour} {digit}" for colour in COLOUR_NAMES for digit in DIGITS]
