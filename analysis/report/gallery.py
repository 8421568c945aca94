"""The report's gallery: for each stored test image the decoded images and answers of all points.

pictures   every distinct image of the page once, as a data URI
shown      test image --> its input and the questions
                      --> by codec and rate a card per point: its image, bits and answers
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from textwrap import shorten
from typing import Any, Final

import pandas as pd
from PIL import Image

from analysis.curves.assemble import Assembled
from analysis.io.names import number_duplicates
from analysis.io.scenarios import Scenarios
from analysis.qualitative.examples import (
    Answer,
    Example,
    SharedKey,
    answers_to,
    examples_of,
    read_image,
)
from analysis.report.embed import data_uri
from analysis.report.tables import number, rate_words

GROUPS: Final = 4
"""Largest number of test images, or rows of them."""
CARDS: Final = 320
"""Largest number of cards of all test images together."""
BYTES: Final = 900_000
"""Largest size of all images together, as data URIs."""
QUESTIONS: Final = 6
"""Largest number of questions about a test image."""
LONGEST: Final = ((36, 256), (60, 192))
"""Images at the most, and pixels along each; larger ones are scaled down."""
LEAST: Final = 128
"""Pixels along an image where there are more: photographs of this size take 8 kB each."""
_LETTERS: Final = 160
"""Longest answer or wanted text."""


@dataclass(frozen=True)
class Picture:
    """A distinct image of the page; width and height in pixels."""

    name: str
    uri: str
    width: int
    height: int


@dataclass
class Gallery:
    """The examples that the page shows.

    Attributes:
        pictures: each distinct image.
        shown: a dict per test image, for the template.
        left: cards that had no room.
    """

    pictures: list[Picture] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    left: int = 0

    @property
    def boxed(self) -> bool:
        """Whether a box is wanted anywhere."""
        return any(test_image["input"]["boxes"] for test_image in self.shown)

    @property
    def cards(self) -> int:
        """Points of all test images."""
        return sum(test_image["cards"] for test_image in self.shown)


def gallery(assembled: Assembled) -> Gallery:
    """The stored examples of each curve's first seed, within the limits; empty without any.

    Test images come one after the other; of their points those of the lowest rates have room first.
    """
    sweep, page = assembled.sweep, Gallery()
    stored = {
        key: {example.shared_key: example for example in examples}
        for key, examples in examples_of(sweep).items()
    }
    points = sweep.points.drop_duplicates("point_key")
    points = points[points["point_key"].isin(stored)].sort_values("seed", kind="stable")
    of_rate = ["codec", "variant", "scenario", "lmbda", "quality"]
    points = points.drop_duplicates([name for name in of_rate if name in points])
    ordered = points.sort_values("bpp").iterrows()
    gallery_points = [_GalleryPoint.of(row, stored, sweep.scenarios) for _, row in ordered]
    answers = answers_to(
        assembled, [example for point in gallery_points for example in point.examples.values()]
    )
    groups = list(dict.fromkeys(key for point in gallery_points for key in point.examples))
    images = _Images(assembled, page, _longest(gallery_points, groups[:GROUPS]))
    for index, shared_key in enumerate(groups):
        having = [point for point in gallery_points if shared_key in point.examples]
        name = _evaluation(shared_key) if len({_evaluation(group) for group in groups}) > 1 else ""
        room = CARDS - page.cards
        shown = _shown(having, shared_key, images, answers, room) if index < GROUPS else None
        page.left += len(having) - (shown["cards"] if shown else 0)
        if shown:
            page.shown.append({**shown, "evaluation": name})
    return page


_Answers = Mapping[tuple[str, str, str, str], Answer]


@dataclass(frozen=True)
class _GalleryPoint:
    """A point and its examples; `owner` is codec, scenario and variant."""

    key: str
    owner: tuple[str, str, str]
    rate: str
    examples: Mapping[SharedKey, Example]
    name: str
    order: tuple[tuple[int, str], str]
    is_bound: bool

    @classmethod
    def of(
        cls, row: Any, stored: Mapping[str, Mapping[SharedKey, Example]], scenarios: Scenarios
    ) -> _GalleryPoint:
        codec = "" if pd.isna(row["codec"]) else str(row["codec"])
        key, scenario, variant = str(row["point_key"]), str(row["scenario"]), str(row["variant"])
        name = f"{scenarios.title(scenario)} {variant}".strip()
        order = (scenarios.rank(scenario), variant)
        fields = (key, (codec, scenario, variant), rate_words(row), stored[key])
        return cls(*fields, name, order, scenarios.is_bound(scenario))


def _longest(points: Sequence[_GalleryPoint], groups: Sequence[SharedKey]) -> int:
    """Pixels along an image, so that all of these test images have room."""
    examples = [point.examples[key] for point in points for key in groups if key in point.examples]
    files = {image.input for example in examples for image in example.images}
    files |= {example.query.decoded for example in examples if example.query.decoded is not None}
    return next((pixels for most, pixels in LONGEST if len(files) <= most), LEAST)


def _evaluation(key: SharedKey) -> str:
    return f"{key[0]}, {key[1].rpartition('/')[2]}"


class _Images:
    """The gallery's images by file name, each read and written once."""

    def __init__(self, assembled: Assembled, into: Gallery, longest: int) -> None:
        self._sweep, self._into, self._longest = assembled.sweep, into, longest
        self._known: dict[str, Picture | None] = {}
        self._bytes = 0

    def get(self, path: str) -> Picture | None:
        """None where the file is gone, or there is no more room."""
        name = path.rpartition("/")[2]  # a hash of the content
        if name not in self._known:
            pixels = read_image(self._sweep, path)
            picture = None
            if pixels is not None:
                image = Image.fromarray(pixels)
                image.thumbnail((self._longest, self._longest), Image.Resampling.LANCZOS)
                uri = data_uri(image)
                if self._bytes + len(uri) <= BYTES:
                    picture = Picture(f"i{len(self._into.pictures)}", uri, *image.size)
                    self._bytes += len(uri)
                    self._into.pictures.append(picture)
            self._known[name] = picture
        return self._known[name]


