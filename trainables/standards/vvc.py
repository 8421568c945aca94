"""VVC intra (H.266) through an ffmpeg that has VVenC: a bare stream per image, and the image in it.

    pixels --RGB to 10-bit YCbCr 4:2:0--> VVenC, one picture --> stream with its parameter sets
    stream --ffmpeg's own VVC decoder, not VVenC's--> YCbCr --> pixels

Debian 12 packages no VVC encoder (its ffmpeg is 5.1). The program is taken from the PATH where it
has one, else from the package imageio-ffmpeg (the extra `vvc`), whose program has.
"""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

LACKING = (
    "no ffmpeg here has both an encoder (libvvenc) and a decoder of VVC: install the extra vvc "
    "(imageio-ffmpeg), or an ffmpeg of 7.1 or newer that is built with libvvenc; Debian 12 has none"
)
_COLOUR = "color_matrix=bt709:{0}_range=full:flags=accurate_rnd+full_chroma_int+bicubic"


class VvcError(RuntimeError):
    """ffmpeg failed; the message is its own."""


def encode(pixels: Pixels, qp: int) -> bytes:
    """(H, W, 3), sides even -> the stream.

    Args:
        pixels: an image.
        qp: quantisation parameter, 0 (best) to 63.

    Raises:
        VvcError: as of the class; a side is odd.
    """
    height, width, _ = pixels.shape
    if height % 2 or width % 2:
        raise VvcError(f"VVC in 4:2:0 has even sides, not {width} x {height}")
    to_ycbcr = "scale=out_" + _COLOUR.format("out") + ",format=yuv420p10le"
    return _run(
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", "-"),
        *("-frames:v", "1", "-vf", to_ycbcr, "-c:v", "libvvenc", "-preset", "slow"),
        # A group of one picture: its parameters list no references, which takes 110 bytes less. QPA
        # would spread the bits by a model of human vision.
        *("-g", "1", "-qp", str(qp), "-qpa", "0", "-f", "vvc", "-"),
        given=pixels.tobytes(),
    )


def decode(stream: bytes) -> Pixels:
    """The stream -> (H, W, 3).

    Raises:
        VvcError: as of the class.
    """
    to_rgb = "scale=in_" + _COLOUR.format("in") + ",format=rgb24"
    page = _run(
        *("-f", "vvc", "-c:v", "vvc", "-i", "-", "-vf", to_rgb),
        *("-f", "image2pipe", "-c:v", "ppm", "-"),
        given=stream,
    )
    with Image.open(io.BytesIO(page)) as image:
        return np.array(image.convert("RGB"))


@functools.cache
def program() -> str | None:
    """An ffmpeg that encodes and decodes VVC; None where there is none."""
    return next((path for path in _programs() if _is_able(path)), None)


@functools.cache
def version() -> str | None:
    """Of that ffmpeg."""
    ffmpeg = program()
    if ffmpeg is None:
        return None
    return _answer_of(ffmpeg, "-version").splitlines()[0].partition(" Copyright")[0]


def _programs() -> list[str]:
    paths = [shutil.which("ffmpeg")]
    if find_spec("imageio_ffmpeg") is not None:
        # Imported late, as it is an extra.
        from imageio_ffmpeg import get_ffmpeg_exe

        paths.append(get_ffmpeg_exe())
    return [path for path in paths if path]


def _is_able(ffmpeg: str) -> bool:
    encoders, decoders = (_answer_of(ffmpeg, f"-{kind}") for kind in ("encoders", "decoders"))
    return " libvvenc " in encoders and " vvc " in decoders


def _answer_of(ffmpeg: str, question: str) -> str:
    done = subprocess.run(
        [ffmpeg, "-hide_banner", question], capture_output=True, text=True, check=False
    )
    return done.stdout


def _run(*arguments: str, given: bytes) -> bytes:
    ffmpeg = program()
    assert ffmpeg is not None, LACKING
    command = [ffmpeg, "-v", "error", "-threads", "1", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    if done.returncode or not done.stdout:
        raise VvcError(f"ffmpeg: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return done.stdout
