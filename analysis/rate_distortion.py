"""Rate-distortion curves from CompressAI's results files: PSNR and MS-SSIM over bits per pixel.

    python -m analysis.rate_distortion PATH [PATH ...] [--out DIR]

A path is a file `{"name": ..., "results": {"bpp": [...], "psnr-rgb": [...], ...}}`, as
`python -m trainables.rd_eval` and CompressAI's own evaluations write it, or a directory of them.
MS-SSIM is shown in dB, -10 log10(1 - MS-SSIM), as in CompressAI's plots.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.layout import new_axes, stack
from analysis.looks import SPARE_CODECS, Look
from analysis.plots import HEIGHT
from analysis.render import Plot, line_style, styled

METRICS: Final = {"psnr-rgb": ("psnr", "PSNR (dB)"), "ms-ssim-rgb": ("ms-ssim", "MS-SSIM (dB)")}
"""CompressAI's name -> (file name, label)."""
MARKERS: Final = "osD^vPX*"


@dataclass(frozen=True)
class Distortion:
    """One curve: bits per pixel, rising, and the metrics by CompressAI's names."""

    name: str
    bpp: NDArray[np.float64]
    metrics: dict[str, NDArray[np.float64]]


def read_results(paths: Sequence[Path]) -> list[Distortion]:
    """Curves of results files, or of all in a directory.

    Raises:
        ValueError: a file is not of CompressAI's results format, or there is none; a line each.
    """
    files: list[Path] = []
    problems: list[str] = []
    for path in paths:
        found = sorted(path.glob("*.json")) if path.is_dir() else [path]
        files += found
        if not found:
            problems.append(f"{path} holds no results (*.json)")
    curves = []
    for file in files:
        try:
            said = json.loads(file.read_text(encoding="utf-8"))
            values = {k: np.asarray(v, float) for k, v in said["results"].items()}
            order = np.argsort(values["bpp"])
            known = {name: values[name][order] for name in METRICS if name in values}
            curves.append(Distortion(str(said.get("name", file.stem)), values["bpp"][order], known))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            problems.append(f"{file} is no results file of CompressAI's format: {error!r}")
    if problems:
        raise ValueError("\n".join(problems))
    return curves


def draw(curves: Sequence[Distortion]) -> list[Plot]:
    """A figure per metric that there is: `psnr`, `ms-ssim`."""
    out = []
    with styled():
        for metric, (name, label) in METRICS.items():
            own = {i: curve for i, curve in enumerate(curves) if metric in curve.metrics}
            if not own:
                continue
            figure = Figure()
            axes = new_axes(figure)
            entries: dict[str, Line2D] = {}
            for i, curve in own.items():
                # By its place among all curves: the same in both figures.
                colour, marker = SPARE_CODECS[i % len(SPARE_CODECS)], MARKERS[i % len(MARKERS)]
                look = Look(curve.name, colour, marker, "-")
                values = decibels(metric, curve.metrics[metric])
                (entries[curve.name],) = axes.plot(curve.bpp, values, **line_style(look))
            axes.set_xlabel("bits per pixel")
            axes.set_ylabel(label)
            title = label.partition(" (")[0]
            stack(figure, [axes], [entries], title, HEIGHT)
            words = f"{label} over bits per pixel of {', '.join(c.name for c in own.values())}."
            out.append(Plot(name, title, words, figure))
    return out


def decibels(metric: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A metric as it is shown: MS-SSIM in dB, PSNR is in dB already."""
    if metric != "ms-ssim-rgb":
        return values
    shown: NDArray[np.float64] = -10 * np.log10(np.maximum(1 - values, 1e-10))
    return shown


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 for input that cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.rate_distortion",
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
    except (ValueError, OSError) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    print("\n".join(written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
