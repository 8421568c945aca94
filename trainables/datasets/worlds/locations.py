"""The words of a place in an image that questions about made worlds are answered with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

LOCATION_BINS: Final = 32
"""Boxes are written in location bins, as in Pix2Seq: coordinate / size * LOCATION_BINS, rounded."""


def location(bin_index: int) -> str:
    """The location-bin word of a coordinate in 0 .. LOCATION_BINS."""
    return f"loc{bin_index}"


def box_words(box: Sequence[int], size: int) -> str:
    """The four words of a box.

    Args:
        box: [x0, y0, x1, y1] in pixels, x1 and y1 exclusive.
        size: side of the image in pixels.
    """
    return " ".join(location(round(value / size * LOCATION_BINS)) for value in box)
