"""What the seeds of a curve leave unknown, in the words of a note."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from analysis.curves.curve import Curve
from analysis.io.frames import rows_of
from analysis.sampling.bootstrap import SEEDS

ONE_TRAINING: Final = (
    "one training: differences of the method and of the training cannot be told apart"
)


def about_seeds(*curves: Curve) -> str:
    """The caveat about curves with fewer trainings than their variation needs; empty otherwise."""
    for curve in curves:
        n, least = len(curve.seeds), min(map(len, curve.frame["seeds"]), default=0)
        if 1 < n < SEEDS:
            return f"{n} seeds: intervals are over test samples only"
        if 1 < least < SEEDS:
            return (
                f"{curve.display_name} has only {least} of {n} trainings at some rates: there "
                "intervals are over test samples only"
            )
    said = (one_training(curve, list(rows_of(curve.frame))) for curve in curves)
    return next(filter(None, said), "")


def one_training(curve: Curve, rows: Sequence[Any]) -> str:
    """What some of a curve's points cannot show, of which one was trained once; else empty.

    Args:
        rows: of the curve's frame.
    """
    once = [row for row in rows if len(row.seeds) == 1]
    if not once or not curve.look.depends_on_seed:
        return ""
    if len(curve.seeds) == 1:
        return ONE_TRAINING
    rates = ", ".join(f"{row.bpp:.3g}" for row in once)
    return f"{curve.display_name} at {rates} bpp: {ONE_TRAINING}"
