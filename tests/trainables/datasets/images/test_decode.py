"""Awkward images: each becomes what the table in decode.py says, or is unreadable with a reason."""

import contextlib
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import transforms

from trainables.datasets.images import decode
from trainables.datasets.images.decode import UnreadableImageError, decode_rgb, fit
from trainables.encoders.pretrained import Preprocessing

Array = np.ndarray[Any, Any]


def photograph(index: int = 0) -> Image.Image:
    return Image.fromarray(load_sample_images().images[index])


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels(data: bytes) -> Array:
    return np.asarray(decode_rgb(data)[0])


def done(data: bytes) -> set[str]:
    return set(decode_rgb(data)[1])


def png_of(width: int, height: int) -> bytes:
    """The start of a PNG that says it has so many pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT"


NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_plain_images_come_back_as_they_are(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(Image.fromarray(NOISE), form, **options)
    assert np.array_equal(pixels(data), NOISE)
    assert done(data) == set()


def test_grey_is_repeated_over_the_channels() -> None:
    grey = NOISE[..., 0]
    for data in (encoded(Image.fromarray(grey), "PNG"), encoded(Image.fromarray(grey), "PPM")):
        assert np.array_equal(pixels(data), grey[..., None].repeat(3, 2))
        assert done(data) == {"grey"}
    bilevel = Image.fromarray(grey > 127)
    assert np.array_equal(pixels(encoded(bilevel, "PNG"))[..., 1], (grey > 127) * 255)


def test_sixteen_bits_become_their_high_bytes() -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (9, 7)).astype(np.uint16)
    expected = (deep // 256).astype(np.uint8)[..., None].repeat(3, 2)
    image = Image.fromarray(deep)
    for form in ("PNG", "TIFF"):
        data = encoded(image, form)
        assert np.array_equal(pixels(data), expected)
        assert "16 bits" in done(data)
    pgm = b"P5 7 9 65535\n" + deep.astype(">u2").tobytes()
    assert np.array_equal(pixels(pgm), expected)


def test_sixteen_bit_colour_becomes_its_high_bytes() -> None:
    deep = np.random.default_rng(2).integers(0, 65536, (5, 6, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    header = b"IHDR" + struct.pack(">IIBBBBB", 6, 5, 16, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(rows), b"IEND"]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )
    assert np.array_equal(pixels(data), deep // 256)
    assert done(data) == {"16 bits"}


@pytest.mark.parametrize(
    ("mode", "form", "most"),
    [("I;16", "PNG", 10), ("I;16", "TIFF", 10), ("RGB", "PNG", 7), ("RGBA", "PNG", 15)],
)
def test_a_large_image_takes_few_bytes_per_pixel_at_its_peak(
    mode: str, form: str, most: int, tmp_path: Path
) -> None:
    """The result has 4 bytes per pixel, and what it is made of 2 to 4."""
    side = 4000
    compression = {"compression": "tiff_deflate"} if form == "TIFF" else {}
    (tmp_path / "large").write_bytes(encoded(Image.new(mode, (side, side)), form, **compression))
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from trainables.datasets.images.decode import decode_rgb\n"
        "def kib(field):\n"
        "    return int(Path('/proc/self/status').read_text().split(field)[1].split()[0])\n"
        "data = Path(sys.argv[1]).read_bytes()\n"
        "Path('/proc/self/clear_refs').write_text('5')  # the peak so far is forgotten\n"
        "before = kib('VmRSS:')\n"
        "decode_rgb(data)\n"
        "print(1024 * (kib('VmHWM:') - before))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "large")]
    peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert peak / side**2 < most


def test_sixteen_bits_are_converted_alike_in_every_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (9, 7)).astype(np.uint16)
    expected = (deep // 256).astype(np.uint8)[..., None].repeat(3, 2)
    for strip in (1, 7, 15, 1000):
        monkeypatch.setattr(decode, "_STRIP", strip)
        for form in ("PNG", "TIFF"):
            assert np.array_equal(pixels(encoded(Image.fromarray(deep), form)), expected)


def test_palettes_become_their_colours() -> None:
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(numbers, "P")
    colours = np.random.default_rng(3).integers(0, 256, (12, 3), dtype=np.uint8)
    image.putpalette(colours.tobytes())
    data = encoded(image, "PNG")
    assert np.array_equal(pixels(data), colours[numbers])
    assert done(data) == {"palette"}


def test_alpha_is_seen_on_white() -> None:
    alpha = np.linspace(0, 255, 24 * 40).reshape(24, 40, 1).astype(np.uint8)
    data = encoded(Image.fromarray(np.concatenate([NOISE, alpha], 2)), "PNG")
    share = alpha / 255.0
    assert np.abs(pixels(data) - (share * NOISE + (1 - share) * 255)).max() <= 1
    assert done(data) == {"alpha"}
    grey = np.stack([NOISE[..., 0], np.zeros((24, 40), np.uint8)], 2)
    assert pixels(encoded(Image.fromarray(grey, "LA"), "PNG")).min() == 255


def test_a_transparent_colour_is_white() -> None:
    data = encoded(Image.fromarray(NOISE), "PNG", transparency=tuple(NOISE[0, 0].tolist()))
    assert pixels(data)[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(pixels(data)[1:], NOISE[1:])


def test_cmyk_is_what_its_inks_leave() -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:8, :, 0], inks[8:, :, 3] = 255, 255  # cyan above, black below
    data = encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=95)
    found = pixels(data).astype(int)
    assert np.abs(found[:8] - [0, 255, 255]).max() < 8
    assert found[9:].max() < 8
    assert done(data) == {"CMYK"}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
    upright = np.kron(np.arange(6).reshape(2, 3) * 40, np.ones((8, 8))).astype(np.uint8)
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(turned)), "JPEG", quality=100, exif=exif)
    found = pixels(data)[..., 0].astype(int)
    assert found.shape == upright.shape
    assert np.abs(found - upright).max() <= 3
    assert ("rotated" in done(data)) == (orientation != 1)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_counts(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert pixels(data)[0, 0].tolist() == pytest.approx([255, 0, 0], abs=2)
    assert "several frames" in done(data)


def test_one_pixel_is_enlarged() -> None:
    image = fit(decode_rgb(encoded(Image.new("RGB", (1, 1), (9, 80, 200)), "PNG"))[0], 64)
    assert np.asarray(image).reshape(-1, 3).tolist() == [[9, 80, 200]] * 64**2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"no image at all", "no image that is known"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image that is known"),
        (png_of(12_000, 9_000), f"12000 x 9000 .*{decode.MAX_PIXELS}"),
        (png_of(60_000, 60_000), "DecompressionBomb"),
        (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "mode F"),
        (encoded(Image.fromarray(np.ones((4, 4), np.int32)), "TIFF"), "mode I"),
    ],
)
def test_what_is_no_image_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        decode_rgb(data)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_truncated_images_are_unreadable(form: str) -> None:
    data = encoded(photograph().resize((64, 48)), form)
    for share in (0.02, 0.5, 0.9):
        with pytest.raises(UnreadableImageError):
            decode_rgb(data[: int(share * len(data))])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_damaged_bytes_raise_nothing_else(form: str) -> None:
    rng = np.random.default_rng(5)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if form in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    data = np.frombuffer(encoded(photograph().resize((32, 24)), form, **options), np.uint8)
    readable = 0
    for trial in range(150):
        broken = data.copy()
        limit = len(data) if trial % 2 else min(len(data), 200)  # headers above all
        broken[rng.integers(0, limit, rng.integers(1, 12))] = rng.integers(0, 256)
        with contextlib.suppress(UnreadableImageError):
            decode_rgb(broken.tobytes())
            readable += 1
    assert readable < 150


SIZES = [(640, 427), (427, 640), (256, 256), (257, 256), (300, 1000), (101, 77), (3, 2), (512, 511)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_fit_equals_torchvision(width: int, height: int) -> None:
    image = photograph(1).resize((width, height))
    reference = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC, antialias=True),
            transforms.CenterCrop(256),
        ]
    )
    assert np.array_equal(np.asarray(fit(image, 256)), np.asarray(reference(image)))


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = photograph().crop((0, 0, 128, 128))
    assert np.array_equal(np.asarray(fit(image, 128)), np.asarray(image))


def test_a_line_of_pixels_is_refused_before_it_fills_the_memory() -> None:
    line = Image.new("RGB", (decode.MAX_PIXELS // 256 // 256 + 1, 1))
    with pytest.raises(UnreadableImageError, match=" x 1 pixels"):
        fit(line, 256)


def test_the_teacher_sees_the_bicubic_224_of_the_crop() -> None:
    crop = fit(photograph(), 256)
    reference = np.asarray(crop.resize((224, 224), Image.Resampling.BICUBIC))
    image = torch.from_numpy(np.asarray(crop).copy()).permute(2, 0, 1)[None].float() / 255
    found = Preprocessing(224, (0, 0, 0), (1, 1, 1))(image)[0].permute(1, 2, 0).numpy() * 255
    # Pillow rounds between its two passes, the encoder's own resize does not.
    assert np.abs(found - reference).max() <= 1.5
    assert np.abs(found - reference).mean() < 0.4
