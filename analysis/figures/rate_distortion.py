"""Rate-distortion curves from CompressAI's results files: PSNR and MS-SSIM over bits per pixel.

    python -m analysis.figures.rate_distortion PATH [PATH ...] [--out DIR]

A path is a file `{"name": ..., "results": {"bpp": [...], "psnr-rgb": [...], ...}}`, as
`trainables.commands.rd_eval` and CompressAI's own evaluations write it, or a directory of them.
MS-SSIM is shown in dB, -10 log10(1 - MS-SSIM), as in CompressAI's plots.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from analysis.figures.common.drawing import Drawing, Group, Panel, Series
from analysis.figures.common.looks import CODEC_LINES, Look, Looks
from analysis.figures.common.render import Plot
from analysis.figures.common.render import draw as draw_figure
from analysis.io.directions import Directions
from analysis.io.files import read_bytes
from analysis.io.other_results import from_compressai
from analysis.io.scenarios import Scenarios
from analysis.io.schema import AnalysisError
from analysis.io.sweep import Sweep
from search_spaces.settings.secrets import print_error

METRICS: Final = {"psnr": ("psnr", "PSNR (dB)"), "ms-ssim-db": ("ms-ssim", "MS-SSIM (dB)")}
"""The points' name -> (file name, label)."""


def read_results(paths: Sequence[Path]) -> list[Sweep]:
    """A sweep of one curve for each results file, or for all in a directory.

    Raises:
        AnalysisError: a file is not of CompressAI's results format, or there is none; a line each.
    """
    curves: list[Sweep] = []
    problems: list[str] = []
    for path in paths:
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not files:
            problems.append(f"{path} holds no results (*.json)")
        for file in files:
            try:
                curves.append(from_compressai(read_bytes(str(file)), str(file), Directions()))
            except (AnalysisError, OSError) as error:
                problems.append(str(error))
    if problems:
        raise AnalysisError("\n".join(problems))
    return curves


def draw(curves: Sequence[Sweep]) -> list[Plot]:
    """A figure per metric that there is: `psnr`, `ms-ssim`.

    Args:
        curves: what `read_results` gave.
    """
    out = []
    looks = _looks(curves)
    for metric, (name, label) in METRICS.items():
        series = []
        for curve, look in zip(curves, looks, strict=True):
            rows = curve.points[curve.points["metric"] == metric].sort_values("bpp")
            if not rows.empty:
                owner = (look.label, curve.name, "")
                series.append(Series(owner, look, rows["bpp"], rows["value"], joined=True))
        if series:
            group = Group(frozenset(s.owner for s in series), [s.look for s in series])
            panel = Panel(label, series, [group], x_label="bits per pixel")
            alt = f"{label} over bits per pixel of {', '.join(s.look.label for s in series)}."
            title = label.partition(" (")[0]
            out.append(draw_figure(Drawing(name, title, "", alt, [[panel]])))
    return out


def _looks(curves: Sequence[Sweep]) -> list[Look]:
    """The look of each curve: as in a sweep's figures, and other lines for more seeds of one.

    A curve of the anchor's scenario is the codec itself, and is called by its name.
    """
    first = [curve.points.iloc[0] for curve in curves]
    owners = [(row["codec"], row["scenario"], row["variant"]) for row in first]
    variants = dict.fromkeys(variant for _, _, variant in owners if variant)
    looks = Looks([owner[:2] for owner in owners], list(variants))
    out: list[Look] = []
    for place, (owner, row) in enumerate(zip(owners, first, strict=True)):
        look = looks.owner(*owner)
        codec, scenario, variant = owner
        if scenario == Scenarios().anchor():
            look = replace(look, label=f"{codec} {variant}".strip())
        if owners.count(owner) > 1:
            line = CODEC_LINES[owners[:place].count(owner) % len(CODEC_LINES)]
            look = replace(look, label=f"{look.label} seed {row['seed']}", line=line)
        out.append(look)
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 for input that cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.figures.rate_distortion",
        description="Draw PSNR and MS-SSIM over bits per pixel from CompressAI's results files.",
    )
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH")
    parser.add_argument("--out", type=Path, help="default: the first path's directory")
    options = parser.parse_args(argv)
    first = options.paths[0]
    try:
        out = options.out or (first if first.is_dir() else first.parent)
        written = [
            file for plot in draw(read_results(options.paths)) for file in plot.save(str(out))
        ]
    except (AnalysisError, OSError) as error:
        print_error(str(error))
        return 2
    print("\n".join(written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
