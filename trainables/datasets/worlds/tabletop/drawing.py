"""Drawing things on a table.

    TableSpec --surface--> --shadows, things, back to front--> --card--> --noise--> (3, S, S)

Shapes: `B` scenes, `S` side of a scene in pixels, `N` things in all `B` scenes, `P` side of a patch
    around a thing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from trainables.datasets.worlds.tabletop.sampling import card_size
from trainables.datasets.worlds.tabletop.scene import (
    COLOUR_NAMES,
    COLOURS,
    LEVELS,
    RADII,
    SIDE,
    SURFACES,
    Card,
    TableSpec,
)
from trainables.datasets.worlds.tabletop.shapes import marks, outlines, shading
from trainables.datasets.worlds.world import Boxes

_REACH = 1.35
"""Of a patch, in radii: a shadow is wider than its thing."""
_LIGHT_MARK, _DARK_MARK = (0.95, 0.94, 0.9), (0.14, 0.14, 0.18)
_PAPER, _TEXT = (0.95, 0.93, 0.86), (0.1, 0.1, 0.16)
_ZOOM = 4
"""A card is drawn so many times larger, then made smaller."""
NOTHING = -1
"""In a map of what is seen: the table."""


def render(scenes: Sequence[TableSpec], size: int = SIDE) -> tuple[Tensor, Boxes]:
    """Images and boxes of `render_with_map`."""
    images, boxes, _ = render_with_map(scenes, size)
    return images, boxes


def render_with_map(scenes: Sequence[TableSpec], size: int = SIDE) -> tuple[Tensor, Boxes, Tensor]:
    """Draw scenes.

    Args:
        scenes: what to draw.
        size: S, even, in pixels.

    Returns:
        images (B, 3, S, S), float32 in [0, 1]; for each scene the boxes [x0, y0, x1, y1] in pixels
        of what is seen of each thing, and of the card, x1 and y1 exclusive; and what is seen
        (B, S, S): the number of a thing, the number of things for the card, or NOTHING.
    """
    images = _surfaces(scenes, size)
    seen = torch.full((len(scenes), size, size), NOTHING)
    _draw_things(images, seen, scenes, size)
    for image, ids, scene in zip(images, seen, scenes, strict=True):
        _draw_card(image, ids, scene.card, len(scene.things), size)
    for image, scene in zip(images, scenes, strict=True):
        if noise := LEVELS[scene.level].noise:
            random = torch.Generator().manual_seed(scene.grain)
            image += noise * torch.randn(image.shape, generator=random)
    boxes = [
        [_box(ids == number) for number in range(len(scene.things) + 1)]
        for ids, scene in zip(seen.numpy(), scenes, strict=True)
    ]
    return images.clamp_(0.0, 1.0), boxes, seen


def _box(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> list[int]:
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    assert len(columns), "a thing that nobody sees"
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def _surfaces(scenes: Sequence[TableSpec], size: int) -> Tensor:
    """Tables (B, 3, S, S) without anything on them."""
    rough = _grain(scenes, (5, 9, 17, 33, 65), size)
    soft = _grain(scenes, (3, 5), size)
    y, x = torch.meshgrid(*(torch.linspace(0, 1, size) for _ in range(2)), indexing="ij")
    images = torch.empty(len(scenes), 3, size, size)
    for number, scene in enumerate(scenes):
        name, fine, wide = SURFACES[scene.surface], rough[number], soft[number]
        if name == "wood":
            texture = torch.sin(2 * math.pi * (9 * y + 2.5 * wide)) + 0.5 * fine
        elif name == "cloth":
            texture = torch.sin(math.pi * 40 * x) * torch.sin(math.pi * 40 * y) + fine
        elif name == "tiles":
            joint = torch.minimum((5 * x + 0.5) % 1, (5 * y + 0.5) % 1) < 0.07
            texture = torch.where(joint, -2.0, 0.6 * fine)
        else:
            texture = 1.6 * fine
        contrast = LEVELS[scene.level].contrast
        factor = 1 + contrast * texture + 0.12 * wide
        images[number] = torch.tensor(scene.tint).view(3, 1, 1) * factor
    return images


def _grain(scenes: Sequence[TableSpec], cells: Sequence[int], size: int) -> Tensor:
    """Smooth noise (B, S, S) of mean 0 and deviation about 1, of several grids of cells."""
    random = [torch.Generator().manual_seed(scene.grain + sum(cells)) for scene in scenes]
    total = torch.zeros(len(scenes), 1, size, size)
    for count in cells:
        grids = torch.stack([torch.randn(1, count, count, generator=g) for g in random])
        total += F.interpolate(grids, (size, size), mode="bilinear", align_corners=True)
    return total[:, 0] / math.sqrt(len(cells) / 2)


def _draw_things(images: Tensor, seen: Tensor, scenes: Sequence[TableSpec], size: int) -> None:
    """Draw all things and their shadows onto the tables, and note where they are seen."""
    zoom = size / SIDE
    half = math.ceil(_REACH * 1.1 * max(RADII) * zoom)
    all_things = [(b, i, t) for b, scene in enumerate(scenes) for i, t in enumerate(scene.things)]
    things = [thing for _, _, thing in all_things]
    centre = zoom * torch.tensor([[thing.x, thing.y] for thing in things])
    corner = centre.floor().long() - half
    radius = zoom * torch.tensor([thing.radius for thing in things])
    at = torch.arange(2 * half) + 0.5
    x, y = (
        (at + corner[:, axis, None] - centre[:, axis, None]) / radius[:, None] for axis in (0, 1)
    )
    x, y = x[:, None, :].expand(-1, 2 * half, -1), y[:, :, None].expand(-1, -1, 2 * half)
    turn = torch.tensor([thing.rotation for thing in things])[:, None, None]
    u, v = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    shapes = torch.tensor([thing.shape for thing in things])
    angles = torch.tensor([scenes[b].light for b, _, _ in all_things])
    light = torch.stack([angles.cos(), angles.sin()], 1)
    alpha = (0.5 - outlines(shapes, u, v) * radius[:, None, None]).clamp(0, 1)
    patterns = torch.tensor([thing.pattern for thing in things])
    phases = torch.tensor([thing.phase for thing in things])
    second = marks(patterns, phases, u, v, radius)[:, None]
    palette = torch.tensor([COLOURS[name] for name in COLOUR_NAMES]) / 255.0
    colours = torch.tensor([thing.colour for thing in things])
    own = palette[colours][:, :, None, None]
    is_white = (colours == COLOUR_NAMES.index("white"))[:, None, None, None]
    dark, light_mark = (torch.tensor(c)[:, None, None] for c in (_DARK_MARK, _LIGHT_MARK))
    other = torch.where(is_white, dark, light_mark)
    colour = own.lerp(other.expand_as(own), second) * shading(shapes, x, y, light)[:, None]
    shadow_x, shadow_y = x + 0.25 * light[:, 0, None, None], y - 0.72
    shadow = 0.5 * torch.exp(-(shadow_x.square() / 0.8 + shadow_y.square() / 0.14))
    for number, (b, i, _) in enumerate(all_things):
        left, top = (int(value) for value in corner[number])
        columns, rows = (slice(max(0, first), min(size, first + 2 * half)) for first in (left, top))
        inner = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        cover = alpha[number][inner]
        patch = images[b][:, rows, columns]
        patch *= 1 - shadow[number][inner]
        patch.lerp_(colour[number][:, *inner], cover.expand_as(patch))
        seen[b, rows, columns] = torch.where(cover > 0.5, i, seen[b, rows, columns])


@cache
def _font(pixels: int) -> Any:
    return ImageFont.load_default(pixels)


def _draw_card(image: Tensor, ids: Tensor, card: Card, number: int, size: int) -> None:
    """Draw a card onto one table."""
    scale = _ZOOM * size / SIDE
    width, height = (round(scale * length) for length in card_size(card.text, card.height))
    paper = Image.new("L", (width, height), 0)
    draw, font = ImageDraw.Draw(paper), _font(round(1.32 * scale * card.height))
    step = width / (len(card.text) + 0.5)
    for position, character in enumerate(card.text):
        draw.text((step * (position + 0.75), height / 2), character, 255, font, anchor="mm")
    side = 2 * math.ceil(math.hypot(width, height) / _ZOOM / 2 + 1)
    centre = size / SIDE * card.x, size / SIDE * card.y
    corner = [math.floor(value) - side // 2 for value in centre]
    offset = [
        _ZOOM * (value - first - side / 2) for value, first in zip(centre, corner, strict=True)
    ]
    layers = []
    for layer in (Image.new("L", paper.size, 255), paper):
        whole = Image.new("L", (_ZOOM * side, _ZOOM * side), 0)
        place = [
            round((_ZOOM * side - length) / 2 + shift)
            for length, shift in zip(paper.size, offset, strict=True)
        ]
        whole.paste(layer, (place[0], place[1]))
        turned = whole.rotate(math.degrees(card.rotation), Image.Resampling.BILINEAR)
        small = turned.resize((side, side), Image.Resampling.BOX)
        layers.append(torch.from_numpy(np.asarray(small, np.float32) / 255.0))
    left, top = corner
    columns, rows = (slice(max(0, first), min(size, first + side)) for first in corner)
    inner = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    cover, ink = (layer[inner] for layer in layers)
    paper_colour, text_colour = (torch.tensor(c)[:, None, None] for c in (_PAPER, _TEXT))
    patch = image[:, rows, columns]
    colour = paper_colour + (text_colour - paper_colour) * ink
    patch.lerp_(colour.expand_as(patch), cover.expand_as(patch))
    ids[rows, columns] = torch.where(cover > 0.5, number, ids[rows, columns])
