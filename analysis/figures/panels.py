"""Qualitative panels: one image, what each scenario makes of it, and what the MLLM answers.

    sweep's examples, samples.parquet --matched_rate--> points at matched rate --> images, answers

The wanted box is drawn on the input; an answered box on the decoded image, or on a copy of the
input where no image is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from analysis.curves.assemble import Assembled
from analysis.figures.common.looks import Look, Looks, line_style
from analysis.figures.common.render import Plot, file_name, styled
from analysis.figures.common.style import INK, MUTED, RIGHT, WRONG
from analysis.qualitative.examples import Box, Pixels, Question
from analysis.qualitative.matched_rate import Panel, ShownPoint, panels

FULL_WIDTH: Final = 7.0
"""Inches: panels are as wide as a page's text, for they hold sentences."""
WANTED: Final = "#fefefe"
ANSWERED: Final = "#ffc400"
"""Colours of boxes, on a dark edge. (White itself follows the page in a report.)"""
_IMAGE: Final = 0.9
_SHARPEST: Final = 300
"""Pixels along an image: more would not be seen in print."""
_CAPTION: Final = 0.34
_GAP: Final = 0.08
_PER_ROW: Final = int((FULL_WIDTH - 0.1 + _GAP) / (_IMAGE + _GAP))
_SMALL: Final = 6.5
"""Points: of captions."""
_NAME: Final = 1.56
_ROW: Final = 0.135
_LETTER: Final = 0.0545
_COLOUR: Final = {True: RIGHT, False: WRONG, None: INK}


def draw_panels(
    assembled: Assembled, n: int = 2, rate: float | None = None, codec: str = ""
) -> list[Plot]:
    """A figure per image, as wide as a page: images above, a table of answers below.

    Args:
        assembled: the sweep assembled.
        n: images at the most.
        rate, codec: see `panels`.
    """
    looks = Looks.of(assembled)
    out = []
    with styled():
        for number, panel in enumerate(panels(assembled, n, rate, codec), 1):
            title = f"What is seen and answered: {panel.image}"
            figure = _figure(panel, looks, title)
            out.append(Plot(file_name(f"panel-{number}"), title, _words(panel, looks), figure))
    return out


_LONGEST: Final = 17
"""Letters of a name that fit beside a rate."""


