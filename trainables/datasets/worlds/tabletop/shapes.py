"""Outlines, shading and patterns of things, in their own coordinates.

Shapes: `N` things, `P` side of the patch around each.
u points right, v down; a thing's radius is 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainables.datasets.worlds.tabletop.scene import PATTERNS, SHAPES


def outlines(shapes: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Signed distances (N, P, P) to the outlines, negative inside.

    Args:
        shapes: (N,) indices into SHAPES.
        u, v: (N, P, P).
    """
    out = torch.empty_like(u)
    for number, name in enumerate(SHAPES):
        rows = shapes == number
        if rows.any():
            out[rows] = _OUTLINES[name](u[rows], v[rows])
    return out


def _ball(u: Tensor, v: Tensor) -> Tensor:
    return torch.hypot(u, v) - 1


def _rounded(u: Tensor, v: Tensor, half: tuple[float, float], corner: float) -> Tensor:
    x, y = u.abs() - half[0] + corner, v.abs() - half[1] + corner
    outside = torch.hypot(x.clamp(min=0), y.clamp(min=0))
    return outside + torch.maximum(x, y).clamp(max=0) - corner


def _box(u: Tensor, v: Tensor) -> Tensor:
    return _rounded(u, v, (0.85, 0.85), 0.08)


def _can(u: Tensor, v: Tensor) -> Tensor:
    return _rounded(u, v, (0.58, 0.98), 0.16)


def _cone(u: Tensor, v: Tensor) -> Tensor:
    """A triangle with its tip at the top."""
    across, down = 1.9, 0.9
    side = (u.abs() * across - (v + 1) * down) / math.hypot(across, down)
    return torch.maximum(side, v - 0.9)


def _ring(u: Tensor, v: Tensor) -> Tensor:
    return (torch.hypot(u, v) - 0.72).abs() - 0.27


def _star(u: Tensor, v: Tensor) -> Tensor:
    """Five points; each half of a point has one edge, from its tip to the notch beside it."""
    fifth = 2 * math.pi / 5
    angle = torch.atan2(u, -v)
    off = (angle - fifth * torch.round(angle / fifth)).abs()
    length = torch.hypot(u, v)
    x, y = length * torch.cos(off), length * torch.sin(off)
    notch = 0.46 * math.cos(fifth / 2), 0.46 * math.sin(fifth / 2)
    normal = notch[1], 1 - notch[0]
    return ((x - 1) * normal[0] + y * normal[1]) / math.hypot(*normal)


_OUTLINES = {
    "ball": _ball,
    "box": _box,
    "cone": _cone,
    "can": _can,
    "ring": _ring,
    "star": _star,
}


def shading(shapes: Tensor, u: Tensor, v: Tensor, light: Tensor) -> Tensor:
    """Factors (N, P, P) of a thing's colour, about 0.5 to 1.3.

    Args:
        shapes: (N,) indices into SHAPES.
        light: (N, 2) direction that the light comes from, of length 1.
    """
    facing = u * light[:, 0, None, None] + v * light[:, 1, None, None]
    flat = 0.92 + 0.16 * facing
    is_ball = (shapes == SHAPES.index("ball"))[:, None, None]
    is_can = (shapes == SHAPES.index("can"))[:, None, None]
    depth = (1 - u.square() - v.square()).clamp(min=0).sqrt()
    ball = 0.45 + 0.45 * depth + 0.4 * facing + 0.5 * (0.55 * depth + 0.83 * facing).clamp(0) ** 12
    round_can = (1 - (u / 0.62).square()).clamp(min=0).sqrt()
    can = 0.5 + 0.45 * round_can + 0.3 * u * light[:, 0, None, None]
    return torch.where(is_ball, ball, torch.where(is_can, can, flat)).clamp(0.3, 1.45)


def marks(patterns: Tensor, phases: Tensor, u: Tensor, v: Tensor, sharpness: Tensor) -> Tensor:
    """Shares (N, P, P) in [0, 1] of the second colour.

    Args:
        patterns: (N,) indices into PATTERNS.
        phases: (N, 2) in [0, 1).
        sharpness: (N,) pixels of a radius; edges are as wide as a pixel.
    """
    cycles = (0.8 + 0.05 * sharpness).clamp(1.1, 1.7)[:, None, None]
    a = cycles * u + phases[:, 0, None, None]
    b = cycles * v + phases[:, 1, None, None]
    edge = (sharpness[:, None, None] / cycles) / 2
    across = _wave(a + b)
    striped = (across * edge).clamp(-0.5, 0.5) + 0.5
    checked = (_wave(a) * _wave(b) * 4 * edge / 2).clamp(-0.5, 0.5) + 0.5
    off = torch.hypot(a - torch.floor(a) - 0.5, b - torch.floor(b) - 0.5)
    dotted = ((0.31 - off) * 2 * edge).clamp(-0.5, 0.5) + 0.5
    choices = {"plain": torch.zeros_like(u), "striped": striped, "dotted": dotted}
    choices["checked"] = checked
    out = torch.zeros_like(u)
    for number, name in enumerate(PATTERNS):
        out = torch.where((patterns == number)[:, None, None], choices[name], out)
    return out


def _wave(x: Tensor) -> Tensor:
    """A triangle wave of period 1 in [-0.5, 0.5]: 0 at 0 and at 0.5."""
    turned: Tensor = 2 * (x - torch.floor(x + 0.5)).abs() - 0.5
    return turned
