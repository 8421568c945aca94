"""Example images as a sweep stores them."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]


def entry(
    directory: Path,
    mllm: str,
    image: str,
    given: Image.Image,
    decoded: Image.Image | None,
    samples: Sequence[str],
    bpp: float,
    boxes: Mapping[str, tuple[Box, Box | None]] | None = None,
) -> dict[str, Any]:
    """Write an example of one image; what `sweep.json` says of it."""
    said = {name: {"wanted": one, "answered": two} for name, (one, two) in (boxes or {}).items()}
    return {
        "dataset": "scenes",
        "mllm": mllm,
        "page": None,
        "images": [
            {
                "id": image,
                "input": write(directory, given),
                "decoded": None if decoded is None else write(directory, decoded),
                "bpp": bpp,
                "psnr": None if decoded is None else 27.5,
            }
        ],
        "samples": list(samples),
        "boxes": said,
    }


def write(directory: Path, image: Image.Image) -> str:
    """Write an image under its content's name; its path below the sweep's directory."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    name = f"examples/images/{hashlib.sha256(buffer.getvalue()).hexdigest()[:16]}.png"
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(buffer.getvalue())
    return name


@functools.cache
def scene(number: int, width: int = 256, height: int = 256) -> Image.Image:
    """Something that has edges and slopes."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [
        127 + 120 * np.sin(x / (20 + 9 * number) + c) * np.cos(y / (31 - 7 * c)) for c in range(3)
    ]
    pixels = np.stack(channels, -1)
    pixels[60:140, 40 + 60 * number : 120 + 60 * number] = (210, 40, 40)
    return Image.fromarray(pixels.astype(np.uint8))


@functools.cache
def blurred(number: int, blocks: int, width: int = 256, height: int = 256) -> Image.Image:
    """The scene with so many pixels along, as if decoded."""
    return scene(number, width, height).resize((blocks, blocks)).resize((width, height))