@dataclass(frozen=True)
class _Layout:
    """Sizes of a panel's figure in inches, and its texts broken into lines.

    Attributes:
        pictures: what `_pictures` gave.
        image_height: of the tallest image.
        table_top: from the figure's top to the table.
        column: width of a question's column.
        heads: lines of each question, with how they are written.
        bodies: per point and question the lines of the answer.
    """

    pictures: list[tuple[ShownPoint | None, Pixels, list[Box], str]]
    image_height: float
    table_top: float
    column: float
    heads: list[list[tuple[str, dict[str, Any]]]]
    bodies: list[list[list[str]]]

    @classmethod
    def of(cls, panel: Panel) -> _Layout:
        pictures = list(_pictures(panel))
        shapes = [pixels.shape for _, pixels, _, _ in pictures]
        image_height = _IMAGE * max(min(1.0, shape[0] / shape[1]) for shape in shapes)
        image_rows = -(-len(pictures) // _PER_ROW)
        column = (FULL_WIDTH - 0.2 - _NAME) / max(1, len(panel.questions))
        letters = int((column - 0.18) / _LETTER)
        heads = [_head(question, letters) for question in panel.questions.values()]
        bodies = [
            [wrap(_answer(point, sample), letters) or [""] for sample in panel.questions]
            for point in panel.shown
        ]
        table_top = 0.3 + image_rows * (image_height + _CAPTION)
        return cls(pictures, image_height, table_top, column, heads, bodies)

    @property
    def head_height(self) -> float:
        return _ROW * max(map(len, self.heads), default=0)

    @property
    def row_heights(self) -> list[float]:
        return [_ROW * max(map(len, body), default=1) + 0.05 for body in self.bodies]

    @property
    def height(self) -> float:
        return self.table_top + self.head_height + 0.1 + sum(self.row_heights) + 0.08


def _figure(panel: Panel, looks: Looks, title: str) -> Figure:
    figure, layout = Figure(), _Layout.of(panel)
    figure.set_size_inches(FULL_WIDTH, layout.height)
    _write(figure, 0.1, 0.08, title, fontsize=8.5, fontweight="bold")
    codec, names = _names(panel, looks)
    _draw_images(figure, layout, names)
    _draw_table(figure, layout, panel, looks, codec, names)
    return figure


def _write(figure: Figure, x: float, y: float, text: str, **how: Any) -> None:
    """Write a text at inches from the figure's left and top."""
    position = (x / FULL_WIDTH, 1 - y / figure.get_figheight())
    figure.text(*position, text, va="top", **{"fontsize": 7, **how})


def _draw_images(
    figure: Figure, layout: _Layout, names: Mapping[tuple[str, str, str], str]
) -> None:
    """The images in rows, each with its boxes and a caption."""
    small = {"fontsize": _SMALL}
    for number, (point, pixels, boxes, colour) in enumerate(layout.pictures):
        x = 0.1 + number % _PER_ROW * (_IMAGE + _GAP)
        y = 0.3 + number // _PER_ROW * (layout.image_height + _CAPTION)
        scale = _IMAGE / max(pixels.shape[:2])
        high, wide = pixels.shape[0] * scale, pixels.shape[1] * scale
        bottom = 1 - (y + high) / layout.height
        rectangle = (x / FULL_WIDTH, bottom, wide / FULL_WIDTH, high / layout.height)
        axes = figure.add_axes(rectangle)
        axes.imshow(_small(pixels), interpolation="none", extent=(0, 1, 1, 0), aspect="auto")
        axes.set_axis_off()
        _draw_boxes(axes, boxes, colour)
        name = "input" if point is None else _short(names[point.owner])
        _write(figure, x, y + layout.image_height + 0.03, name, **small)
        caption = "wanted box" if boxes else ""
        if point is not None:
            bare = point.decoded is None and not point.is_bound
            caption = f"{point.bpp:.3g}, no image" if bare else f"{point.bpp:.3g} bpp"
        _write(figure, x, y + layout.image_height + 0.14, caption, color=MUTED, **small)


def _draw_table(
    figure: Figure,
    layout: _Layout,
    panel: Panel,
    looks: Looks,
    codec: str,
    names: Mapping[tuple[str, str, str], str],
) -> None:
    """The questions, and below them a row of answers per point."""
    small: dict[str, Any] = {"color": MUTED, "fontsize": _SMALL}
    rates = 0.1 + _NAME - 0.08
    columns = [0.1 + _NAME + number * layout.column for number in range(len(layout.heads))]
    y = layout.table_top
    _write(figure, 0.1, y, _short(codec) if codec else "at matched rate", **small)
    _write(figure, rates, y, "bpp", ha="right", **small)
    for x, lines in zip(columns, layout.heads, strict=True):
        for i, (text, how) in enumerate(lines):
            _write(figure, x, y + i * _ROW, text, **how)
    y += layout.head_height + 0.06
    for point, body, height in zip(panel.shown, layout.bodies, layout.row_heights, strict=True):
        _rule(figure, y / layout.height)
        look = looks.owner(*point.owner)
        _mark(figure, look, 0.17 / FULL_WIDTH, 1 - (y + 0.085) / layout.height)
        _write(figure, 0.28, y + 0.03, _short(names[point.owner]))
        _write(figure, rates, y + 0.03, f"{point.bpp:.3g}", ha="right", **small)
        for x, sample, answer_lines in zip(columns, panel.questions, body, strict=True):
            answer = point.answers.get(sample)
            colour = MUTED if answer is None else _COLOUR[answer.right]
            for i, line in enumerate(answer_lines):
                _write(figure, x, y + 0.03 + i * _ROW, line, color=colour)
        y += height


def _pictures(panel: Panel) -> Iterator[tuple[ShownPoint | None, Pixels, list[Box], str]]:
    """(point, pixels, boxes, their colour) of each image: first the input, which is no point's.

    A point that decodes nothing has one where it answers with a box: a copy of the input, paler
    unless the input is what it saw.
    """
    yield None, panel.pixels, list(panel.boxes.values()), WANTED
    for point in panel.shown:
        boxes = [point.boxes[sample] for sample in panel.boxes if sample in point.boxes]
        if point.decoded is not None:
            yield point, point.decoded, boxes, ANSWERED
        elif boxes:
            paler = (panel.pixels.astype(np.uint16) + 2 * 255) // 3
            image = panel.pixels if point.is_bound else paler.astype(np.uint8)
            yield point, image, boxes, ANSWERED


def _small(pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels)
    image.thumbnail((_SHARPEST, _SHARPEST), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _draw_boxes(axes: Axes, boxes: Sequence[Box], colour: str) -> None:
    for x0, y0, x1, y1 in boxes:
        for edge, width in (("#000000", 2.2), (colour, 1.1)):
            patch = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=edge, lw=width)
            axes.add_patch(patch).set_clip_on(False)


def _names(panel: Panel, looks: Looks) -> tuple[str, dict[tuple[str, str, str], str]]:
    """The codec that all names begin with (empty if they differ), and the names without it."""
    labels = {point.owner: looks.owner(*point.owner).label for point in panel.shown}
    codecs = {owner[0] for owner, label in labels.items() if label.startswith(f"{owner[0]} ")}
    if len(codecs) != 1:
        return "", labels
    (codec,) = codecs
    short = {owner: label.removeprefix(f"{codec} ") for owner, label in labels.items()}
    return f"codec: {codec}", short


def _head(question: Question, letters: int) -> list[tuple[str, dict[str, Any]]]:
    bold = {"fontweight": "bold"}
    return [
        (question.task, {"color": MUTED, "fontsize": 6.5}),
        *((line, bold) for line in _lines(question.prompt, int(letters * 0.9), 4)),
        *((line, {}) for line in _lines(f"wanted: {question.wanted}", letters, 4)),
    ]


def _lines(text: str, letters: int, most: int) -> list[str]:
    return wrap(text, letters, max_lines=most, placeholder=" …")


def _answer(point: ShownPoint, sample: str) -> str:
    """The answer with a mark that repeats what the colour says: right or wrong."""
    answer = point.answers.get(sample)
    if answer is None:
        return "–"
    return f"{answer.mark} {answer.answer or '(nothing)'}"


def _short(label: str) -> str:
    """A name as it fits; the middle goes, as variants differ in their ends."""
    return label if len(label) <= _LONGEST else f"{label[:7]}…{label[8 - _LONGEST :]}"


def _rule(figure: Figure, y: float) -> None:
    ends = (0.1 / FULL_WIDTH, 1 - 0.1 / FULL_WIDTH)
    figure.add_artist(Line2D(ends, (1 - y, 1 - y), color=MUTED, lw=0.4, alpha=0.5))


def _mark(figure: Figure, look: Look, x: float, y: float) -> None:
    figure.add_artist(Line2D([x], [y], **{**line_style(look), "ls": ""}))


def _words(panel: Panel, looks: Looks) -> str:
    sentences = []
    for sample, question in panel.questions.items():
        answers = [
            f"{looks.owner(*point.owner).label} at {point.bpp:.3g} bpp: {answer.answer} "
            f"({answer.verdict})"
            for point in panel.shown
            if (answer := point.answers.get(sample)) is not None
        ]
        asked = f"{question.task}: {question.prompt} Wanted: {question.wanted}."
        sentences.append(f"{asked} {'; '.join(answers)}.")
    return f"Image {panel.image}. " + " ".join(sentences)
