"""Example pictures of an evaluation: what went in, what a person would see, questions, answers."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from trainables.tasks import parse_box

Pixels = NDArray[np.uint8]

_SIDE = 256  # a single image as drawn; one of several is drawn at half of it
_MARGIN, _GAP = 24, 16
_TEXT_WIDTH = 620
_LINE, _SMALL = 18, 15  # font sizes in pixels
_LABEL = 72
_INK, _PALE, _LINE_GREY = (32, 33, 36), (95, 99, 104), (218, 220, 224)
_RIGHT, _WRONG = (24, 128, 56), (197, 34, 31)
_BOX_RIGHT, _BOX_ANSWER = (255, 255, 255), (255, 196, 0)


@dataclass(frozen=True)
class Shown:
    """One picture.

    images and decoded: (H, W, 3) each, decoded None where no image is decoded; psnr in dB;
    asked: (task, prompt, reference as JSON, answer, whether it is right).
    """

    name: str
    images: list[Pixels]
    decoded: list[Pixels | None]
    bpp: float
    psnr: float | None
    asked: list[tuple[str, str, str, str, bool]]


def write_examples(directory: Path, title: str, pictures: Sequence[Shown]) -> None:
    """Draw each picture to `directory/<name>.png`; what is no letter or digit there becomes `_`."""
    directory.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", picture.name)
        draw_example(title, picture).save(directory / f"{name}.png")


def draw_example(title: str, shown: Shown) -> Image.Image:
    """The picture: input and decoded image above each other, or beside each other, and the text."""
    side = _SIDE if len(shown.images) == 1 else _SIDE // 2
    columns = len(shown.images)
    inputs = [_enlarged(image, side) for image in shown.images]
    for _, _, reference, answer, _ in shown.asked:
        _draw_boxes(inputs[0], reference, answer, len(shown.images[0]))
    decoded = [None if image is None else _enlarged(image, side) for image in shown.decoded]
    beside = columns == 1
    across = 2 * side + _GAP if beside else columns * (side + 4) - 4
    down = side + 46 if beside else 2 * (side + 26) + _GAP
    lines = [line for asked in shown.asked for line in _lines(*asked)]
    text_x = _MARGIN + across + 2 * _GAP
    text_height = sum(line.height for line in lines)
    top = _MARGIN + 44
    size = (text_x + _TEXT_WIDTH + _MARGIN, top + max(down, text_height) + _MARGIN)
    page = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    pen.text((_MARGIN, _MARGIN - 4), title, _INK, _font(_LINE + 2))
    rate = f"{shown.bpp:.3f} bpp" + ("" if shown.psnr is None else f", {shown.psnr:.1f} dB")
    pen.text((size[0] - _MARGIN, _MARGIN - 2), rate, _PALE, _font(_LINE), anchor="ra")
    pen.line((_MARGIN, top - 16, size[0] - _MARGIN, top - 16), _LINE_GREY)

    for i, (image, other) in enumerate(zip(inputs, decoded, strict=True)):
        x = _MARGIN + i * (side + 4)
        page.paste(image, (x, top))
        at = (x + side + _GAP, top) if beside else (x, top + side + 26 + _GAP)
        if other is not None:
            page.paste(other, at)
        elif beside or i == 0:
            width = side if beside else across
            pen.rectangle((*at, at[0] + width - 1, at[1] + side - 1), (245, 246, 248), _LINE_GREY)
            middle = (at[0] + width // 2, at[1] + side // 2)
            pen.text(middle, "no image is decoded", _PALE, _font(_SMALL), anchor="mm")
    under = top + side + 4
    pen.text((_MARGIN, under), "input" if beside else "inputs, the query last", _PALE, _font(14))
    if _has_box(shown):
        boxes = "boxes: wanted white, answered amber"
        pen.text((_MARGIN, under + 20), boxes, _PALE, _font(14))
    at = (_MARGIN + side + _GAP, under) if beside else (_MARGIN, under + side + 26 + _GAP)
    pen.text(at, "decoded", _PALE, _font(14))

    y = top - 2
    for line in lines:
        font = _font(_SMALL if line.colour == _PALE else _LINE)
        pen.text((text_x, y), line.label, line.colour, font)
        pen.text((text_x + (_LABEL if line.indented else 0), y), line.text, line.colour, font)
        y += line.height
    return page


@dataclass(frozen=True)
class _Line:
    text: str
    colour: tuple[int, int, int] = _INK
    label: str = ""
    indented: bool = False
    height: int = _LINE + 7


def _lines(task: str, prompt: str, reference: str, answer: str, right: bool) -> Iterator[_Line]:
    """The text of one question."""
    yield _Line(task, _PALE)
    parts = prompt.split("<image>")
    if len(parts) == 2:
        words = " ".join(parts)
    else:
        words = parts[0] + "".join(f" [{i}] {part}" for i, part in enumerate(parts[1:], 1))
    for line in textwrap.wrap(" ".join(words.split()), 64):
        yield _Line(line)
    values = [v for k, v in json.loads(reference).items() if k != "size"]
    for label, text, colour in (
        ("wanted", ", ".join(map(str, values)), _INK),
        ("answer", answer or "(nothing)", _RIGHT if right else _WRONG),
    ):
        for i, line in enumerate(textwrap.wrap(text, 56) or [""]):
            yield _Line(line, colour, label if i == 0 else "", indented=True)
    yield _Line("", height=14)


def _has_box(shown: Shown) -> bool:
    return any("box" in json.loads(reference) for _, _, reference, _, _ in shown.asked)


def _draw_boxes(image: Image.Image, reference: str, answer: str, original: int) -> None:
    """The wanted box in white, the answered one in amber, where the reference has a box."""
    truth = json.loads(reference)
    if "box" not in truth:
        return
    pen, scale = ImageDraw.Draw(image), image.width / original
    guess = parse_box(answer, float(truth["size"]))
    for box, colour in ((truth["box"], _BOX_RIGHT), (guess, _BOX_ANSWER)):
        if box is not None:
            x0, y0, x1, y1 = (float(value) * scale for value in box)
            pen.rectangle((x0 - 2, y0 - 2, x1 + 1, y1 + 1), outline=(0, 0, 0), width=4)
            pen.rectangle((x0 - 1, y0 - 1, x1, y1), outline=colour, width=2)


def _enlarged(image: Pixels, side: int) -> Image.Image:
    height, width = image.shape[:2]
    scale = side / max(height, width)
    # Whole factors keep the codec's artefacts as they are.
    method = Image.Resampling.NEAREST if scale == round(scale) else Image.Resampling.LANCZOS
    drawn = Image.fromarray(image).resize((round(width * scale), round(height * scale)), method)
    page = Image.new("RGB", (side, side), "white")
    page.paste(drawn, (0, 0))
    return page


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
