"""Write what README and the gallery say was measured: `python docs/measured.py`.

    docs/results/SPACE/   a sweep's points and samples (`python -m analysis.report.excerpt`)
          |                                       analysis/example/
          v                                             v
    README.md, between BEGIN and END;  docs/demo.png    docs/gallery.md, likewise

Every number of these texts comes from these sweeps. The paper's costs are those of its own paper.
"""

from __future__ import annotations

import io
import re
import textwrap
from pathlib import Path
from typing import Final

import pandas as pd
from PIL import Image

from analysis import EXAMPLE, Assembled, assemble, compare, gains, read_sweep, significance
from analysis.curves.curve import MEAN, Curve
from analysis.figures.rate_accuracy import draw_curves
from analysis.io.complexity import find_costs
from analysis.io.frames import rows_of
from analysis.sampling.bootstrap import SEEDS
from analysis.stats.as_text import bd_rate_over, with_interval
from analysis.stats.trainings import falling_losses, trainings

DOCS: Final = Path(__file__).parent
RESULTS: Final = DOCS / "results"
README: Final = DOCS.parent / "README.md"
GALLERY: Final = DOCS / "gallery.md"
GALLERY_ANCHORS: Final = ("reconstruction", "codec_tuned", "adapted_encoder")
BEGIN: Final = "<!-- measured: python docs/measured.py -->"
END: Final = "<!-- end of measured -->"
COMPARED: Final = ("d1", "d2", "d3", "post_processing", "codec_tuned")
"""Columns of the table, in order."""
BASE_CODEC: Final = "base codec"
COUNTS: Final = {1: "one training", 2: "two trainings", 3: "three trainings"}


def main() -> None:
    """Write README's text and the picture above it."""
    short, long = (assemble(read_sweep(str(RESULTS / n))) for n in ("demo", "demo-converged"))
    before = README.read_text(encoding="utf-8")
    README.write_text(with_measured(before, measured(short, long)), encoding="utf-8")
    before = GALLERY.read_text(encoding="utf-8")
    after = with_measured(before, compared(assemble(read_sweep(EXAMPLE))))
    GALLERY.write_text(after, encoding="utf-8")
    figure = next(plot for plot in draw_curves(short) if plot.name == "mean")
    with Image.open(io.BytesIO(figure.png)) as picture:
        picture.convert("RGB").quantize(256).save(DOCS / "demo.png", optimize=True)


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
        {_images(trained)} In the longer trainings of `demo-converged` ({_number_of_trainings(long)}
        each{_seeds(long)}) they see {images["d1"]} and {images["d2"]}. Bits
        for the same mean accuracy over the accuracies that both curves reach, with 95 % intervals
        over test images{", of `demo-converged` over trainings, too" if has_seeds else " alone"}:
    """
    second = f"""
        An interval that contains 0 shows no difference over all of these accuracies. At the base
        codec's four rates, from {_rates(long)} bpp, in the longer trainings, the mean accuracy of
        `d1` minus that of the U-Net of `post_processing` is
        {_differences(long, "d1", "post_processing")}.
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


def compared(example: Assembled) -> str:
    """The example's curves against several of them, in Markdown: BD-rates of the mean accuracy."""
    frames = {a: compare(example.sweep, a, assembled=example) for a in GALLERY_ANCHORS}
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
    numbers = [
        with_interval(row.gained, row.gained_low, row.gained_high, sign=True, digits=2, unit="")
        for row in rows_of(gained)
    ]
    found = int((tested["p_corrected"] < 0.05).sum())
    which = f"{found} of these" if found else "none of these"
    crossing = ""
    if (gained["gained_low"] > 0).any() and (gained["gained_high"] < 0).any():
        crossing = ": the curves cross, which one number for all accuracies hides"
    return (
        f"{', '.join(numbers)}{crossing}. Corrected for the number of tests of means, {which} "
        f"differences is shown at 5 % (the smallest p is {tested['p_corrected'].min():.2f})"
    )


def _mean_curve(assembled: Assembled, scenario: str) -> Curve:
    (curve,) = [curve for curve in assembled.means if curve.scenario == scenario]
    return curve


def _paragraph(text: str) -> str:
    words = " ".join(text.split())
    return textwrap.fill(words, 112, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    main()
