"""What curves and their points rest on: seeds, and what too few of them leave unknown, as notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from analysis.curves.curve import Curve
from analysis.io.frames import rows_of
from analysis.sampling.bootstrap import SEEDS

NAMED_CURVES: Final = 4
"""Curves that a note names at the most."""
ONE_TRAINING: Final = (
    "one training: differences of the method and of the training cannot be told apart"
)


def about_seeds(curve: Curve, anchor: Curve) -> str:
    """The caveats about a curve and its anchor: unequal numbers of trainings at their rates, and
    fewer than their variation needs; empty where there are none."""
    notes = _caveats(curve)
    of_anchor = [note for note in _caveats(anchor) if note not in notes]
    name = anchor.display_name
    notes += [note if note.startswith(name) else f"{name}: {note}" for note in of_anchor]
    return "; ".join(notes)


def _caveats(curve: Curve) -> list[str]:
    """The caveats about one curve."""
    n, least = len(curve.seeds), fewest_seeds(curve)
    few = ""
    if 1 < n < SEEDS:
        few = f"{n} seeds: intervals are over test samples only"
    elif 1 < least < SEEDS:
        few = (
            f"{curve.display_name} has only {least} of {n} trainings at some rates: there "
            "intervals are over test samples only"
        )
    notes = (unequal_seeds(curve), few, one_training(curve, list(rows_of(curve.frame))))
    return [note for note in notes if note]


def fewest_seeds(curve: Curve) -> int:
    """The smallest number of trainings at one of a curve's rates; 0 without points."""
    return min(map(len, curve.frame["seeds"]), default=0)


def unequal_seeds(curve: Curve) -> str:
    """Which points rest on which seeds, where these differ; empty otherwise."""
    rates: dict[tuple[int, ...], list[str]] = {}
    for row in rows_of(curve.frame):
        rates.setdefault(tuple(sorted(row.seeds)), []).append(f"{row.bpp:.3g}")
    if len(rates) < 2 or not curve.look.depends_on_seed:
        return ""
    parts = [f"on {_in_words(seeds)} at {', '.join(where)} bpp" for seeds, where in rates.items()]
    return f"{curve.display_name} rests {', '.join(parts)}"


def other_numbers(curve: Curve, compared: Iterable[Curve]) -> str:
    """Which curves of a comparison rest on another number of trainings; empty without any.

    Args:
        curve: one of them.
        compared: all curves of the comparison; those of its MLLM, task and codec count that were
            trained.
    """
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    kind = (curve.mllm, curve.task, curve.codec)
    for other in compared if curve.look.depends_on_seed else ():
        is_beside = (other.mllm, other.task, other.codec) == kind and len(other.frame)
        if is_beside and other.look.depends_on_seed and len(other.seeds) != len(curve.seeds):
            name = f"{other.display_name} {other.variant}".strip()
            by_seeds.setdefault(other.seeds, []).append(name)
    if not by_seeds:
        return ""
    parts = [f"{_listed(names)} {_in_words(seeds)}" for seeds, names in by_seeds.items()]
    return f"other numbers of trainings: here {_in_words(curve.seeds)}, {', '.join(parts)}"


def _listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMED_CURVES
    return ", ".join(names[:NAMED_CURVES]) + (f" and {more} more" if more > 0 else "")


def _in_words(seeds: Sequence[int]) -> str:
    """`seed 0`, `seeds 0, 1 and 2`."""
    *first, last = map(str, seeds)
    return f"seeds {', '.join(first)} and {last}" if first else f"seed {last}"


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
