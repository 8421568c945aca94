"""Write what README and the gallery say was measured: `python docs/measured.py`.

    docs/results/SPACE/   a sweep's points and samples (`python -m analysis.report.excerpt`)
    analysis/example/     that of demo-competitors
          |
          v
    README.md, docs/gallery.md, between BEGIN and END;  docs/demo.png, docs/gallery/*.png

Every number of these texts comes from these sweeps. The paper's costs are those of its own paper.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from PIL import Image

from analysis import (
    EXAMPLE,
    Assembled,
    assemble,
    choose,
    compare,
    gains,
    gaps,
    read_sweep,
    significance,
)
from analysis.curves.curve import MEAN, Curve
from analysis.figures.ablation import draw_ablation
from analysis.figures.common.render import Plot
from analysis.figures.gaps import draw_gaps, main_gaps
from analysis.figures.rate_accuracy import draw_curves
from analysis.figures.surrogate import draw_surrogate
from analysis.io.complexity import find_costs
from analysis.io.frames import rows_of
from analysis.report.summary import summary_sentence
from analysis.sampling.bootstrap import SEEDS
from analysis.stats.as_text import bd_rate_over, with_interval
from analysis.stats.surrogate import surrogate, surrogate_sentence
from analysis.stats.trainings import falling_losses, trainings
from analysis.stats.variants import ablation

DOCS: Final = Path(__file__).parent
RESULTS: Final = DOCS / "results"
README: Final = DOCS.parent / "README.md"
PAGE: Final = DOCS / "gallery.md"
PICTURES: Final = DOCS / "gallery"
BEGIN: Final = "<!-- measured: python docs/measured.py -->"
END: Final = "<!-- end of measured -->"
COMPARED: Final = ("d1", "d2", "d3", "post_processing", "codec_tuned")
"""Columns of the table, in order."""
BASE_CODEC: Final = "base codec"
COUNTS: Final = {1: "one training", 2: "two trainings", 3: "three trainings"}


def main() -> None:
    """Write README's and the gallery's text, and their pictures."""
    short, long = (assemble(read_sweep(str(RESULTS / n))) for n in ("demo", "demo-converged"))
    before = README.read_text(encoding="utf-8")
    README.write_text(with_measured(before, measured(short, long)), encoding="utf-8")
    _save(next(plot for plot in draw_curves(short) if plot.name == "mean"), DOCS / "demo.png")
    before = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_measured(before, gallery()), encoding="utf-8")
    for shown in GALLERY:
        _save(shown.picture(), PICTURES / f"{shown.name}.png")


def _save(plot: Plot, file: Path) -> None:
    with Image.open(io.BytesIO(plot.png)) as picture:
        picture.convert("RGB").quantize(256).save(file, optimize=True)


def with_measured(text: str, block: str) -> str:
    """A page's text with another block between the marks.

    Raises:
        ValueError: the marks are not there, or not once.
    """
    parts = re.split(f"({re.escape(BEGIN)}|{re.escape(END)})", text)
    if parts[1::2] != [BEGIN, END]:
        raise ValueError(f"a page has not once {BEGIN}, and then {END}")
    return f"{parts[0]}{BEGIN}\n{block}\n{END}{parts[4]}"


def measured(short: Assembled, long: Assembled) -> str:
    """What the demo and its longer trainings show, in Markdown."""
    costs = find_costs(short.sweep.directory, None)
    assert costs is not None
    own = costs.totals.set_index("scenario")["own"]
    trained, trained_longer = trainings(short.sweep), trainings(long.sweep)
    images = _own_images(trained_longer)
    has_seeds = len(_mean_curve(long, "d1").seeds) >= SEEDS
    first = f"""
        This picture compares curves *as trained in minutes*, {_number_of_trainings(short)} each; it
        does not rank methods. {_base_codecs(long)}
        Necks start from the encoder's own layers, the paper's from random weights.
        {_images(trained)} In the longer trainings of `demo-converged` ({_number_of_trainings(long)}
        each{_seeds(long)}) they see {images["d1"]} and {images["d2"]}. Bits
        for the same mean accuracy over the accuracies that both curves reach, with 95 % intervals
        over test images{", of `demo-converged` over trainings, too" if has_seeds else " alone"}:
    """
    second = f"""
        An interval that contains 0 shows no difference over all of these accuracies. At the base
        codec's four rates, from {_rates(long)} bpp, in the longer trainings, the mean accuracy of
        `d1` minus that of the U-Net of `post_processing` is
        {_differences(long, "d1", "post_processing")}. {_recovered(long, "d1")}
        {_falling(trained_longer)} What `d1` has over the U-Net is its cost at the receiver:
        {own["d1"]:.1f} against {own["post_processing"]:.1f} kMAC/pixel in the demo, 52.8 against
        1,018 in the paper, not counting parts that both receivers run.
    """
    table = [
        f"| | {' | '.join(f'`{name}`' for name in COMPARED)} |",
        "|---" * (1 + len(COMPARED)) + "|",
        _row("the picture, against `reconstruction`", short, "reconstruction"),
        _row("`demo-converged`, against `reconstruction`", long, "reconstruction"),
        _row("`demo-converged`, against `post_processing`", long, "post_processing"),
    ]
    return "\n\n".join([_paragraph(first), "\n".join(table), _paragraph(second)])


@dataclass(frozen=True)
class Shown:
    """A part of the gallery: what a sweep, or some curves of it, show.

    Attributes:
        name: of the picture.
        title: of the part.
        space: the sweep's.
        asks: what the sweep is for, and what to know before reading its numbers.
        draw: a figure of the assembled sweep.
        filters: which of its curves (`choose`); empty: all.
        anchors: scenarios that a table compares the curves with; none: no table of curves.
    """

    name: str
    title: str
    space: str
    asks: str
    draw: Callable[[Assembled, pd.DataFrame], Sequence[Plot]]
    filters: tuple[str, ...] = ()
    anchors: tuple[str, ...] = ()

    def assembled(self) -> Assembled:
        """The sweep, or what is chosen of it."""
        is_example = self.space == "demo-competitors"
        sweep = read_sweep(EXAMPLE if is_example else str(RESULTS / self.space))
        return assemble(choose(sweep, self.filters) if self.filters else sweep)

    def text(self) -> str:
        """The part in Markdown."""
        assembled = self.assembled()
        sweep, comparison = assembled.sweep, compare(assembled.sweep, assembled=assembled)
        command = f"`python -m orchestrator.sweep {self.space}`"
        about = f"{command}: {sweep.manifest['space']['description']}. {self.asks}"
        parts = [
            f"## {self.title}",
            f"![{self.title}](gallery/{self.name}.png)",
            _paragraph(about),
        ]
        if self.draw is draw_ablation:
            parts += [_variants(ablation(assembled, comparison))]
        if self.anchors:
            parts += [_compared(assembled, self.anchors)]
        if self.draw is _gaps:
            parts += [_lost(gaps(assembled))]
        elif self.draw is _surrogate:
            parts += [_paragraph(surrogate_sentence(surrogate(assembled)))]
        else:
            parts += [_paragraph(summary_sentence(sweep, comparison, assembled.missing))]
        return "\n\n".join(parts)

    def picture(self) -> Plot:
        """The part's figure."""
        assembled = self.assembled()
        return self.draw(assembled, compare(assembled.sweep, assembled=assembled))[0]


