"""Arithmetic with colours: `#rrggbb`, and what stands out from a dark page."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable


def on_dark(colour: str, background: str = "#171b21", contrast: float = 4.5) -> str:
    """The colour lightened until it stands out from a dark background.

    Args:
        colour: `#rrggbb`.
        background: `#rrggbb`.
        contrast: WCAG 2 contrast ratio to reach.
    """
    hue, light, saturation = colorsys.rgb_to_hls(*_channels(colour))
    behind = _luminance(background)
    while light < 1:
        found = hex_of(colorsys.hls_to_rgb(hue, light, saturation))
        if (_luminance(found) + 0.05) / (behind + 0.05) >= contrast:
            return found
        light += 0.02
    return "#ffffff"


def _channels(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def hex_of(channels: Iterable[float]) -> str:
    """Red, green and blue in [0, 1] as `#rrggbb`."""
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _channels(colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
