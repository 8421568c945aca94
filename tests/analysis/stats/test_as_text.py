"""Numbers as short text."""

from __future__ import annotations

import math

import pytest

from analysis.stats.as_text import bracketed, rounded, span, with_interval


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(-0.4, 0, "0"), (0.4, 0, "0"), (-0.004, 2, "0.00"), (-0.6, 0, "-1"), (12.3, 0, "+12")],
)
def test_what_rounds_to_nothing_has_no_sign(value: float, digits: int, text: str) -> None:
    assert rounded(value, digits=digits) == text


def test_a_range_whose_ends_round_to_one_number_is_that_number() -> None:
    assert span(0.1201, 0.1199, 2) == "0.12"
    assert span(0.0932, 0.0899, 2) == "0.09"
    assert span(0.0899, 0.0932, 3) == "0.090–0.093"
    assert span(0.4, 0.854, 2) == "0.40–0.85"
    assert span(math.nan, math.nan, 2) == ""


def test_an_interval_has_no_sign_at_nothing_and_keeps_what_has_no_end() -> None:
    assert with_interval(-0.2, -10.4, 0.3, sign=True) == "0 % [−10, 0]"
    assert with_interval(3.0, -math.inf, 40.0) == "3 % [−∞, 40]"
    assert with_interval(math.nan) == ""


def test_an_interval_that_leaves_out_zero_shows_it() -> None:
    assert bracketed(0.0004, 0.08, sign=True, digits=2) == "[+0.0004, +0.08]"
    assert bracketed(-0.05, -0.0024, digits=2) == "[−0.05, −0.002]"
    assert bracketed(-0.002, 0.02, sign=True, digits=2) == "[0.00, +0.02]"
    assert bracketed(-13.0, -0.3) == "[−13, −0.3]"
