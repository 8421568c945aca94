"""The page of an example: the input image, the decoded image, questions and answers."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from PIL import Image, ImageDraw, ImageFont

from trainables.datasets.arrays import Pixels
from trainables.datasets.images.placement import Box
from trainables.tasks.common.box_formats import parse_box

_SIDE = 256  # a single image as drawn; one of several is drawn at half of it
_MARGIN, _GAP = 24, 16
_TEXT_WIDTH = 620
_TEXT, _SMALL = 18, 14  # font sizes in pixels
_LINE = 25
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
class AnsweredQuestion:
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
class ExamplePage:
    """All questions about one image, or about one row of images, the query last."""

    name: str
    images: list[ShownImage]
    questions: list[AnsweredQuestion]


def boxes_of(example: ExamplePage, question: AnsweredQuestion) -> tuple[Box, Box | None] | None:
    """The right and the answered box of a question, in fractions of the image's width and height.

    Returns:
        None if the question does not ask for a box; (right, None) if the answer holds no box.
    """
    truth = json.loads(question.reference)
    if "box" not in truth:
        return None
    height, width = example.images[-1].pixels.shape[:2]

    def fractions(box: Box) -> Box:
        return (box[0] / width, box[1] / height, box[2] / width, box[3] / height)

    guess = parse_box(question.answer, float(truth["size"]), truth.get("format", "loc"))
    return fractions(truth["box"]), None if guess is None else fractions(guess)


def draw_example(title: str, example: ExamplePage) -> Image.Image:
    """Draw the page: the inputs, the decoded images below them, and the text beside them."""
    side = _SIDE if len(example.images) == 1 else _SIDE // 2
    inputs = [_enlarged(image.pixels, side) for image in example.images]
    decoded = [
        None if image.decoded is None else _enlarged(image.decoded, side)
        for image in example.images
    ]
    down = max(image.height for image in (*inputs, *decoded) if image is not None)
    pairs = (boxes_of(example, question) for question in example.questions)
    boxes = [pair for pair in pairs if pair is not None]
    for wanted, answered in boxes:
        _draw_box(inputs[-1], wanted, _BOX_RIGHT)
        if answered is not None:
            _draw_box(inputs[-1], answered, _BOX_ANSWER)
    lines = [line for question in example.questions for line in _lines(question)]
    across = len(inputs) * (side + _GAP) - _GAP
    text_x, top = 2 * _MARGIN + across, _MARGIN + 44
    below = top + down + 2 * _LINE
    bottom = max(below + down + _LINE, top + _LINE * len(lines)) + _MARGIN
    page = Image.new("RGB", (text_x + _TEXT_WIDTH + _MARGIN, bottom), "white")
    pen, right = ImageDraw.Draw(page), page.width - _MARGIN
    pen.text((_MARGIN, _MARGIN - 4), title, _INK, _font(_TEXT + 2))
    rate = f"{fmean(image.bpp for image in example.images):.3f} bpp"
    psnr = [image.psnr for image in example.images if image.psnr is not None]
    rate += f", {fmean(psnr):.1f} dB" if psnr else ""
    pen.text((right, _MARGIN - 2), rate, _PALE, _font(_TEXT), anchor="ra")
    pen.line((_MARGIN, top - 16, right, top - 16), _LINE_GREY)

    for row, y in ((inputs, top), (decoded, below)):
        for number, image in enumerate(row):
            if image is not None:
                page.paste(image, (_MARGIN + number * (side + _GAP), y))
    under = "input" if len(inputs) == 1 else "inputs, the query last"
    if boxes:
        under += "\nboxes: wanted white, answered amber"
    pen.text((_MARGIN, top + down + 4), under, _PALE, _font(_SMALL))
    if any(decoded):
        pen.text((_MARGIN, below + down + 4), "decoded", _PALE, _font(_SMALL))
    else:
        pen.text((_MARGIN, below), "no image is decoded", _PALE, _font(_SMALL))
    for number, (text, colour) in enumerate(lines):
        pen.text((text_x, top - 2 + _LINE * number), text, colour, _font(_TEXT))
    return page


def _lines(question: AnsweredQuestion) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """The text of one question, line by line with its colour."""
    parts = question.prompt.split("<image>")
    if len(parts) == 2:
        prompt = " ".join(parts)
    else:
        prompt = parts[0] + "".join(f" [{i}] {part}" for i, part in enumerate(parts[1:], 1))
    values = [v for k, v in json.loads(question.reference).items() if k not in ("size", "format")]
    for text, colour in (
        (question.task, _PALE),
        (prompt, _INK),
        (f"wanted: {', '.join(map(str, values))}", _INK),
        (f"answer: {question.answer or '(nothing)'}", _COLOUR[question.right]),
    ):
        yield from ((line, colour) for line in textwrap.wrap(" ".join(text.split()), 64))
    yield "", _INK


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


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
