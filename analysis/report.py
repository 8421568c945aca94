"""The report of a sweep: figures and one self-contained HTML page.

    python -m analysis.report PATH_OR_URI [--out DIR]

makes it again from a sweep's directory, a points file or MLflow, without torch or Ray.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import jinja2
import pandas as pd
from markupsafe import Markup
from PIL import Image

from analysis.ablation import ablation, draw_ablation
from analysis.compare import ANCHOR, compare, span, summary_sentence, summary_table, with_interval
from analysis.curves import BOUND, MEAN, Assembled, assemble, scenario_rank
from analysis.frames import rows_of
from analysis.plots import CODEC, GRID, INK, MUTED, OTHERS, SCENARIO, VARIANT, WARN, Plot, draw_all
from analysis.points import (
    AnalysisError,
    Sweep,
    join,
    read_bytes,
    read_sweep,
    without_secrets,
    write_bytes,
)

REPORT: Final = "report.html"
PLOTS: Final = "plots"
GALLERY_IMAGES: Final = 40
"""Example images on the page at the most."""
GALLERY_BYTES: Final = 6_000_000
"""And their bytes, all together."""
IMAGE_WIDTH: Final = 900
"""Pixels; wider example images are scaled down."""

PAPER: Final = {
    "title": "Bridging Compressed Image Latents and Multimodal Large Language Models",
    "venue": "International Conference on Learning Representations (ICLR), 2025",
    "arxiv": "2407.19651",
    "bibtex": """@inproceedings{kao2025bridging,
  title     = {Bridging Compressed Image Latents and Multimodal Large Language Models},
  author    = {Kao, Chia-Hao and Chien, Cheng and Tseng, Yu-Jen and Chen, Yi-Hsin and
               Gnutti, Alessandro and Lo, Shao-Yuan and Peng, Wen-Hsiao and Leonardi, Riccardo},
  booktitle = {International Conference on Learning Representations},
  year      = {2025},
  note      = {arXiv:2407.19651}
}""",
}


@dataclass(frozen=True)
class ReportPaths:
    """What a report wrote.

    Attributes:
        html: path or URI of the page.
        plots: paths or URIs of the PNG and SVG files.
        summary: the terminal's table, as `summary_table` gives it.
        sentence: what came out, in a sentence or two.
    """

    html: str
    plots: tuple[str, ...]
    summary: pd.DataFrame
    sentence: str


def write_report(source: str | Sweep, out: str | None = None) -> ReportPaths:
    """Write `plots/*.png`, `plots/*.svg` and `report.html`.

    Args:
        source: what `read_sweep` reads, or a sweep that has been read.
        out: directory or fsspec URI to write to; by default the sweep's own directory, and
            `report-<sweep>` here where the sweep came from MLflow.

    Raises:
        AnalysisError: see `read_sweep`.
    """
    sweep = read_sweep(source) if isinstance(source, str) else source
    out = out or sweep.directory or f"report-{sweep.name}"
    assembled = assemble(sweep)
    comparison = compare(sweep, assembled=assembled)
    plots = [*draw_ablation(assembled, comparison), *draw_all(sweep, assembled)]
    written = []
    for plot in plots:
        for ending, data in (("png", plot.png), ("svg", plot.svg.encode())):
            written.append(join(out, PLOTS, f"{plot.name}.{ending}"))
            write_bytes(written[-1], data)
    sentence = summary_sentence(sweep, comparison, assembled.missing)
    html = join(out, REPORT)
    write_bytes(html, page(assembled, comparison, plots, sentence).encode())
    return ReportPaths(html, tuple(written), summary_table(sweep, comparison), sentence)


def page(
    assembled: Assembled, comparison: pd.DataFrame, plots: Sequence[Plot], sentence: str
) -> str:
    """The page's HTML: everything inline, no request to anywhere."""
    sweep = assembled.sweep
    here = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=here, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    expected = len(sweep.manifest.get("expected", [])) or sweep.points["point_key"].nunique()
    manifest = sweep.manifest
    return environment.get_template("report.html.j2").render(
        name=sweep.name,
        sentence=sentence,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        created=str(manifest.get("created", "")),
        n_points=sweep.points["point_key"].nunique(),
        n_expected=expected,
        n_missing=len(assembled.missing),
        n_samples=int(sweep.points["n_samples"].min()),
        headline=_headline(assembled, comparison),
        figures=[(plot, Markup(_inline(plot.svg, i))) for i, plot in enumerate(plots)],
        variants=list(_variant_rows(assembled, comparison)),
        table=_comparison_rows(comparison),
        missing=assembled.missing,
        points=list(_points(sweep)),
        gallery=list(_gallery(sweep)),
        timing=manifest.get("timing") or {},
        space=_pretty(manifest["space"]) if manifest.get("space") else "",
        tracking_uri=without_secrets(str(manifest.get("tracking_uri") or "")),
        parent_run_id=manifest.get("parent_run_id") or "",
        versions=_versions(sweep),
        paper=PAPER,
        colours=_colours(),
    )


