"""The page of an example: the input image, the decoded image, questions and answers."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from trainables.datasets.images.placement import Box
from trainables.datasets.tensors import Pixels
from trainables.tasks.common.box_formats import parse_box

_SIDE = 256  # a single image as drawn; one of several is drawn at half of it
_MARGIN, _GAP = 24, 16
_TEXT_WIDTH = 620
_LINE, _SMALL = 18, 15  # font sizes in pixels
_LABEL = 72
_INK, _PALE, _LINE_GREY = (32, 33, 36), (95, 99, 104), (218, 220, 224)
_RIGHT, _WRONG = (24, 128, 56), (197, 34, 31)
_COLOUR = {True: _RIGHT, False: _WRONG, None: _INK}
_BOX_RIGHT, _BOX_ANSWER = (255, 255, 255), (255, 196, 0)


@dataclass(frozen=True)
class ShownImage:
    """One image of an example.

    Attributes:
        pixels: (H, W, 3), the input.
        decoded: (h, w, 3), another size where the MLLM looks at a view of the image; None where no
            image is decoded.
        bpp: bits per pixel of the input.
        psnr: of the decoded image in dB.
    """

    image_id: str
    pixels: Pixels
    decoded: Pixels | None
    bpp: float
    psnr: float | None


@dataclass(frozen=True)
class Asked:
    """One question and its answer.

    Attributes:
        reference: the right answer, as JSON.
        right: whether the answer is right; None for a metric that does not tell (a caption's
            CIDEr).
    """

    sample_id: str
    task: str
    prompt: str
    reference: str
    answer: str
    right: bool | None


@dataclass(frozen=True)
class Shown:
    """All questions about one image, or about one row of images, the query last."""

    name: str
    images: list[ShownImage]
    asked: list[Asked]


def boxes_of(shown: Shown, asked: Asked) -> tuple[Box, Box | None] | None:
    """The right and the answered box of a question, in fractions of the image's width and height.

    Returns:
        None if the question does not ask for a box; (right, None) if the answer holds no box.
    """
    truth = json.loads(asked.reference)
    if "box" not in truth:
        return None
    height, width = shown.images[-1].pixels.shape[:2]

    def fractions(box: Box) -> Box:
        return (box[0] / width, box[1] / height, box[2] / width, box[3] / height)

    guess = parse_box(asked.answer, float(truth["size"]), truth.get("format", "loc"))
    return fractions(truth["box"]), None if guess is None else fractions(guess)


def draw_example(title: str, shown: Shown) -> Image.Image:
    """Draw the page: input, decoded image beside it (or below, of several images), and text."""
    side = _SIDE if len(shown.images) == 1 else _SIDE // 2
    columns = len(shown.images)
    inputs = [_enlarged(image.pixels, side) for image in shown.images]
    boxes = [pair for asked in shown.asked if (pair := boxes_of(shown, asked)) is not None]
    for wanted, answered in boxes:
        _draw_box(inputs[-1], wanted, _BOX_RIGHT)
        if answered is not None:
            _draw_box(inputs[-1], answered, _BOX_ANSWER)
    inputs = [_square(image, side) for image in inputs]
    decoded = [
        None if image.decoded is None else _square(_enlarged(image.decoded, side), side)
        for image in shown.images
    ]
    beside = columns == 1
    across = 2 * side + _GAP if beside else columns * (side + 4) - 4
    down = side + 46 if beside else 2 * (side + 26) + _GAP
    lines = [line for asked in shown.asked for line in _lines(asked)]
    text_x = _MARGIN + across + 2 * _GAP
    text_height = sum(line.height for line in lines)
    top = _MARGIN + 44
    size = (text_x + _TEXT_WIDTH + _MARGIN, top + max(down, text_height) + _MARGIN)
    page = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    pen.text((_MARGIN, _MARGIN - 4), title, _INK, _font(_LINE + 2))
    rate = f"{_mean([image.bpp for image in shown.images]):.3f} bpp"
    psnr = [image.psnr for image in shown.images if image.psnr is not None]
    rate += f", {_mean(psnr):.1f} dB" if psnr else ""
    pen.text((size[0] - _MARGIN, _MARGIN - 2), rate, _PALE, _font(_LINE), anchor="ra")
    pen.line((_MARGIN, top - 16, size[0] - _MARGIN, top - 16), _LINE_GREY)

    for i, (image, decoded_image) in enumerate(zip(inputs, decoded, strict=True)):
        x = _MARGIN + i * (side + 4)
        page.paste(image, (x, top))
        at = (x + side + _GAP, top) if beside else (x, top + side + 26 + _GAP)
        if decoded_image is not None:
            page.paste(decoded_image, at)
        elif beside or i == 0:
            width = side if beside else across
            pen.rectangle((*at, at[0] + width - 1, at[1] + side - 1), (245, 246, 248), _LINE_GREY)
            middle = (at[0] + width // 2, at[1] + side // 2)
            pen.text(middle, "no image is decoded", _PALE, _font(_SMALL), anchor="mm")
    under = top + side + 4
    pen.text((_MARGIN, under), "input" if beside else "inputs, the query last", _PALE, _font(14))
    if boxes:
        pen.text((_MARGIN, under + 20), "boxes: wanted white, answered amber", _PALE, _font(14))
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


def _lines(asked: Asked) -> Iterator[_Line]:
    """The text of one question."""
    yield _Line(asked.task, _PALE)
    parts = asked.prompt.split("<image>")
    if len(parts) == 2:
        words = " ".join(parts)
    else:
        words = parts[0] + "".join(f" [{i}] {part}" for i, part in enumerate(parts[1:], 1))
    for line in textwrap.wrap(" ".join(words.split()), 64):
        yield _Line(line)
    values = [v for k, v in json.loads(asked.reference).items() if k not in ("size", "format")]
    for label, text, colour in (
        ("wanted", ", ".join(map(str, values)), _INK),
        ("answer", asked.answer or "(nothing)", _COLOUR[asked.right]),
    ):
        for i, line in enumerate(textwrap.wrap(text, 56) or [""]):
            yield _Line(line, colour, label if i == 0 else "", indented=True)
    yield _Line("", height=14)


def _draw_box(image: Image.Image, box: Box, colour: tuple[int, int, int]) -> None:
    x0, x1 = (value * image.width for value in box[::2])
    y0, y1 = (value * image.height for value in box[1::2])
    pen = ImageDraw.Draw(image)
    pen.rectangle((x0 - 2, y0 - 2, x1 + 1, y1 + 1), outline=(0, 0, 0), width=4)
    pen.rectangle((x0 - 1, y0 - 1, x1, y1), outline=colour, width=2)


def _enlarged(image: Pixels, side: int) -> Image.Image:
    height, width = image.shape[:2]
    scale = side / max(height, width)
    # Whole factors keep the codec's artefacts as they are.
    method = Image.Resampling.NEAREST if scale == round(scale) else Image.Resampling.LANCZOS
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(image).resize(size, method)


def _square(image: Image.Image, side: int) -> Image.Image:
    page = Image.new("RGB", (side, side), "white")
    page.paste(image, (0, 0))
    return page


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
