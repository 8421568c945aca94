"""Drawing scenes: real handwritten digits on real photographs.

    SceneSpec --render--> (3, S, S) in [0, 1] + tight boxes

Shapes: `B` scenes, `S` side of a scene in pixels, `Q = S / 2` side of a quadrant, `N` glyphs in all
    `B` scenes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from trainables.datasets.worlds.scenes.sampling import photographs
from trainables.datasets.worlds.scenes.scene import COLOUR_NAMES, COLOURS, ObjectSpec, SceneSpec


@cache
def _digit_images() -> Tensor:
    """(1797, 1, 8, 8) ink in [0, 1]."""
    return torch.from_numpy(load_digits().images.astype(np.float32) / 16.0).unsqueeze(1)


@cache
def _photos() -> tuple[Tensor, ...]:
    """Each (3, 427, 640) in [0, 1]."""
    return tuple(
        torch.from_numpy(photo.astype(np.float32) / 255.0).permute(2, 0, 1).contiguous()
        for photo in photographs()
    )


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
