"""From a file's bytes to the image that a codec gets; every awkward kind is met on purpose.

    bytes -> first frame -> turned as EXIF says -> 8 bits per channel, RGB -> resize, centre crop

| what                      | becomes                                                             |
|---------------------------|---------------------------------------------------------------------|
| grey, palette, CMYK, ...  | RGB, as Pillow converts                                             |
| 16 bits per channel       | their high bytes                                                    |
| alpha, transparent colour | what is seen on white                                               |
| EXIF orientation          | upright                                                             |
| animation, several pages  | the first                                                           |
| smaller than the crop     | enlarged, down to one pixel                                         |
| floating point, 32 bits   | unreadable: nothing says what black and white are                   |
| more than MAX_PIXELS      | unreadable, by its header alone                                     |
| damaged, truncated, empty | unreadable                                                          |
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, WebPImagePlugin

from trainables.datasets.images.placement import Placement, cropped, padded

# Pillow looks for these only after it has failed without them.
assert TiffImagePlugin
assert WebPImagePlugin
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is tried; Pillow knows more, among them some that start other programs."""
MAX_PIXELS = 89_478_485
"""A quarter of a gigabyte as RGB: where Pillow starts to warn of decompression bombs."""
DAMAGED = (
    # Pillow reports damaged files by any of these.
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
GREY = (122, 116, 104)
"""What is added to an image: the mean colour that CLIP's preprocessing takes away."""
_KINDS = {"grey": ("1", "L", "LA", "La"), "palette": ("P", "PA"), "CMYK": ("CMYK",)}
"""Modes of images that become RGB, by what is said of them."""
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_STRIP = 2**20
"""Pixels of 16 bits that are converted at once."""
Decode = Callable[[bytes, int], tuple[bytes, frozenset[str]]]
"""As `decode_png`."""


class UnreadableImageError(ValueError):
    """Bytes that are no image."""


def decode_rgb(data: bytes) -> tuple[Image.Image, frozenset[str]]:
    """An encoded image as 8-bit RGB, and what was done to it: the left column above, in a word.

    Raises:
        UnreadableImageError: it is damaged, of a kind that has no RGB, or too large.
    """
    if not data:
        raise UnreadableImageError("empty file")
    try:
        with warnings.catch_warnings():
            # Pillow warns of metadata, which are not needed, and of sizes, which are checked below.
            warnings.simplefilter("ignore")
            return _decode(data)
    except DAMAGED as error:
        raise UnreadableImageError(_reason(error)) from error


def decode_png(data: bytes, size: int) -> tuple[bytes, frozenset[str]]:
    """An encoded image as a PNG of `size` x `size` pixels, and what was done to it.

    Raises:
        UnreadableImageError: as of `decode_rgb` and `fit`.
    """
    image, done = decode_rgb(data)
    if min(image.size) < size:
        done |= {"enlarged"}
    return png_of(fit(image, size)), done


def fit(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to `size` (bicubic, antialiased) and crop the centre.

    Equals torchvision's Resize and CenterCrop on the same Pillow image.

    Raises:
        UnreadableImageError: the image is so narrow that it would become larger than MAX_PIXELS.
    """
    placement = cropped(image.size, size)
    box = (placement.left, placement.top, placement.left + size, placement.top + size)
    return _resize(image, placement).crop(box)


def pad(image: Image.Image, size: int) -> Image.Image:
    """Resize the longer side to `size` (bicubic, antialiased) and add grey on both sides."""
    placement = padded(image.size, size)
    canvas = Image.new("RGB", (size, size), GREY)
    canvas.paste(_resize(image, placement), (-placement.left, -placement.top))
    return canvas


def png_of(image: Image.Image) -> bytes:
    """An image without loss, written fast rather than small."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _resize(image: Image.Image, placement: Placement) -> Image.Image:
    if placement.width * placement.height > MAX_PIXELS:
        width, height = image.size
        raise UnreadableImageError(f"{width} x {height} pixels are too narrow to be resized")
    if image.size == (placement.width, placement.height):
        return image
    return image.resize((placement.width, placement.height), Image.Resampling.BICUBIC)


def _decode(data: bytes) -> tuple[Image.Image, frozenset[str]]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        width, height = opened.size
        if width * height > MAX_PIXELS:
            raise UnreadableImageError(f"{width} x {height} pixels are more than {MAX_PIXELS}")
        done: set[str] = set()
        if getattr(opened, "is_animated", False):
            done.add("several frames")
            opened.seek(0)
        if any(";16" in str(tile[3]) for tile in getattr(opened, "tile", [])):
            done.add("16 bits")
        opened.load()
        # Of a large image each copy counts, so none is made that changes nothing.
        image: Image.Image = opened
        if image.getexif().get(0x0112, 1) != 1:
            done.add("rotated")
            image = ImageOps.exif_transpose(image)
        if image.mode == "F" or (image.mode == "I" and opened.format not in ("PNG", "PPM")):
            raise UnreadableImageError(f"pixels of mode {image.mode} have no range")
        if image.mode in (*_SIXTEEN_BITS, "I"):
            done.add("16 bits")
            image = _high_bytes(image)
        done |= {kind for kind, modes in _KINDS.items() if image.mode in modes}
        if image.has_transparency_data:
            done.add("alpha")
            image = image if image.mode == "RGBA" else image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image if image.mode == "RGB" else image.convert("RGB"), frozenset(done)


def _high_bytes(image: Image.Image) -> Image.Image:
    """An image of 16 bits as one of 8, strip by strip."""
    width, height = image.size
    rows = max(1, _STRIP // width)
    grey = Image.new("L", image.size)
    for top in range(0, height, rows):
        strip = np.asarray(image.crop((0, top, width, min(top + rows, height))))
        grey.paste(Image.fromarray((strip >> 8).astype(np.uint8)), (0, top))
    return grey


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    if isinstance(error, UnreadableImageError):
        return lines[0]
    if "cannot identify image file" in str(error):
        return "no image that is known"
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
