"""Qualitative panels: one image, what each scenario makes of it, and what the MLLM answers.

sweep's examples (PNG), samples.parquet --> points at matched rate --> images and answers

A sweep stores an example as one drawn page (`trainables/evaluation/examples.py`): the input and
the decoded image stand at fixed places on it, and are cut out here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from io import BytesIO
from posixpath import basename
from textwrap import wrap
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image

from analysis.compare import ANCHOR
from analysis.curves import BOUND, Assembled, scenario_rank
from analysis.frames import rows_of
from analysis.looks import IMAGE_FREE, MUTED, RIGHT, WRONG, Look, Looks
from analysis.points import join, read_bytes
from analysis.render import Plot, file_name, line_style, styled

PAGE_WIDTH: Final = 1228
"""Pixels: of a stored page with one image."""
SIDE: Final = 256
INPUT_AT: Final = (24, 68)
DECODED_AT: Final = (296, 68)
NOTHING: Final = (245, 246, 248)
"""The colour in the decoded image's place where there is none."""

FULL_WIDTH: Final = 7.0
"""Inches: panels are as wide as a page's text, for they hold sentences."""
_IMAGE: Final = 0.9
_CAPTION: Final = 0.34
_GAP: Final = 0.08
_NAME: Final = 1.42
_ROW: Final = 0.135
_LETTER: Final = 0.0545
QUESTIONS: Final = 4
"""Of a panel at the most."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """One point in a panel: its bits per pixel, decoded image, and answers by sample."""

    key: str
    codec: str
    scenario: str
    variant: str
    bpp: float
    decoded: Pixels | None
    answers: dict[str, tuple[str, bool]]


@dataclass(frozen=True)
class Panel:
    """One test image: the questions (task, prompt, wanted) by sample, and the points' answers."""

    image: str
    pixels: Pixels
    questions: dict[str, tuple[str, str, str]]
    shown: list[Shown]


def panels(
    assembled: Assembled, n: int = 2, rate: float | None = None, codec: str = ""
) -> list[Panel]:
    """The stored test images that the most points share, each with the points at matched rate.

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
    if sweep.directory is None or sweep.samples is None or "answer" not in sweep.samples:
        return []
    stored = {
        str(key): {_image_of(path): path for path in made.get("examples") or []}
        for key, made in sweep.manifest.get("points", {}).items()
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
    images = _most_shared([stored[key] for key in chosen["point_key"]])
    out: list[Panel] = []
    for image in images:
        if len(out) == n:
            break
        found = _panel(assembled, image, chosen, stored)
        if found is not None:
            out.append(found)
    return out


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


def _image_of(path: str) -> str:
    return basename(path).rpartition(".")[0]


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


def _most_shared(stored: list[dict[str, str]]) -> list[str]:
    count: dict[str, int] = {}
    for own in stored:
        for image in own:
            count[image] = count.get(image, 0) + 1
    return sorted(count, key=lambda image: -count[image])  # stable: in the order of storage


def _panel(
    assembled: Assembled, image: str, chosen: pd.DataFrame, stored: dict[str, dict[str, str]]
) -> Panel | None:
    samples = _samples_of(assembled, image)
    directory = assembled.sweep.directory or ""
    pixels: Pixels | None = None
    shown = []
    for row in rows_of(chosen):
        path = stored[row.point_key].get(image)
        page = None if path is None else _page(join(directory, path))
        own = samples[samples["point_key"] == row.point_key]
        if page is None or own.empty:
            continue
        pixels = _cut(page, INPUT_AT) if pixels is None else pixels
        decoded = None if row.scenario == BOUND else _cut(page, DECODED_AT)
        if decoded is not None and bool((decoded[4:40, 4:40] == NOTHING).all()):
            decoded = None
        answers = {r.sample_id: (str(r.answer), r.value > 0) for r in rows_of(own)}
        of = (row.point_key, row.codec, row.scenario, row.variant, float(own["bpp"].iloc[0]))
        shown.append(Shown(*of, decoded, answers))
    if pixels is None:
        return None
    questions = {
        row.sample_id: (row.task, _prompt(row.prompt), _wanted(row.reference))
        for row in rows_of(samples.drop_duplicates("sample_id"))
    }
    return Panel(image, pixels, dict(list(questions.items())[:QUESTIONS]), shown)


def _samples_of(assembled: Assembled, image: str) -> pd.DataFrame:
    """Samples of the image, on the primary metrics of the first MLLM: their ids begin with its."""
    samples = assembled.sweep.samples
    assert samples is not None
    samples = samples[samples["mllm"] == samples["mllm"].iloc[0]]
    primary = {name: task.primary for name, task in assembled.tasks.items()}
    samples = samples[samples["metric"] == samples["task"].map(primary)]
    plain = samples["sample_id"].str.replace(r"[^A-Za-z0-9._-]", "_", regex=True)
    # Of several evaluations, files carry their number in front.
    names = (image, re.sub(r"^\d+-", "", image))
    begins = tuple(f"{name}-" for name in names)
    own: pd.DataFrame = samples[plain.map(lambda name: name.startswith(begins))]
    return own


def _page(path: str) -> Pixels | None:
    """The stored page; None where it is gone, or shows several images."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return None
    with Image.open(BytesIO(data)) as page:
        return np.asarray(page.convert("RGB")) if page.width == PAGE_WIDTH else None


