"""The report's page: everything that its template shows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jinja2
import pandas as pd
from markupsafe import Markup

from analysis.curves.assemble import Assembled
from analysis.figures.common.looks import Looks
from analysis.figures.common.render import Plot
from analysis.figures.gaps import main_gaps
from analysis.io.frames import rows_of
from analysis.report.embed import inline, mark, page_colours, plotly_script, script_data
from analysis.report.gallery import gallery
from analysis.report.interactive import interactive, numbered
from analysis.report.tables import (
    comparison_groups,
    headline,
    hover,
    more_of,
    number,
    point_rows,
    pretty,
    shared_settings,
    training_rows,
    versions,
)
from analysis.stats.as_text import bracketed, span, with_interval
from analysis.stats.surrogate import TERMS, coefficient, surrogate_sentence
from analysis.stats.variants import ablation
from search_spaces.settings.secrets import without_secrets

MLFLOW_UI: Final = "http://127.0.0.1:5000"
"""Default address of `mlflow ui`, for links into a store that is no server."""

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


def page(
    assembled: Assembled,
    comparison: pd.DataFrame,
    correlations: pd.DataFrame,
    found_gaps: pd.DataFrame,
    plots: Mapping[str, Sequence[Plot]],
    sentences: tuple[str, str],
    mlflow_ui: str | None = None,
) -> str:
    """The page's HTML: everything inline, no request to anywhere.

    The page is complete without its script: it holds every figure as SVG, which is also printed.
    The script replaces the figures that come into view by interactive ones.

    Args:
        assembled: the sweep assembled.
        comparison: what `compare` gave.
        correlations: what `surrogate` gave.
        found_gaps: what `gaps` gave.
        plots: the drawn figures by their part of the page.
        sentences: the result in one sentence, and all of it.
        mlflow_ui: address that links to MLflow runs lead to; by default the sweep's server.
    """
    sweep, looks = assembled.sweep, Looks.of(assembled)
    colours = page_colours(looks)
    points, numbers = list(point_rows(sweep)), numbered(assembled)
    live = _interactive_figures(plots, numbers)
    shared = shared_settings(points)
    tracking = without_secrets(str(sweep.manifest.get("tracking_uri") or ""))
    server = _server_of(tracking)
    data = {
        "figures": live,
        "points": [hover(row) for row in sorted(points, key=lambda row: numbers[row["key"]])],
        "dark": {light: dark for light, _, dark in colours},
        "mlflow": (mlflow_ui or server or MLFLOW_UI).rstrip("/"),
    }
    count = itertools.count()
    return _template().render(
        **_facts(assembled),
        **_tables(assembled, comparison, correlations, found_gaps),
        lead=sentences[0],
        sentence=sentences[1],
        figures={
            part: [(plot, Markup(inline(plot.svg, next(count), colours))) for plot in group]
            for part, group in plots.items()
        },
        n_first=_first_figures(assembled),
        live=live,
        points=points,
        shared=shared,
        numbers=numbers,
        gallery=gallery(assembled),
        tracking_uri=tracking,
        mlflow=data["mlflow"],
        needs_ui=not (mlflow_ui or server) and any(row["run_id"] for row in points),
        colours=colours,
        dot=lambda owner: Markup(mark(looks, owner)),
        data=Markup(script_data(data)),
        plotly=Markup(plotly_script()),
    )


def _first_figures(assembled: Assembled) -> int:
    """Figures of the main curves: a mean over tasks, or an only task, per MLLM."""
    return len({curve.mllm for curve in assembled.means or assembled.curves})


def _interactive_figures(
    plots: Mapping[str, Sequence[Plot]], numbers: Mapping[str, int]
) -> dict[str, object]:
    """The figures that the script draws, by name."""
    return {
        plot.name: interactive(plot.drawing, numbers)
        for group in plots.values()
        for plot in group
        if plot.drawing is not None
    }


def _server_of(tracking: str) -> str:
    """The address of MLflow's pages; empty where the store is no server."""
    is_server = tracking.startswith(("http://", "https://"))
    return tracking.replace("***@", "") if is_server else ""


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _facts(assembled: Assembled) -> dict[str, Any]:
    """Names, counts and provenance of the sweep."""
    sweep, scenarios = assembled.sweep, assembled.sweep.scenarios
    codecs = dict(zip(sweep.points["scenario"], sweep.points["codec"].fillna(""), strict=True))
    manifest, n_points = sweep.manifest, sweep.points["point_key"].nunique()
    return {
        "name": sweep.name,
        "looks": {name: scenarios.look(name) for name in sorted(codecs, key=scenarios.rank)},
        "codecs": codecs,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "created": str(manifest.get("created", "")),
        "n_points": n_points,
        "n_expected": len(manifest.get("expected", [])) or n_points,
        "n_missing": len(assembled.missing),
        "n_samples": int(sweep.points["n_samples"].min()),
        "missing": assembled.missing,
        "anchor_key": sweep.anchor,
        "anchor": scenarios.title(sweep.anchor) or "the anchor",
        "bound": scenarios.title(sweep.bound),
        "title_of": scenarios.title,
        "timing": manifest.get("timing") or {},
        "sliced": manifest.get("sliced") or [],
        "skipped": manifest.get("skipped") or [],
        "space": pretty(manifest["space"]) if manifest.get("space") else "",
        "parent_run_id": manifest.get("parent_run_id") or "",
        "versions": versions(sweep),
        "paper": PAPER,
    }


def _tables(
    assembled: Assembled,
    comparison: pd.DataFrame,
    correlations: pd.DataFrame,
    found_gaps: pd.DataFrame,
) -> dict[str, Any]:
    """Sentences and tables of the comparison, and what writes their numbers."""
    variants = ablation(assembled, comparison)
    trainings = training_rows(assembled.sweep)
    return {
        "headline": headline(assembled, comparison),
        "variants": list(rows_of(variants[variants["variant"] != ""])),
        "table": comparison_groups(assembled.sweep, comparison),
        "trainings": trainings,
        "unfinished": {row["owner"] for row in trainings if row["unfinished"]},
        "gaps": list(rows_of(main_gaps(found_gaps))),
        "surrogate": list(rows_of(correlations)),
        "surrogate_sentence": surrogate_sentence(correlations),
        "several": lambda rows, name: len({getattr(row, name) for row in rows}) > 1,
        "terms": TERMS,
        "interval": with_interval,
        "bracketed": bracketed,
        "coefficient": coefficient,
        "span": span,
        "number": number,
        "more_of": more_of,
    }