def _mean(assembled: Assembled, comparison: pd.DataFrame) -> list[Plot]:
    return [plot for plot in draw_curves(assembled) if plot.name == "mean"]


def _surrogate(assembled: Assembled, comparison: pd.DataFrame) -> list[Plot]:
    return draw_surrogate(assembled)


def _gaps(assembled: Assembled, comparison: pd.DataFrame) -> list[Plot]:
    return draw_gaps(assembled, gaps(assembled))


EARLIER: Final = """
    Of an earlier version, whose base codecs were far from their plateau: the hyperprior had 64
    steps at its lambda, `vbr`, the variable-rate codec, 8 times as many. d1 saw 3,200 images, the
    U-Nets 480. The same command trains on other codecs today, with equal numbers of images; it was
    not run again yet.
"""
"""What `analysis/example` is of."""
GALLERY: Final = (
    Shown(
        *("gaps", "Where accuracy is lost", "demo-converged"),
        "What compression costs an MLLM that sees decoded images, and how much of it receivers of "
        "the same streams get back. What is left is missing from the bits, or not found in them "
        "by this receiver. Base codecs, and with them `reconstruction`, were trained once: "
        "intervals of `lost` are over test images alone.",
        _gaps,
    ),
    Shown(
        *("ablation-depth", "Depth of the entry", "demo-ablation-depth"),
        "The same one-layer neck, from random weights, feeds the encoder at block k.",
        draw_ablation,
    ),
    Shown(
        *("ablation-loss", "Surrogate loss", "demo-ablation-loss"),
        "The weights with the lowest validation distillation are measured, which favours variants "
        "that train on it; those of `-last` are measured after the last step.",
        draw_ablation,
    ),
    Shown(
        *("ablation-tradeoff", "Image against MLLM", "demo-ablation-tradeoff"),
        "gamma : delta is that of pixels in [0, 1] and of patch tokens.",
        draw_ablation,
    ),
    Shown(
        *("ablation-codec", "Savings over the base codec's training", "demo-ablation-codec"),
        "All base codecs start from one of a higher rate; the number counts the steps at each "
        "lambda. `plateau` are the codecs that ship, each trained until its loss stood still. Each "
        "curve is compared with the reconstruction of its own base codec.",
        draw_ablation,
    ),
    Shown(
        *("ablation-neck", "The neck's start", "demo-ablation-neck"),
        "`random` is the paper's start, `encoder` is ours (`neck.init`); the number counts the "
        "steps of d1. The demo has encoder-120.",
        draw_ablation,
    ),
    Shown(
        *("controls", "Controls", "demo-competitors"),
        f"{EARLIER} Controls that any saving has to pass, on the hyperprior. `codec_tuned` is the "
        "codec trained on with its own loss alone for as long as d3: what d2 and d3 are worth "
        "stands in the column against it. `adapted_encoder` is the encoder's last blocks before k "
        "and its patch embedding, tuned on decoded images: for more computation at the receiver. "
        "The oracle is d1's neck trained on through the MLLM itself.",
        _mean,
        filters=("codec=hyperprior",),
        anchors=("reconstruction", "codec_tuned", "adapted_encoder"),
    ),
    Shown(
        *("competitors", "Competitors", "demo-competitors"),
        f"{EARLIER} A variable-rate codec, standards, and coded features. The sender of "
        "`feature_coding` runs the encoder's first blocks, and no person can look at the image.",
        _mean,
        filters=("codec=None,vbr,tokens,jpeg,jpeg2000,webp,avif",),
        anchors=("reconstruction", "codec_tuned", "adapted_encoder"),
    ),
    Shown(
        *("surrogate", "Does the surrogate predict the tasks?", "demo-competitors"),
        f"{EARLIER} Every point has the surrogate's distances on the test images.",
        _surrogate,
    ),
)