def _cut(page: Pixels, at: tuple[int, int]) -> Pixels:
    return page[at[1] : at[1] + SIDE, at[0] : at[0] + SIDE]


def _prompt(prompt: str) -> str:
    return " ".join(prompt.replace("<image>", " ").split())


def _wanted(reference: str) -> str:
    try:
        said = json.loads(reference)
    except ValueError:
        return reference
    if not isinstance(said, dict):
        return str(said)
    values = [value for name, value in said.items() if name != "size"]
    return ", ".join(str(value) for value in values)


_LONGEST: Final = 17
"""Letters of a name that fit beside a rate."""


def _figure(panel: Panel, looks: Looks, title: str) -> Figure:
    figure = Figure()
    pictures = [(one, one.decoded) for one in panel.shown if one.decoded is not None]
    of, names = _names(panel, looks)
    per_row = int((FULL_WIDTH - 0.1 + _GAP) / (_IMAGE + _GAP))
    image_rows = -(-(len(pictures) + 1) // per_row)
    images = 0.3 + image_rows * (_IMAGE + _CAPTION)
    width = (FULL_WIDTH - 0.2 - _NAME) / max(1, len(panel.questions))
    letters = int((width - 0.18) / _LETTER)
    heads = [_head(*asked, letters) for asked in panel.questions.values()]
    head_rows = max(map(len, heads), default=0)
    bodies = [
        [wrap(_answer(one, sample), letters) or [""] for sample in panel.questions]
        for one in panel.shown
    ]
    rows = [max(map(len, body), default=1) for body in bodies]
    height = images + _ROW * head_rows + 0.1 + sum(_ROW * r + 0.05 for r in rows) + 0.08
    figure.set_size_inches(FULL_WIDTH, height)

    def write(x: float, y: float, text: str, **how: Any) -> None:
        figure.text(x / FULL_WIDTH, 1 - y / height, text, va="top", **{"fontsize": 7, **how})

    write(0.1, 0.08, title, fontsize=8.5, fontweight="bold")
    for number, pixels in enumerate([panel.pixels, *(image for _, image in pictures)]):
        x = 0.1 + number % per_row * (_IMAGE + _GAP)
        y = 0.3 + number // per_row * (_IMAGE + _CAPTION) + _IMAGE
        box = (x / FULL_WIDTH, 1 - y / height, _IMAGE / FULL_WIDTH, _IMAGE / height)
        axes = figure.add_axes(box)
        axes.imshow(pixels, interpolation="nearest")
        axes.set_axis_off()
        one = pictures[number - 1][0] if number else None
        write(x, y + 0.03, _short("input" if one is None else names[_owner(one)]), fontsize=6.5)
        if one is not None:
            write(x, y + 0.14, f"{one.bpp:.3g} bpp", color=MUTED, fontsize=6.5)
    y = images
    write(0.1, y, _short(of) if of else "at matched rate", color=MUTED, fontsize=6.5)
    write(0.1 + _NAME - 0.08, y, "bpp", color=MUTED, fontsize=6.5, ha="right")
    for column, lines in enumerate(heads):
        x = 0.1 + _NAME + column * width
        for i, (text, how) in enumerate(lines):
            write(x, y + i * _ROW, text, **how)
    y += _ROW * head_rows + 0.06
    for one, body, lines_of_row in zip(panel.shown, bodies, rows, strict=True):
        _rule(figure, y / height)
        look = looks.owner(*_owner(one))
        _mark(figure, look, 0.17 / FULL_WIDTH, 1 - (y + 0.085) / height)
        write(0.28, y + 0.03, _short(names[_owner(one)]), fontsize=7)
        rate = f"{one.bpp:.3g}"
        write(0.1 + _NAME - 0.08, y + 0.03, rate, color=MUTED, fontsize=6.5, ha="right")
        for column, (sample, words) in enumerate(zip(panel.questions, body, strict=True)):
            right = one.answers.get(sample, ("", False))[1]
            colour = (RIGHT if right else WRONG) if sample in one.answers else MUTED
            x = 0.1 + _NAME + column * width
            for i, line in enumerate(words):
                write(x, y + 0.03 + i * _ROW, line, color=colour)
        y += _ROW * lines_of_row + 0.05
    return figure


def _owner(one: Shown) -> tuple[str, str, str]:
    return one.codec, one.scenario, one.variant


def _names(panel: Panel, looks: Looks) -> tuple[str, dict[tuple[str, str, str], str]]:
    """The codec that all names would begin with, said once (empty where there is no such one), and
    the names by curve."""
    labels = {_owner(one): looks.owner(*_owner(one)).label for one in panel.shown}
    codecs = {owner[0] for owner, label in labels.items() if label.startswith(f"{owner[0]} ")}
    if len(codecs) != 1:
        return "", labels
    (codec,) = codecs
    short = {owner: label.removeprefix(f"{codec} ") for owner, label in labels.items()}
    return f"codec: {codec}", short


def _head(task: str, prompt: str, wanted: str, letters: int) -> list[tuple[str, dict[str, Any]]]:
    bold = {"fontweight": "bold"}
    return [
        (task, {"color": MUTED, "fontsize": 6.5}),
        *((line, bold) for line in wrap(prompt, int(letters * 0.9))[:4]),
        *((line, {}) for line in wrap(f"wanted: {wanted}", letters)[:3]),
    ]


def _answer(one: Shown, sample: str) -> str:
    """The answer with a mark, so that colour is not all that says whether it is right."""
    if sample not in one.answers:
        return "–"
    answer, right = one.answers[sample]
    return f"{'✓' if right else '✗'} {answer or '(nothing)'}"


def _short(label: str) -> str:
    """A name as it fits; the middle goes, as variants differ in their ends."""
    return label if len(label) <= _LONGEST else f"{label[:7]}…{label[8 - _LONGEST :]}"


def _rule(figure: Figure, y: float) -> None:
    ends = (0.1 / FULL_WIDTH, 1 - 0.1 / FULL_WIDTH)
    figure.add_artist(Line2D(ends, (1 - y, 1 - y), color=MUTED, lw=0.4, alpha=0.5))


def _mark(figure: Figure, look: Look, x: float, y: float) -> None:
    figure.add_artist(Line2D([x], [y], **{**line_style(look), "ls": ""}))


def _words(panel: Panel, looks: Looks) -> str:
    said = []
    for sample, (task, prompt, wanted) in panel.questions.items():
        answers = [
            f"{looks.owner(*_owner(one)).label} at {one.bpp:.3g} bpp: {one.answers[sample][0]}"
            f" ({'right' if one.answers[sample][1] else 'wrong'})"
            for one in panel.shown
            if sample in one.answers
        ]
        said.append(f"{task}: {prompt} Wanted: {wanted}. {'; '.join(answers)}.")
    return f"Image {panel.image}. " + " ".join(said)
