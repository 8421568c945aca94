"""Drawing at random what a scene is made of.

Both sources come bundled with scikit-learn (`load_digits`, `load_sample_images`). The splits are
disjoint in the digits' samples (contiguous blocks of the data set, whose order follows the writers)
and in the regions of the photographs (vertical bands). The split does not depend on the seed,
because the shipped models were trained on `train`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_sample_images

from trainables.datasets.worlds.scenes.scene import COLOUR_NAMES, DIGITS, ObjectSpec, SceneSpec
from trainables.datasets.worlds.world import Split

_DIGIT_ROWS: dict[Split, tuple[int, int]] = {
    "train": (0, 1200),
    "val": (1200, 1400),
    "test": (1400, 1797),
}
_PHOTO_COLUMNS: dict[Split, tuple[int, int]] = {
    "train": (0, 352),
    "test": (352, 496),
    "val": (496, 640),
}
_CROP_SIDE = (96, 144)  # pixels of the photograph, both ends included
_GLYPH_SIDE = (53.0, 60.0)
"""Pixels of a 128 px scene; the ink fills most of the height and two thirds of the width."""


@cache
def photographs() -> tuple[NDArray[np.uint8], ...]:
    """The bundled photographs, each (427, 640, 3)."""
    return tuple(load_sample_images().images)


@cache
def _samples(split: Split) -> tuple[tuple[int, ...], ...]:
    """For each digit class the rows of `load_digits` that belong to the split."""
    low, high = _DIGIT_ROWS[split]
    targets = load_digits().target
    return tuple(
        tuple(row for row in range(low, high) if targets[row] == digit)
        for digit in range(len(DIGITS))
    )


def sample_scene(
    rng: np.random.Generator,
    split: Split,
    *,
    n_objects: int | None = None,
    objects: Sequence[tuple[int, int]] | None = None,
    augment: bool = False,
) -> SceneSpec:
    """Draw a scene.

    Args:
        rng: source of all randomness.
        split: where glyphs and background come from.
        n_objects: 1 to 4; None draws 1, 2 or 3 with probabilities 0.25, 0.4, 0.35.
        objects: the (colour, digit) of each object, instead of random ones.
        augment: slight affine changes and stroke widths, for training.
    """
    pairs = _colours_and_digits(rng, n_objects) if objects is None else list(objects)
    positions = sorted(int(p) for p in rng.permutation(4)[: len(pairs)])
    specs = [
        _object(rng, split, pair, position, augment)
        for pair, position in zip(pairs, positions, strict=True)
    ]
    photo = int(rng.integers(len(photographs())))
    side = int(rng.integers(_CROP_SIDE[0], _CROP_SIDE[1] + 1))
    left_end, right_end = _PHOTO_COLUMNS[split]
    left = int(rng.integers(left_end, right_end - side + 1))
    top = int(rng.integers(0, photographs()[photo].shape[0] - side + 1))
    return SceneSpec(tuple(specs), (photo, left, top, side), bool(rng.random() < 0.5))


def _colours_and_digits(rng: np.random.Generator, n_objects: int | None) -> list[tuple[int, int]]:
    """The distinct (colour, digit) pairs of a scene."""
    count = (
        n_objects
        if n_objects is not None
        else 1 + int(np.searchsorted([0.25, 0.65], rng.random(), "right"))
    )
    pairs: list[tuple[int, int]] = []
    while len(pairs) < count:
        colour, digit = int(rng.integers(len(COLOUR_NAMES))), int(rng.integers(len(DIGITS)))
        # Objects that share a colour, or a digit, make both words of "the red three" necessary.
        if pairs and rng.random() < 0.4:
            if rng.random() < 0.5:
                colour = pairs[0][0]
            else:
                digit = pairs[0][1]
        if (colour, digit) not in pairs:
            pairs.append((colour, digit))
    return pairs


def _object(
    rng: np.random.Generator, split: Split, pair: tuple[int, int], position: int, augment: bool
) -> ObjectSpec:
    """One digit with its handwriting, size and place in the quadrant."""
    colour, digit = pair
    rows = _samples(split)[digit]
    side = float(rng.uniform(*_GLYPH_SIDE))
    room = (64.0 - side) / 2
    shift = (float(rng.uniform(-room - 2, room + 2)), float(rng.uniform(-room, room)))
    sample = rows[int(rng.integers(len(rows)))]
    if not augment:
        return ObjectSpec(digit, colour, position, sample, side, shift)
    return ObjectSpec(
        *(digit, colour, position, sample, side, shift),
        rotation=float(rng.normal(0, 0.09)),
        shear=float(rng.normal(0, 0.09)),
        stretch=float(np.exp(rng.normal(0, 0.07))),
        threshold=float(rng.uniform(0.12, 0.3)),
    )
