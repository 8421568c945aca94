"""JPEG, JPEG 2000, WebP and AVIF through Pillow, VVC intra through ffmpeg (`vvc.py`): the bytes of
a file, and the image in it.

The rate is the length of the whole file, with all its headers and without metadata: what a server
would send. JPEG 2000 is written as a bare codestream and VVC as a bare stream with its parameter
sets, the smallest files that these standards know. Chroma is subsampled 4:2:0 as the libraries do
by default; JPEG 2000 keeps it whole. At sizes such as 128x128 headers are most of a small file
(JPEG: about 600 bytes, 0.3 bit per pixel).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from PIL import Image, features

from search_spaces.scenarios.classical import QUALITIES, SCENARIO
from search_spaces.specs.space import Space
from trainables.standards import vvc
from trainables.standards.vvc import Pixels

_FEATURES: Final = {"jpeg": "jpg", "jpeg2000": "jpg_2000", "webp": "webp", "avif": "avif"}


class ClassicalCodec:
    """One standard at one quality.

    Args:
        format: `jpeg`, `jpeg2000`, `webp`, `avif` or `vvc`.
        quality: see `ClassicalSpec.qualities`.

    Raises:
        ValueError: the format cannot be written here; the message says why.
    """

    def __init__(self, format: str, quality: int) -> None:
        assert format in QUALITIES
        if (reason := lacking(format)) is not None:
            raise ValueError(f"{format} cannot be written here: {reason}")
        self._format, self._quality = format, quality

    def encode(self, pixels: Pixels) -> bytes:
        """(H, W, 3) -> the file."""
        if self._format == "vvc":
            return vvc.encode(pixels, self._quality)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, **_settings(self._format, self._quality))
        return file.getvalue()

    def decode(self, data: bytes) -> Pixels:
        """The file -> (H, W, 3)."""
        if self._format == "vvc":
            return vvc.decode(data)
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))


def library(format: str) -> str | None:
    """The version of what writes a format; None where nothing here does."""
    if format == "vvc":
        return vvc.version()
    feature = _FEATURES[format]
    if not features.check(feature):
        return None
    if format == "jpeg":
        turbo = features.version("libjpeg_turbo")
        return f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version(feature)}"
    return str(features.version(feature))


def lacking(format: str) -> str | None:
    """Why a format cannot be written here; None if it can."""
    if library(format) is not None:
        return None
    if format == "vvc":
        return vvc.LACKING
    return "the installed Pillow cannot write it (its wheels from a package registry can)"


class _Libraries:
    """The libraries that write the standards' files of a space."""

    def versions(self, space: Space) -> dict[str, str]:
        """The version of the library of each format."""
        return {spec.format: str(library(spec.format)) for spec in SCENARIO.codecs(space)}

    def problems(self, space: Space) -> Iterator[str]:
        """Formats that cannot be written here."""
        for number, spec in enumerate(SCENARIO.codecs(space)):
            if (reason := lacking(spec.format)) is not None:
                yield f"classical.{number}.format = {spec.format!r}: {reason}"


ENVIRONMENT: Final = _Libraries()


def _settings(format: str, quality: int) -> dict[str, Any]:
    if format == "jpeg":
        return {"format": "JPEG", "quality": quality, "optimize": True, "progressive": True}
    if format == "jpeg2000":
        return {
            "format": "JPEG2000",
            "quality_mode": "dB",
            "quality_layers": [quality],
            "irreversible": True,
            "no_jp2": True,
        }
    if format == "webp":
        return {"format": "WEBP", "quality": quality, "method": 6}
    return {"format": "AVIF", "quality": quality, "speed": 4}
