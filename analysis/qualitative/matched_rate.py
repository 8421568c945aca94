"""Qualitative panels: a test image and the answers of points at matched rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.io.frames import rows_of
from analysis.io.scenarios import Scenarios
from analysis.qualitative.examples import (
    Answer,
    Box,
    Example,
    Pixels,
    Question,
    SharedKey,
    answers_to,
    examples_of,
    read_image,
)

QUESTIONS: Final = 4
"""Largest number of questions in a panel."""


@dataclass(frozen=True)
class ShownPoint:
    """One point in a panel: its bits per pixel of this image, what it decoded, if anything, and its
    answers and boxes by sample."""

    key: str
    codec: str
    scenario: str
    variant: str
    is_bound: bool
    bpp: float
    decoded: Pixels | None
    answers: Mapping[str, Answer]
    boxes: Mapping[str, Box]

    @property
    def owner(self) -> tuple[str, str, str]:
        """Codec, scenario and variant."""
        return self.codec, self.scenario, self.variant


@dataclass(frozen=True)
class Panel:
    """One test image: the questions and the wanted boxes by sample, and the points' answers.

    Attributes:
        shared_key: data set, MLLM and image, as in `Example.shared_key`.
    """

    shared_key: SharedKey
    pixels: Pixels
    questions: Mapping[str, Question]
    boxes: Mapping[str, Box]
    shown: list[ShownPoint]

    @property
    def image(self) -> str:
        """The image's id."""
        return self.shared_key[2][-1]


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
        codec: whose points are shown, beside those of scenarios that use no learned image codec of
            the space; by default the first with an anchor.

    Returns:
        Nothing where examples or per-sample answers are not known.
    """
    sweep = assembled.sweep
    stored = {
        key: {example.shared_key: example for example in examples if len(example.images) == 1}
        for key, examples in examples_of(sweep).items()
    }
    points = sweep.points.drop_duplicates("point_key")
    points = points[points["point_key"].map(lambda key: bool(stored.get(key)))]
    points = points.assign(codec=points["codec"].fillna(""))
    if points.empty:
        return []
    scenarios = sweep.scenarios
    is_anchor = points["scenario"] == sweep.anchor
    codec = codec or next(filter(None, points.loc[is_anchor, "codec"].unique()), "")
    any_codec = ~points["scenario"].map(scenarios.has_base_codec).astype(bool)
    points = points[(points["codec"] == codec) | any_codec] if codec else points
    chosen = _matched(points, rate or _target(points, sweep.anchor, scenarios), scenarios)
    shown = [stored[key] for key in chosen["point_key"]]
    answers = answers_to(assembled, [example for by_key in shown for example in by_key.values()])
    out: list[Panel] = []
    for shared_key in _most_shared(shown):
        if len(out) == n:
            break
        panel = _panel(assembled, shared_key, chosen, shown, answers)
        if panel is not None:
            out.append(panel)
    return out


def _target(points: pd.DataFrame, anchor: str, scenarios: Scenarios) -> float:
    """The lower middle rate of the anchor; without one of all curves, without those of all."""
    of_anchor = points[points["scenario"] == anchor]
    of_curves = points[~points["scenario"].map(scenarios.is_bound).astype(bool)]
    chosen = next((rows for rows in (of_anchor, of_curves) if len(rows)), points)
    rates = np.sort(chosen["bpp"].to_numpy(dtype=np.float64))
    return float(rates[(len(rates) - 1) // 2])


def _matched(points: pd.DataFrame, target: float, scenarios: Scenarios) -> pd.DataFrame:
    """One point of every curve, the nearest in log rate; the first seed."""
    distance = np.abs(np.log(points["bpp"].astype(float) / target))
    rows = points.assign(_distance=distance).sort_values(["_distance", "seed"])
    nearest = rows.drop_duplicates(["codec", "variant", "scenario"])
    rank = nearest["scenario"].map(lambda s: (not scenarios.is_bound(s), scenarios.rank(s)))
    return nearest.assign(_rank=rank).sort_values(["_rank", "codec", "variant"], ignore_index=True)


def _most_shared(shown: Sequence[Mapping[SharedKey, Example]]) -> list[SharedKey]:
    count = Counter(key for examples in shown for key in examples)
    return [key for key, _ in count.most_common()]  # of equal ones in the order of storage


def _panel(
    assembled: Assembled,
    shared_key: SharedKey,
    chosen: pd.DataFrame,
    stored: Sequence[Mapping[SharedKey, Example]],
    answers: Mapping[tuple[str, str, str, str], Answer],
) -> Panel | None:
    sweep, (dataset, mllm, _) = assembled.sweep, shared_key
    pixels: Pixels | None = None
    questions: dict[str, Question] = {}
    wanted: dict[str, Box] = {}
    shown = []
    for row, examples in zip(rows_of(chosen), stored, strict=True):
        example = examples.get(shared_key)
        if example is None:
            continue
        pixels = read_image(sweep, example.query.input) if pixels is None else pixels
        point_answers = {
            sample: answer
            for sample in example.samples
            if (answer := answers.get((row.point_key, dataset, mllm, sample)))
        }
        path = example.query.decoded
        decoded = None if path is None else read_image(sweep, path)
        if not point_answers or (path is not None and decoded is None):
            continue
        questions |= {sample: answer.question for sample, answer in point_answers.items()}
        wanted |= example.wanted
        is_bound = sweep.scenarios.is_bound(row.scenario)
        about = (row.point_key, row.codec, row.scenario, row.variant, is_bound, example.query.bpp)
        shown.append(ShownPoint(*about, decoded, point_answers, example.answered))
    if pixels is None or not shown:
        return None
    asked = dict(list(questions.items())[:QUESTIONS])
    return Panel(
        shared_key, pixels, asked, {s: box for s, box in wanted.items() if s in asked}, shown
    )
