"""Where an image's pixels go when it becomes a square; boxes follow them.

(w, h) --resize--> (width, height) --crop or pad--> square whose corner is (left, top) of it
"""

from __future__ import annotations

from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


@dataclass(frozen=True)
class Placement:
    """The size that an image is resized to, and the corner of the square in it.

    left, top: negative where the square begins outside the image.
    """

    width: int
    height: int
    left: int
    top: int

    def box(self, box: Box, original: tuple[int, int]) -> Box:
        """A box of the original image (of that width and height) in pixels of the square."""
        x, y = self.width / original[0], self.height / original[1]
        x0, y0, x1, y1 = box
        return (x0 * x - self.left, y0 * y - self.top, x1 * x - self.left, y1 * y - self.top)


def cropped(original: tuple[int, int], size: int) -> Placement:
    """The shorter side becomes `size`, the centre of the longer one is kept."""
    width, height = original
    if min(width, height) != size:
        longer = int(size * max(width, height) / min(width, height))
        width, height = (size, longer) if width <= height else (longer, size)
    return Placement(width, height, round((width - size) / 2.0), round((height - size) / 2.0))


def padded(original: tuple[int, int], size: int) -> Placement:
    """The longer side becomes `size`, the shorter one stands in the middle."""
    scale = size / max(original)
    width, height = (max(1, round(side * scale)) for side in original)
    return Placement(width, height, -((size - width) // 2), -((size - height) // 2))


def clipped(box: Box, size: int) -> Box:
    """What of a box is inside the square."""
    x0, y0, x1, y1 = (min(max(value, 0.0), float(size)) for value in box)
    return (x0, y0, x1, y1)


def area(box: Box) -> float:
    """Pixels inside a box."""
    x0, y0, x1, y1 = box
    return max(0.0, x1 - x0) * max(0.0, y1 - y0)
