"""Scenes of real handwritten digits on real photographs: what is in them, and how they are drawn.

    (seed, split, index) --SeedSequence--> SceneSpec --render--> (3, S, S) in [0, 1] + tight boxes

Both sources come bundled with scikit-learn (`load_digits`, `load_sample_images`). The splits are
disjoint in the digits' samples (contiguous blocks of the data set, whose order follows the writers)
and in the regions of the photographs (vertical bands). The split does not depend on the seed,
because the shipped models were trained on `train`.

Shapes: `B` scenes, `S` side of a scene in pixels, `Q = S / 2` side of a quadrant, `N` glyphs in all
    `B` scenes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor

Split = Literal["train", "val", "test"]

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

SPLITS: tuple[Split, ...] = ("train", "val", "test")
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
_GLYPH_SIDE = (
    53.0,
    60.0,
)  # pixels of a 128 px scene; the ink fills most of the height and two thirds of the width


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


@cache
def _digit_images() -> Tensor:
    """(1797, 1, 8, 8) ink in [0, 1]."""
    return torch.from_numpy(load_digits().images.astype(np.float32) / 16.0).unsqueeze(1)


@cache
def _photos() -> tuple[Tensor, ...]:
    """Each (3, 427, 640) in [0, 1]."""
    return tuple(
        torch.from_numpy(photo.astype(np.float32) / 255.0).permute(2, 0, 1).contiguous()
        for photo in load_sample_images().images
    )


@cache
def _samples(split: Split) -> tuple[tuple[int, ...], ...]:
    """For each digit class the rows of `load_digits` that belong to the split."""
    low, high = _DIGIT_ROWS[split]
    targets = load_digits().target
    return tuple(
        tuple(row for row in range(low, high) if targets[row] == digit)
        for digit in range(len(DIGITS))
    )


def scene_rng(seed: int, split: Split, index: int, stream: int = 0) -> np.random.Generator:
    """The generator of everything random about one scene; `stream` separates unrelated uses of the
    same index."""
    return np.random.default_rng(np.random.SeedSequence((seed, SPLITS.index(split), stream, index)))


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
    if objects is None:
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
    else:
        pairs = list(objects)
    positions = sorted(int(p) for p in rng.permutation(4)[: len(pairs)])
    specs = []
    for (colour, digit), position in zip(pairs, positions, strict=True):
        rows = _samples(split)[digit]
        side = float(rng.uniform(*_GLYPH_SIDE))
        room = (64.0 - side) / 2
        shift = (float(rng.uniform(-room - 2, room + 2)), float(rng.uniform(-room, room)))
        sample = rows[int(rng.integers(len(rows)))]
        if augment:
            rotation, shear = float(rng.normal(0, 0.09)), float(rng.normal(0, 0.09))
            stretch, threshold = float(np.exp(rng.normal(0, 0.07))), float(rng.uniform(0.12, 0.3))
            specs.append(
                ObjectSpec(
                    digit,
                    colour,
                    position,
                    sample,
                    side,
                    shift,
                    rotation,
                    shear,
                    stretch,
                    threshold,
                )
            )
        else:
            specs.append(ObjectSpec(digit, colour, position, sample, side, shift))
    photo = int(rng.integers(len(_photos())))
    side_px = int(rng.integers(_CROP_SIDE[0], _CROP_SIDE[1] + 1))
    left_end, right_end = _PHOTO_COLUMNS[split]
    left = int(rng.integers(left_end, right_end - side_px + 1))
    top = int(rng.integers(0, _photos()[photo].shape[1] - side_px + 1))
    return SceneSpec(tuple(specs), (photo, left, top, side_px), bool(rng.random() < 0.5))


def _glyph_masks(objects: Sequence[ObjectSpec], quadrant: int) -> Tensor:
    """(N, 1, Q, Q) opacity in [0, 1] of each object's ink within its quadrant."""
    ink = _digit_images()[[o.sample for o in objects]]
    theta = np.empty((len(objects), 2, 3), np.float32)
    for row, o in zip(theta, objects, strict=True):
        zoom = 64.0 / o.glyph_side
        cos, sin = math.cos(o.rotation), math.sin(o.rotation)
        matrix = zoom * np.array([[cos / o.stretch, -sin + o.shear], [sin, cos * o.stretch]])
        row[:, :2] = matrix
        row[:, 2] = -matrix @ (np.array(o.shift) / 32.0)
    grid = F.affine_grid(
        torch.from_numpy(theta), [len(objects), 1, quadrant, quadrant], align_corners=False
    )
    values = F.grid_sample(ink, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    threshold = torch.tensor([o.threshold for o in objects]).view(-1, 1, 1, 1)
    return ((values - threshold) / 0.4).clamp(0.0, 1.0)


def render(scenes: Sequence[SceneSpec], size: int = 128) -> tuple[Tensor, list[list[list[int]]]]:
    """Images and boxes of `render_with_ink`."""
    images, boxes, _ = render_with_ink(scenes, size)
    return images, boxes


def render_with_ink(
    scenes: Sequence[SceneSpec], size: int = 128
) -> tuple[Tensor, list[list[list[int]]], Tensor]:
    """Draw scenes.

    Args:
        scenes: what to draw.
        size: S, even, in pixels.

    Returns:
        images (B, 3, S, S), float32 in [0, 1]; and for each scene the objects' tight boxes [x0, y0,
        x1, y1] in pixels, x1 and y1 exclusive; and the digits' opacity (B, 1, S, S) in [0, 1].
    """
    quadrant = size // 2
    images = torch.empty(len(scenes), 3, size, size)
    for image, scene in zip(images, scenes, strict=True):
        photo, left, top, side = scene.crop
        crop = _photos()[photo][:, top : top + side, left : left + side]
        if scene.flip:
            crop = crop.flip(-1)
        image.copy_(
            F.interpolate(
                crop.unsqueeze(0), size=(size, size), mode="bilinear", align_corners=False
            )[0]
        )
    objects = [o for scene in scenes for o in scene.objects]
    masks = _glyph_masks(objects, quadrant)
    # A dark halo keeps a white digit legible on a white sky.
    reach = max(1, round(size / 64))
    halos = F.avg_pool2d(F.max_pool2d(masks, 2 * reach + 1, 1, reach), 2 * reach + 1, 1, reach)
    palette = torch.tensor([COLOURS[name] for name in COLOUR_NAMES], dtype=torch.float32) / 255.0
    solid = masks > 0.5
    columns, rows = solid.any(2).squeeze(1).numpy(), solid.any(3).squeeze(1).numpy()
    boxes: list[list[list[int]]] = []
    ink = torch.zeros(len(scenes), 1, size, size)
    n = 0
    for image, page, scene in zip(images, ink, scenes, strict=True):
        scene_boxes = []
        for o in scene.objects:
            y, x = (o.position // 2) * quadrant, (o.position % 2) * quadrant
            patch = image[:, y : y + quadrant, x : x + quadrant]
            patch.mul_(1.0 - 0.65 * halos[n])
            patch.lerp_(palette[o.colour].view(3, 1, 1).expand_as(patch), masks[n].expand_as(patch))
            page[:, y : y + quadrant, x : x + quadrant] = masks[n]
            xs, ys = np.flatnonzero(columns[n]), np.flatnonzero(rows[n])
            assert len(xs), "a glyph without ink"
            scene_boxes.append(
                [x + int(xs[0]), y + int(ys[0]), x + int(xs[-1]) + 1, y + int(ys[-1]) + 1]
            )
            n += 1
        boxes.append(scene_boxes)
    return images, boxes, ink