def gallery() -> str:
    """The parts of the gallery in Markdown."""
    return "\n\n".join(shown.text() for shown in GALLERY)


def _accuracy(row: Any, name: str, sign: bool = False) -> str:
    """An accuracy of a row, or a difference of two, with its interval, in hundredths."""
    ends = getattr(row, f"{name}_low"), getattr(row, f"{name}_high")
    return with_interval(getattr(row, name), *ends, sign=sign, digits=2, unit="")


def _variants(frame: pd.DataFrame) -> str:
    """What variants change, in Markdown: a row per scenario and variant."""
    several = frame["scenario"].nunique() > 1
    head = ["curve", "mean accuracy", f"gain at {frame['matched_bpp'].max():.3g} bpp", "BD-rate"]
    lines = [f"| {' | '.join([*head, 'PSNR'])} |", "|---" * (len(head) + 1) + "|"]
    for row in rows_of(frame):
        name = f"`{row.scenario}`" if several or not row.variant else ""
        cells = [
            f"{name} {row.variant}".strip(),
            _accuracy(row, "accuracy"),
            _accuracy(row, "gained", sign=True),
            with_interval(row.bd_rate, row.bd_rate_low, row.bd_rate_high, sign=True),
            "" if math.isnan(row.psnr) else f"{row.psnr:.1f} dB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _compared(assembled: Assembled, anchors: Sequence[str]) -> str:
    """Curves against several of them, in Markdown: BD-rates of the mean accuracy."""
    frames = {a: compare(assembled.sweep, a, assembled=assembled) for a in anchors}
    of_curve: dict[tuple[str, str], dict[str, str]] = {}
    for anchor, frame in frames.items():
        for row in rows_of(frame[frame["task"] == MEAN]):
            curve = row.codec, f"`{row.scenario}` {row.variant}".strip()
            of_curve.setdefault(curve, {})[anchor] = bd_rate_over(row)
    lines = [
        f"| codec | curve | {' | '.join(f'against `{anchor}`' for anchor in frames)} |",
        "|---" * (2 + len(frames)) + "|",
    ]
    for (codec, curve), texts in of_curve.items():
        if any(texts.values()):
            lines.append(f"| {codec} | {curve} | {' | '.join(texts.values())} |")
    return "\n".join(lines)


def _lost(found: pd.DataFrame) -> str:
    """What is lost at each rate, and what each receiver recovers of it, in Markdown."""
    lines = ["| receiver | bpp | lost | recovered | left |", "|---" * 5 + "|"]
    for row in rows_of(main_gaps(found)):
        cells = [
            _accuracy(row, "lost"),
            _accuracy(row, "recovered", sign=True),
            _accuracy(row, "left"),
        ]
        lines.append(f"| `{row.scenario}` | {row.rate:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _row(name: str, assembled: Assembled, anchor: str) -> str:
    """A line of the table: BD-rates of the mean accuracy against a scenario, in percent."""
    frame = compare(assembled.sweep, anchor, assembled=assembled)
    rows = {row.scenario: row for row in rows_of(frame[frame["task"] == MEAN])}
    rates = [
        with_interval(row.bd_rate, row.bd_rate_low, row.bd_rate_high, sign=True)
        for row in map(rows.__getitem__, COMPARED)
    ]
    return f"| {' | '.join([name, *rates])} |"


def _images(trained: pd.DataFrame) -> str:
    """How many images each curve's own training saw.

    Raises:
        ValueError: curves that the text calls equally long are not.
    """
    images = _own_images(trained)
    equal = [("d1", "post_processing"), ("d2", "d3"), ("d2", "codec_tuned")]
    for one, other in equal:
        if images[one] != images[other]:
            raise ValueError(f"{one} saw {images[one]} images, {other} {images[other]}")
    return (
        f"`d1` and `post_processing` see {images['d1']} images; `d2` and `d3` go on from `d1` for "
        f"{images['d2']}, as many as `codec_tuned`, the codec trained on for itself."
    )


def _base_codecs(assembled: Assembled) -> str:
    """How long the base codecs were trained, and how much their losses fell at the end.

    Raises:
        ValueError: one of them was not trained until its loss stood still.
    """
    infos = [point.get("info") or {} for point in assembled.sweep.manifest["points"].values()]
    chains = [[t for t in info.get("before", ()) if t["of"] == BASE_CODEC] for info in infos]
    last = [chain[-1] for chain in chains if chain]
    if any(training["until"] != "plateau" for training in last):
        raise ValueError("a base codec was not trained until its loss stood still")
    images = [training["images"] for training in last]
    falls = [100 * training["fall_of_last_quarter"] for training in last]
    return (
        "Each base codec was trained at its lambda until five validations, 100 steps apart, "
        f"lowered its loss by less than 1 % (after {min(images):,} to {max(images):,} images; in "
        f"the last quarter the losses fell by {min(falls):.0f} to {max(falls):.0f} %)."
    )


def _falling(trained: pd.DataFrame) -> str:
    """Which losses fell until training ended, and by how much at the most.

    Raises:
        ValueError: of a curve it is not known.
    """
    if trained["fall"].isna().any():
        raise ValueError("a sweep does not say how its losses fell")
    falling = falling_losses(trained)
    if not falling:
        return "Their losses stood still when training ended."
    parts = [f"`{of}` by {100 * max(r.fall for r in rows):.0f} %" for of, rows in falling.items()]
    return f"Losses still fell in the last quarter of these trainings: {', '.join(parts)}."


def _own_images(trained: pd.DataFrame) -> dict[str, str]:
    """Scenario -> the images of its own training, a curve's mean, as text."""
    return {row.scenario: f"{row.images:,.0f}" for row in rows_of(trained)}


def _number_of_trainings(assembled: Assembled) -> str:
    return COUNTS[len(_mean_curve(assembled, "d1").seeds)]


def _seeds(assembled: Assembled) -> str:
    """Which seeds, where they are fewer than the space has."""
    seeds = _mean_curve(assembled, "d1").seeds
    return f", `seeds: {list(seeds)}`" if len(seeds) < SEEDS else ""


def _rates(assembled: Assembled) -> str:
    bpp = _mean_curve(assembled, "reconstruction").frame["bpp"]
    return f"{bpp.min():.3f} to {bpp.max():.3f}"


def _differences(assembled: Assembled, one: str, other: str) -> str:
    """Differences of mean accuracy, rate by rate, with what tests say of all of them together."""
    gained, tested = (
        frame[(frame["scenario"] == one) & (frame["task"] == MEAN)]
        for frame in (gains(assembled, anchor=other), significance(assembled, anchor=other))
    )
    numbers = [_accuracy(row, "gained", sign=True) for row in rows_of(gained)]
    found = int((tested["p_corrected"] < 0.05).sum())
    which = f"{found} of these" if found else "none of these"
    crossing = ""
    if (gained["gained_low"] > 0).any() and (gained["gained_high"] < 0).any():
        crossing = ": the curves cross, which one number for all accuracies hides"
    return (
        f"{', '.join(numbers)}{crossing}. Corrected for the number of tests of means, {which} "
        f"differences is shown at 5 % (the smallest p is {tested['p_corrected'].min():.2f})"
    )


def _recovered(assembled: Assembled, scenario: str) -> str:
    """What compression costs at each rate, and what a receiver of the same streams gets back."""
    found = main_gaps(gaps(assembled))
    rows = list(rows_of(found[found["scenario"] == scenario]))
    lost = ", ".join(f"{row.lost:.2f}" for row in rows)
    recovered = ", ".join(_accuracy(row, "recovered", sign=True) for row in rows)
    return (
        f"At these rates the mean accuracy of `reconstruction` is {lost} below that without "
        f"compression; that of `{scenario}`, from the same bits, minus `reconstruction`'s is "
        f"{recovered}, each tested for itself."
    )


def _mean_curve(assembled: Assembled, scenario: str) -> Curve:
    (curve,) = [curve for curve in assembled.means if curve.scenario == scenario]
    return curve


def _paragraph(text: str) -> str:
    words = " ".join(text.split())
    return textwrap.fill(words, 112, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    main()
