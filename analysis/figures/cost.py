"""What a saving costs: kMAC per pixel at the receiver against bits saved.

complexity.json (of `trainables.commands.complexity`), the comparison --> figure
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis.curves.assemble import MEAN, Assembled, of_variant
from analysis.figures.layout import entries_of, new_axes, of_names, stack
from analysis.figures.rate_accuracy import HEIGHT
from analysis.figures.render import Plot, file_name, line_style, styled
from analysis.figures.style import Looks
from analysis.io.files import exists, join
from analysis.io.frames import rows_of
from analysis.io.read import AnalysisError, read_bytes
from analysis.stats.anchor import ANCHOR

COMPLEXITY: Final = "complexity.json"
"""Its name beside the points, where the report finds it by itself."""
TITLE: Final = "Complexity against bits saved"
LABEL: Final = "kMAC/pixel from bytes to the MLLM's encoder"


@dataclass(frozen=True)
class Costs:
    """What `trainables.commands.complexity` counted.

    Attributes:
        totals: columns `codec, variant, scenario, sender, receiver, own` (kMAC per pixel given to
            the codec; `own` is the receiver's without what every receiver of compressed images
            runs) and `own_parameters`; `variant` is empty where all variants cost the same.
        size: side of the image in pixels.
        teacher: the encoder.
    """

    totals: pd.DataFrame
    size: int
    teacher: str


def read_costs(path: str) -> Costs:
    """Read what `python -m trainables.commands.complexity SPACE --json FILE` wrote.

    Raises:
        AnalysisError: no such file, or not such a file; the message names it.
    """
    try:
        said = json.loads(read_bytes(path))
    except FileNotFoundError:
        raise AnalysisError(f"{path}: no such file") from None
    except ValueError:
        raise AnalysisError(f"{path}: not JSON") from None
    columns = ["codec", "variant", "scenario", "sender", "receiver", "own", "own_parameters"]
    try:
        totals = pd.DataFrame([{name: row[name] for name in columns} for row in said["totals"]])
        costs = Costs(totals, int(said["size"]), str(said["teacher"]))
        totals[columns[3:]].astype("float64")
    except (KeyError, TypeError, ValueError) as error:
        raise AnalysisError(
            f"{path}: not what `trainables.commands.complexity --json` writes ({error!r})"
        ) from None
    return costs


def find_costs(directory: str | None, path: str | None) -> Costs | None:
    """The costs of a file, or those beside the points, where they are there.

    Args:
        directory: where the points are; None where they are in no directory.
        path: the file, where one is named.

    Raises:
        AnalysisError: as `read_costs`.
    """
    if path is not None:
        return read_costs(path)
    beside = None if directory is None else join(directory, COMPLEXITY)
    return read_costs(beside) if beside is not None and exists(beside) else None


def costs_and_savings(assembled: Assembled, comparison: pd.DataFrame, costs: Costs) -> pd.DataFrame:
    """A row per curve of the mean over tasks whose cost is known.

    Args:
        assembled: the sweep assembled.
        comparison: what `compare` gave.
        costs: what `read_costs` gave.

    Returns:
        Columns `mllm, codec, variant, scenario, own, parameters, saved, low, high`: kMAC/pixel and
        parameters of the receiver's own parts; bits saved in percent (minus the BD-rate) with its
        95 % interval, 0 for the anchor. A codec whose widths change with the rate counts with
        the mean of its sizes.
    """
    rows: list[dict[str, Any]] = []
    for row in rows_of(comparison[comparison["task"] == MEAN]):
        anchor = row.scenario == ANCHOR
        sizes = costs.totals["codec"].str.replace(r" \d+/\d+$", "", regex=True) == row.codec
        whose = np.array(
            [not own or of_variant(own, row.variant) for own in costs.totals["variant"]], dtype=bool
        )
        of = costs.totals[sizes & whose & (costs.totals["scenario"] == row.scenario)]
        if of.empty or not (anchor or np.isfinite(row.bd_rate)):
            continue
        rows.append(
            {
                **{n: getattr(row, n) for n in ("mllm", "codec", "variant", "scenario")},
                "own": of["own"].mean(),
                "parameters": of["own_parameters"].mean(),
                "saved": 0.0 if anchor else -row.bd_rate,
                "low": np.nan if anchor else -row.bd_rate_high,
                "high": np.nan if anchor else -row.bd_rate_low,
            }
        )
    names = ["mllm", "codec", "variant", "scenario", "own", "parameters", "saved", "low", "high"]
    return pd.DataFrame(rows, columns=names)


def draw_costs(assembled: Assembled, comparison: pd.DataFrame, costs: Costs) -> list[Plot]:
    """A figure per MLLM: bits saved over kMAC per pixel.

    Args:
        assembled: the sweep assembled.
        comparison: what `compare` gave.
        costs: what `read_costs` gave.

    Returns:
        Nothing where no curve has both numbers.
    """
    looks = Looks.of(assembled)
    frame = costs_and_savings(assembled, comparison, costs)
    several = frame["mllm"].nunique() > 1
    out = []
    with styled():
        for mllm, own in frame.groupby("mllm", sort=False):
            of = str(mllm) if several else ""
            name = file_name(f"complexity-{mllm}" if several else "complexity")
            figure = _figure(own, looks, of)
            out.append(Plot(name, of_names(TITLE, of), _words(own, looks, of), figure))
    return out


def _figure(own: pd.DataFrame, looks: Looks, of: str) -> Figure:
    figure = Figure()
    axes = new_axes(figure)
    for row in rows_of(own):
        look = looks.owner(row.codec, row.scenario, row.variant)
        if np.isfinite(row.low):
            axes.vlines(row.own, row.low, row.high, color=look.colour, lw=1.3, zorder=2, alpha=0.6)
        style = {**line_style(look), "ls": "", "markersize": 6.5}
        axes.plot(row.own, row.saved, zorder=3, **style)
    axes.axhline(0, color=looks.scenario(ANCHOR).colour, lw=0.9, ls="--", zorder=1.5)
    axes.set_ylabel("bits saved (%)")
    axes.set_xlabel(LABEL)
    if own["own"].min() > 0 and own["own"].max() / own["own"].min() >= 4:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.set_xlim(own["own"].min() / 1.3, own["own"].max() * 1.3)
    owners = [(row.codec, row.scenario, row.variant) for row in rows_of(own)]
    stack(figure, [axes], [entries_of(looks, owners, lines=False)], TITLE, HEIGHT, of)
    return figure


def _words(own: pd.DataFrame, looks: Looks, of: str) -> str:
    said = [
        f"{looks.owner(row.codec, row.scenario, row.variant).label} {row.own:.3g} kMAC/pixel, "
        f"{round(row.saved)} % saved"
        for row in rows_of(own)
    ]
    title = of_names(f"Bits saved on the mean over tasks over {LABEL}", of)
    return f"{title}: " + "; ".join(said) + "."
