"""Numbers and their intervals as short text."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

_MOST_DIGITS: Final = 6
"""After the point, of an end of an interval that is hardly 0."""


def span(low: float, high: float, digits: int) -> str:
    """`0.12–0.50` as short text, one number where both round to it; empty where unknown."""
    if np.isnan(low):
        return ""
    ends = dict.fromkeys(f"{end:.{digits}f}" for end in (low, high))
    return "–".join(ends)


def with_interval(
    value: float,
    low: float = float("nan"),
    high: float = float("nan"),
    sign: bool = False,
    digits: int = 0,
    unit: str = " %",
) -> str:
    """`-34 % [-41, -28]` as short text; empty where there is no number."""
    if np.isnan(value):
        return ""
    text = f"{rounded(value, sign, digits)}{unit}".replace("-", "−")
    return f"{text} {bracketed(low, high, sign, digits)}".strip()


def rounded(value: float, sign: bool = True, digits: int = 0) -> str:
    """`+12` or `-3`; what rounds to nothing is `0` and has no sign.

    Args:
        value: any number.
        sign: whether positive numbers have one.
        digits: after the point.
    """
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def over(low: float, high: float) -> str:
    """A range of accuracies, ` over 0.44–0.85`; empty where unknown."""
    return f" over {span(low, high, 2)}" if np.isfinite(low) else ""


def bd_rate_over(row: Any) -> str:
    """A BD-rate with its interval and the accuracies that it is over; empty where there is none.

    Args:
        row: of `compare`'s frame.
    """
    text = with_interval(row.bd_rate, row.bd_rate_low, row.bd_rate_high, sign=True)
    return text and text + over(row.shared_low, row.shared_high)


def bracketed(low: float, high: float, sign: bool = False, digits: int = 0) -> str:
    """An interval, `[-41, -28]`; empty where there is none.

    An end has more digits where it would be 0 otherwise although the interval leaves 0 out.
    """
    leaves_out_zero = low > 0 or high < 0
    ends = ", ".join(_end(end, sign, digits, leaves_out_zero) for end in (low, high))
    text = "" if np.isnan(low) else f"[{ends}]"
    return text.replace("inf", "∞").replace("-", "−")


def _end(end: float, sign: bool, digits: int, leaves_out_zero: bool) -> str:
    text = rounded(end, sign, digits)
    while leaves_out_zero and digits < _MOST_DIGITS and float(text) == 0:
        digits += 1
        text = rounded(end, sign, digits)
    return text