def _shown(
    points: Sequence[_GalleryPoint],
    shared_key: SharedKey,
    images: _Images,
    answers: _Answers,
    room: int,
) -> dict[str, Any] | None:
    """A test image with at most so many of these points; None where there is no room."""
    example = points[0].examples[shared_key]
    inputs = [picture for image in example.images if (picture := images.get(image.input))]
    if len(inputs) < len(example.images) or room < 1:
        return None
    asked: dict[str, Answer] = {}
    for point in points:
        for sample in point.examples[shared_key].samples:
            answer = answers.get((point.key, *shared_key[:2], sample))
            if answer is not None and len(asked) < QUESTIONS:
                asked.setdefault(sample, answer)
    tasks = [answer.question.task for answer in asked.values()]
    labels = dict(zip(asked, number_duplicates(tasks), strict=True))
    all_cards = (_card(point, shared_key, inputs[-1], images, labels, answers) for point in points)
    cards = list(islice(filter(None, all_cards), room))
    wanted = [example.wanted[sample] for sample in asked if sample in example.wanted]
    return {
        "title": example.query.id,
        "shots": [{"picture": picture, "boxes": []} for picture in inputs[:-1]],
        "input": {"picture": inputs[-1], "boxes": wanted},
        "questions": [
            {
                "label": label,
                "prompt": asked[sample].question.prompt,
                "wanted": _cut(asked[sample].question.wanted),
            }
            for sample, label in labels.items()
        ],
        "bound": [card for card in cards if not card["codec"]],
        "parts": _parts([card for card in cards if card["codec"]]),
        "cards": len(cards),
    }


def _card(
    point: _GalleryPoint,
    shared_key: SharedKey,
    query: Picture,
    images: _Images,
    labels: Mapping[str, str],
    answers: _Answers,
) -> dict[str, Any] | None:
    """The card of a point: its image, bits and answers; None where its image has no room."""
    example = point.examples[shared_key]
    path = example.query.decoded
    picture = None if path is None else images.get(path)
    if path is not None and picture is None:
        return None
    boxes = [example.answered[sample] for sample in labels if sample in example.answered]
    pale = path is None and not point.is_bound and bool(boxes)
    # The bound is seen as it is.
    picture = query if pale or point.is_bound else picture
    return {
        "owner": point.owner,
        "name": point.name,
        "order": point.order,
        "codec": point.owner[0],
        "rate": point.rate,
        "picture": picture,
        "decoded": path is not None,
        "pale": pale,
        "boxes": boxes if picture else [],
        "bpp": f"{example.query.bpp:.3g}",
        "psnr": number(example.query.psnr, ".1f"),
        "answers": [
            {"label": label, "text": _cut(answer.answer), "answer": answer}
            for sample, label in labels.items()
            if (answer := answers.get((point.key, *shared_key[:2], sample)))
        ],
    }


def _cut(text: str) -> str:
    return shorten(text, _LETTERS, placeholder=" …") or "(nothing)"


def _parts(cards: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cards by codec and rate, codecs with several scenarios first. A codec with one card per
    rate is one part."""
    rates: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for card in cards:
        rates.setdefault(card["codec"], {}).setdefault(card["rate"], []).append(card)
    alone = {codec for codec, by_rate in rates.items() if max(map(len, by_rate.values())) == 1}
    parts = []
    for codec in sorted(rates, key=lambda codec: (codec in alone, codec)):
        if codec in alone:
            parts.append(
                _part(codec, [card for rate_cards in rates[codec].values() for card in rate_cards])
            )
            continue
        for rate, rate_cards in rates[codec].items():
            rate_cards.sort(key=lambda card: card["order"])
            part = _part(f"{codec} {rate}".strip(), rate_cards)
            parts.append({**part, "cards": [{**card, "rate": ""} for card in rate_cards]})
    return parts


def _part(title: str, cards: list[dict[str, Any]]) -> dict[str, Any]:
    bits = list(dict.fromkeys(sorted((card["bpp"] for card in cards), key=float)))
    between = bits[0] if len(bits) == 1 else f"{bits[0]} to {bits[-1]}"
    return {"title": title, "bpp": between, "cards": cards}
