"""Arithmetic with colours `#rrggbb`: contrast on a dark page, and colours chosen from names."""

from __future__ import annotations

import colorsys
import math
import zlib
from collections.abc import Sequence
from typing import Final

from matplotlib.colors import to_hex, to_rgb

CLEAR: Final = 13.0
"""Distance in CIE L*a*b* that is seen at a glance; 2.3 is just noticeable."""


BACKGROUND: Final = "#171b21"
"""Of a dark page."""
CONTRAST: Final = 4.5
"""WCAG 2's for text."""


def on_dark(colour: str) -> str:
    """The colour `#rrggbb` lightened until it stands out from a dark background."""
    hue, light, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    behind = _luminance(BACKGROUND)
    while light < 1:
        lighter = to_hex(colorsys.hls_to_rgb(hue, light, saturation))
        if (_luminance(lighter) + 0.05) / (behind + 0.05) >= CONTRAST:
            return lighter
        light += 0.02
    return "#ffffff"


def colour_of_name(name: str, palette: Sequence[str], taken: Sequence[str]) -> str:
    """A colour that depends on a name and a palette alone, unless a taken colour is very near.

    Candidates are drawn from a hash of the name; the first that is far enough from all other
    colours is chosen. After each 64 candidates a shorter distance is enough.

    Args:
        name: any.
        palette: colours `#rrggbb` to stay well away from, the same in every figure.
        taken: other colours `#rrggbb` of a figure.
    """
    known = [(_lab(colour), 2.0) for colour in palette]
    known += [(_lab(colour), 1.0) for colour in taken]
    attempt, apart = 0, CLEAR
    while True:
        drawn = zlib.crc32(f"{attempt} {name}".encode())
        hue, light, saturation = drawn % 360, drawn // 360 % 25, drawn // 9000 % 40
        candidate = to_hex(
            colorsys.hls_to_rgb(hue / 360, 0.3 + light / 100, 0.55 + saturation / 100)
        )
        if all(math.dist(_lab(candidate), place) >= apart * share for place, share in known):
            return candidate
        attempt += 1
        apart *= 0.8 if attempt % 64 == 0 else 1.0


def _linear(colour: str) -> tuple[float, float, float]:
    """Red, green and blue without sRGB's gamma."""
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
    )
    return red, green, blue


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    red, green, blue = _linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _lab(colour: str) -> tuple[float, float, float]:
    """CIE L*a*b* for the white point D65."""
    red, green, blue = _linear(colour)
    xyz = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089,
    )
    x, y, z = (math.cbrt(c) if c > 0.008856 else 7.787 * c + 16 / 116 for c in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)