def _headline(assembled: Assembled, comparison: pd.DataFrame) -> dict[str, Any]:
    """Mean and tasks side by side: a row per curve with its BD-rates; the ends of its range."""
    tasks = [MEAN, *assembled.tasks] if assembled.means else list(assembled.tasks)
    several = {n: comparison.loc[comparison[n] != "", n].nunique() > 1 for n in ("mllm", "codec")}
    rows = []
    for (mllm, codec, variant, scenario), own in comparison.groupby(
        ["mllm", "codec", "variant", "scenario"], sort=False
    ):
        by_task = {row.task: row for row in rows_of(own)}
        first = next(iter(by_task.values()))
        names = [variant, codec if several["codec"] else "", mllm if several["mllm"] else ""]
        cells = []
        for task in tasks:
            row = by_task.get(task)
            if row is None:
                cells.append({"main": "", "sub": "", "note": ""})
                continue
            number = with_interval(row.bd_rate, float("nan"), float("nan"), sign=True)
            interval = with_interval(row.bd_rate, row.bd_rate_low, row.bd_rate_high, sign=True)
            cells.append(
                {
                    "main": number,
                    "sub": interval[len(number) :].strip(),
                    "accuracy": span(row.value_low, row.value_high, 2),
                    "note": row.note if not number else "",
                }
            )
        rows.append(
            {
                "scenario": scenario,
                "of": " ".join(str(name) for name in names if name),
                "bpp": span(first.bpp_low, first.bpp_high, 2),
                "cells": cells,
            }
        )
    return {"tasks": tasks, "rows": rows}


