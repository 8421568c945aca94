"""What a qualitative panel shows: a test image, and what the points at matched rate make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import BOUND, IMAGE_FREE, Assembled, scenario_rank
from analysis.io.frames import rows_of
from analysis.qualitative.examples import (
    Box,
    Example,
    Pixels,
    Question,
    Said,
    answers_to,
    examples_of,
    read_image,
)
from analysis.stats.anchor import ANCHOR

QUESTIONS: Final = 4
"""Of a panel at the most."""


@dataclass(frozen=True)
class Shown:
    """One point in a panel: its bits per pixel of this image, what it decoded, if anything, and its
    answers and boxes by sample."""

    key: str
    codec: str
    scenario: str
    variant: str
    bpp: float
    decoded: Pixels | None
    answers: Mapping[str, Said]
    boxes: Mapping[str, Box]

    @property
    def owner(self) -> tuple[str, str, str]:
        """Codec, scenario and variant."""
        return self.codec, self.scenario, self.variant


@dataclass(frozen=True)
class Panel:
    """One test image: the questions and the wanted boxes by sample, and the points' answers.

    Attributes:
        of: data set, MLLM and image, as in `Example.of`.
    """

    of: tuple[str, str, tuple[str, ...]]
    pixels: Pixels
    questions: Mapping[str, Question]
    boxes: Mapping[str, Box]
    shown: list[Shown]

    @property
    def image(self) -> str:
        """The image's id."""
        return self.of[2][-1]


def panels(
    assembled: Assembled, n: int = 2, rate: float | None = None, codec: str = ""
) -> list[Panel]:
    """The stored test images that the most points share, each with the points at matched rate.

    Examples of several images (few-shot) have no panel.

    Args:
        assembled: the sweep assembled.
        n: images at the most.
        rate: bits per pixel to match; by default that of the anchor's lower middle rate. Of every
            curve the point nearest to it (in log rate) is shown, with its own rate.
        codec: whose points are shown, beside those of standards and of coded features; by default
            the first with an anchor.

    Returns:
        Nothing where examples or per-sample answers are not known.
    """
    sweep = assembled.sweep
    stored = {
        key: {one.of: one for one in own if len(one.images) == 1}
        for key, own in examples_of(sweep).items()
    }
    points = sweep.points.drop_duplicates("point_key")
    points = points[points["point_key"].map(lambda key: bool(stored.get(key)))]
    points = points.assign(codec=points["codec"].fillna(""))
    if points.empty:
        return []
    learned = [c for c in points.loc[points["scenario"] == ANCHOR, "codec"].unique() if c]
    codec = codec or next(iter(learned), "")
    own = (points["codec"] == codec) | points["scenario"].isin((*IMAGE_FREE, BOUND))
    points = points[own] if codec else points
    chosen = _matched(points, rate or _target(points))
    shown = [stored[key] for key in chosen["point_key"]]
    answers = answers_to(assembled, [example for made in shown for example in made.values()])
    out: list[Panel] = []
    for of in _most_shared(shown):
        if len(out) == n:
            break
        found = _panel(assembled, of, chosen, shown, answers)
        if found is not None:
            out.append(found)
    return out


def _target(points: pd.DataFrame) -> float:
    own = points[points["scenario"] == ANCHOR]
    own = points[points["scenario"] != BOUND] if own.empty else own
    rates = np.sort((points if own.empty else own)["bpp"].to_numpy(dtype=np.float64))
    return float(rates[(len(rates) - 1) // 2])


def _matched(points: pd.DataFrame, target: float) -> pd.DataFrame:
    """One point of every curve, the nearest in log rate; the first seed."""
    distance = np.abs(np.log(points["bpp"].astype(float) / target))
    rows = points.assign(_distance=distance).sort_values(["_distance", "seed"])
    one = rows.drop_duplicates(["codec", "variant", "scenario"])
    rank = one["scenario"].map(lambda s: (s != BOUND, scenario_rank(s)))
    return one.assign(_rank=rank).sort_values(["_rank", "codec", "variant"], ignore_index=True)


_Of = tuple[str, str, tuple[str, ...]]


def _most_shared(shown: Sequence[Mapping[_Of, Example]]) -> list[_Of]:
    count: dict[_Of, int] = {}
    for own in shown:
        for of in own:
            count[of] = count.get(of, 0) + 1
    return sorted(count, key=lambda of: -count[of])  # stable: in the order of storage


def _panel(
    assembled: Assembled,
    of: _Of,
    chosen: pd.DataFrame,
    stored: Sequence[Mapping[_Of, Example]],
    answers: Mapping[tuple[str, str, str, str], Said],
) -> Panel | None:
    sweep, (dataset, mllm, _) = assembled.sweep, of
    pixels: Pixels | None = None
    questions: dict[str, Question] = {}
    wanted: dict[str, Box] = {}
    shown = []
    for row, examples in zip(rows_of(chosen), stored, strict=True):
        example = examples.get(of)
        if example is None:
            continue
        pixels = read_image(sweep, example.query.input) if pixels is None else pixels
        own = {
            sample: said
            for sample in example.samples
            if (said := answers.get((row.point_key, dataset, mllm, sample)))
        }
        path = example.query.decoded
        decoded = None if path is None else read_image(sweep, path)
        if not own or (path is not None and decoded is None):
            continue
        questions |= {sample: said.question for sample, said in own.items()}
        wanted |= example.wanted
        about = (row.point_key, row.codec, row.scenario, row.variant, example.query.bpp)
        shown.append(Shown(*about, decoded, own, example.answered))
    if pixels is None or not shown:
        return None
    asked = dict(list(questions.items())[:QUESTIONS])
    return Panel(of, pixels, asked, {s: box for s, box in wanted.items() if s in asked}, shown)
