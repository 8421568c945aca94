"""Widths against what Matplotlib measures of drawn text; broken text fits and loses nothing."""

from __future__ import annotations

import warnings

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.figures.common.render import styled
from analysis.figures.common.text_size import broken, text_width, whole_pieces
from tests.analysis.awkward import LONG_CODECS, LONG_MLLMS

TEXTS = ("What the variants change", "Bits saved (%) at 0.95, \u22123.2", *LONG_CODECS, *LONG_MLLMS)


@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.parametrize("size", [6.5, 8.5])
def test_widths_are_those_of_drawn_text(size: float, bold: bool) -> None:
    with styled():
        figure = Figure(dpi=300)
        canvas = FigureCanvasAgg(figure)
        weight = "bold" if bold else "normal"
        for text in TEXTS:
            drawn = figure.text(0, 0, text, fontsize=size, fontweight=weight)
            found = drawn.get_window_extent(canvas.get_renderer()).width / 300
            assert text_width(text, size, bold) == pytest.approx(found, rel=0.03), text


@pytest.mark.parametrize("room", [0.3, 0.8, 3.0])
def test_broken_text_fits_and_is_whole(room: float) -> None:
    for text in TEXTS:
        lines = broken(text, room, 7)
        assert all(text_width(line, 7) <= room for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert broken("d1 k2", 3.0, 7) == ["d1 k2"]


def test_names_are_cut_where_one_would_cut_them() -> None:
    codec, mllm = "released:elic-192-320-lambda-0.0045", "llava-hf/llava-1.5-7b-hf"
    assert broken(f"{codec}, {mllm}", 2.8, 7) == [f"{codec},", mllm]
    assert broken(codec, 1.4, 7) == ["released:elic-192-320-", "lambda-0.0045"]
    assert whole_pieces([codec], 1.0, 7)
    assert not whole_pieces([codec], 0.3, 7)


@pytest.mark.parametrize(
    "text", ["\u4e2d\u6587", "\ud55c\uae00", "a\x07b", "\x1b[31mred", "\U0001f600"]
)
def test_letters_that_the_font_lacks_take_the_width_of_what_is_drawn_instead(text: str) -> None:
    with styled(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Matplotlib's, of each such letter that it draws
        figure = Figure(dpi=300)
        canvas = FigureCanvasAgg(figure)
        drawn = figure.text(0, 0, text, fontsize=8)
        width = drawn.get_window_extent(canvas.get_renderer()).width / 300
        assert text_width(text, 8) == pytest.approx(width, abs=0.03)
    assert "".join(broken(text, 0.01, 8)) == text