def _variant_rows(assembled: Assembled, comparison: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Variant by variant what it sets and what came of it; nothing without variants."""
    frame = ablation(assembled, comparison)
    several = {name: frame[name].nunique() > 1 for name in ("codec", "mllm")}
    for row in rows_of(frame[frame["variant"] != ""]):
        names = [row.codec if several["codec"] else "", row.mllm if several["mllm"] else ""]
        digits = f"{row.accuracy:.3f}"
        if pd.notna(row.accuracy_low):
            digits += f" [{row.accuracy_low:.3f}, {row.accuracy_high:.3f}]"
        yield {
            "variant": row.variant,
            "settings": row.settings,
            "scenario": row.scenario,
            "of": " ".join(filter(None, names)),
            "bpp": f"{row.bpp:.3f}",
            "accuracy": digits,
            "bd_rate": with_interval(row.bd_rate, row.bd_rate_low, row.bd_rate_high, sign=True),
            "psnr": _number(row.psnr, ".2f"),
            "note": row.note,
        }


def _comparison_rows(comparison: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for row in rows_of(comparison):
        if row.scenario in (ANCHOR, BOUND):  # what is compared with; in the table above
            continue
        at_anchor = ", ".join(f"{a:.2f}: {s:.0f} %" for a, s in row.saved_at_anchor)
        rows.append(
            {
                "scenario": row.scenario,
                "codec": f"{row.variant} {row.codec}".strip(),
                "mllm": row.mllm,
                "task": row.task,
                "metric": row.metric,
                "bpp": span(row.bpp_low, row.bpp_high, 3),
                "accuracy": span(row.value_low, row.value_high, 3),
                "bd_rate": with_interval(row.bd_rate, row.bd_rate_low, row.bd_rate_high, sign=True),
                "of_tasks": with_interval(
                    row.bd_rate_of_tasks, float("nan"), float("nan"), sign=True
                ),
                "saved": with_interval(row.saved, row.saved_low, row.saved_high),
                "target": span(row.target, row.target, 2),
                "most": span(row.saved_max, row.saved_max, 0),
                "most_at": span(row.saved_max_at, row.saved_max_at, 2),
                "at_anchor": at_anchor.replace("-", "−"),
                "overlap": "" if pd.isna(row.overlap) else f"{row.overlap:.0%}",
                "note": row.note,
            }
        )
    return rows


def _points(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """How each operating point was made, in the curves' order."""
    said: dict[str, Any] = sweep.manifest.get("points", {})
    rows = sweep.points.assign(
        _rank=sweep.points["scenario"].map(lambda s: (s != BOUND, scenario_rank(s)))
    ).sort_values(["codec", "_rank", "bpp"], na_position="first")
    for key, own in rows.groupby("point_key", sort=False):
        made = said.get(str(key), {})
        first = own.iloc[0]
        values = [f"{r.task} {r.metric} {r.value:.3f}" for r in rows_of(own)]
        yield {
            "key": key,
            "scenario": first["scenario"],
            "variant": first["variant"],
            "codec": "" if pd.isna(first["codec"]) else first["codec"],
            "lmbda": _rate_of(first),
            "seed": first["seed"],
            "bpp": f"{own['bpp'].mean():.3f}",
            "bpp_estimated": _number(own["bpp_estimated"].mean(), ".3f"),
            "psnr": _number(first["psnr"], ".2f"),
            "values": values,
            "seconds": {k: f"{v:.1f} s" for k, v in (made.get("seconds") or {}).items()},
            "run_id": made.get("run_id") or first["run_id"] or "",
            "spec": _pretty(made["spec"]) if made.get("spec") else "",
            "provenance": _pretty(made["provenance"]) if made.get("provenance") else "",
        }


def _gallery(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Example images by rate: round by round, one of every point, until the limits are reached."""
    if sweep.directory is None:
        return
    said: dict[str, Any] = sweep.manifest.get("points", {})
    about = sweep.points.drop_duplicates("point_key").set_index("point_key")
    keys = [k for k in said if k in about.index and said[k].get("examples")]
    order = sorted(keys, key=lambda k: scenario_rank(str(about.loc[k, "scenario"])))
    chosen: dict[str, list[str]] = {}
    count = size = 0
    for turn in range(max((len(said[k]["examples"]) for k in keys), default=0)):
        for key in order:
            if turn >= len(said[key]["examples"]) or count >= GALLERY_IMAGES:
                continue
            data = _data_uri(join(sweep.directory, said[key]["examples"][turn]))
            if data is None or size + len(data) > GALLERY_BYTES:
                continue
            chosen.setdefault(key, []).append(data)
            count, size = count + 1, size + len(data)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for key, images in chosen.items():
        row = about.loc[key]
        rate = _rate_of(row)
        rate = f"lambda {rate}" if rate and not rate.startswith("quality") else rate
        codec: str = "" if pd.isna(row["codec"]) else str(row["codec"])
        picture = {
            "scenario": row["scenario"],
            "variant": row["variant"],
            "bpp": f"{row['bpp']:.3f}",
            "images": images,
        }
        groups.setdefault((codec, rate), []).append(picture)
    for group, pictures in sorted(groups.items(), key=lambda g: _rate_order(g[0])):
        yield {"title": " ".join(filter(None, group)), "pictures": pictures}


def _rate_order(group: tuple[str, str]) -> tuple[str, float]:
    return group[0], float(group[1].removeprefix("lambda ") or 0)


def _data_uri(path: str) -> str | None:
    """A PNG as a data URI, scaled to the page's width; None where it is not there any more."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return None
    with Image.open(BytesIO(data)) as image:
        if image.width > IMAGE_WIDTH:
            height = round(image.height * IMAGE_WIDTH / image.width)
            smaller = BytesIO()
            image.convert("RGB").resize((IMAGE_WIDTH, height)).save(smaller, "PNG", optimize=True)
            data = smaller.getvalue()
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _inline(svg: str, number: int) -> str:
    """An SVG file as an element of the page, in the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg ", '<svg aria-hidden="true" ', 1)
    svg = re.sub(r'id="([^"]+)"', rf'id="f{number}-\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#f{number}-", svg)
    svg = svg.replace("'DejaVu Sans', ", "").replace("'DejaVu Sans'", "inherit")
    for colour, variable in _colours().items():
        svg = re.sub(colour, f"var(--{variable})", svg, flags=re.IGNORECASE)
    return svg


def _colours() -> dict[str, str]:
    """The figures' colours and the names of the page's variables that take their place."""
    variables = {INK: "ink", MUTED: "muted", GRID: "grid", WARN: "warn"}
    for scenario, (colour, _, _) in SCENARIO.items():
        variables.setdefault(colour, f"s-{scenario}")
    for i, colour in enumerate((*CODEC, *OTHERS)):
        variables.setdefault(colour, f"c-{i}")
    for i, colour in enumerate(VARIANT):
        variables.setdefault(colour, f"v-{i}")
    return variables


def _versions(sweep: Sweep) -> list[tuple[str, str]]:
    """Commits the points were made with, and the packages of the first that says."""
    made = [p.get("provenance") or {} for p in sweep.manifest.get("points", {}).values()]
    flat: dict[str, list[str]] = {}
    for one in made:
        for name, value in one.items():
            text = value if isinstance(value, str) else _pretty(value)
            seen = flat.setdefault(str(name), [])
            if text not in seen:
                seen.append(text)
    return [(name, texts[0]) for name, texts in flat.items() if len(texts) == 1]


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _number(value: float | None, form: str) -> str:
    return "" if value is None or pd.isna(value) else f"{value:{form}}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 for input that cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report",
        description="Make a sweep's figures and report from its points.",
    )
    parser.add_argument(
        "source",
        metavar="PATH_OR_URI",
        help="a sweep's directory, points.parquet or .csv, a tracking URI (sqlite:///..., "
        "http(s)://...), or mlflow:TRACKING_URI#EXPERIMENT[/SWEEP]",
    )
    parser.add_argument("--out", metavar="DIR", help="where to write; default: beside the points")
    options = parser.parse_args(arguments)
    try:
        paths = write_report(options.source, options.out)
    except (AnalysisError, OSError) as error:
        print(f"error: {without_secrets(str(error))}", file=sys.stderr)
        return 2
    print(paths.sentence)
    print(f"report: {paths.html}")
    print(f"plots:  {join(paths.html.rpartition('/')[0] or '.', PLOTS)} ({len(paths.plots)} files)")
    return 0


if __name__ == "__main__":
    sys.exit(main())


def _rate_of(row: Any) -> str:
    """What sets a point's rate: its lambda, or a classical codec's quality."""
    if not pd.isna(row["lmbda"]):
        return f"{row['lmbda']:g}"
    quality = row.get("quality")
    return "" if quality is None or pd.isna(quality) else f"quality {quality:g}"
