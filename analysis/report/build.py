"""The report of a sweep: figures and one self-contained HTML page.

    python -m analysis.report PATH_OR_URI [PATH_OR_URI ...] [--out DIR] [--apart]

makes it again from a sweep's directory, a points file or MLflow, without torch or Ray; from several
of them, one of all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Final

from analysis.curves.assemble import assemble
from analysis.curves.chosen import FIELDS, choose
from analysis.curves.tasks import above_chance
from analysis.figures.ablation import draw_ablation
from analysis.figures.common.render import Plot, file_name
from analysis.figures.cost import draw_costs
from analysis.figures.difference import draw_difference, draw_forest
from analysis.figures.gaps import draw_gaps
from analysis.figures.panels import draw_panels
from analysis.figures.rate_accuracy import draw_curves, draw_psnr, draw_tasks
from analysis.figures.surrogate import draw_surrogate
from analysis.io.complexity import COMPLEXITY, find_costs
from analysis.io.files import join, make_directory, write_bytes
from analysis.io.read import AnalysisError, Sweep, read_sweep
from analysis.report.page import MLFLOW_UI, page
from analysis.report.paths import PLOTS, REPORT, ReportPaths, remove_old_figures
from analysis.report.summary import lead_sentence, summary_sentence, summary_table
from analysis.stats.compare import compare
from analysis.stats.gaps import gaps
from analysis.stats.surrogate import surrogate
from search_spaces.settings.secrets import print_error, printable_lines

PROGRAM: Final = "python -m analysis.report"


def write_report(
    source: str | Sweep,
    out: str | None = None,
    complexity: str | None = None,
    mlflow_ui: str | None = None,
    pdf: bool = False,
) -> ReportPaths:
    """Write `plots/*.png`, `plots/*.svg` and `report.html`.

    Args:
        source: what `read_sweep` reads, or a sweep that has been read.
        out: directory or fsspec URI to write to; by default the sweep's own directory, and
            `report-<sweep>` here where the sweep came from MLflow or is another tool's results.
        complexity: the JSON file of `python -m trainables.commands.complexity`; by default
            `complexity.json` beside the points, if it exists.
        mlflow_ui: address of the MLflow UI that links lead to; by default the sweep's tracking
            server, or `MLFLOW_UI` where it was tracked in a file.
        pdf: also write `plots/*.pdf`.

    Raises:
        AnalysisError: see `read_sweep` and `read_costs`; `mlflow_ui` is no http(s) address, or
            nothing can be written to `out`.
    """
    if mlflow_ui is not None and not mlflow_ui.startswith(("http://", "https://")):
        raise AnalysisError(f"mlflow-ui {mlflow_ui!r}: not an http:// or https:// address")
    sweep = read_sweep(source) if isinstance(source, str) else source
    out = out or sweep.directory or f"report-{file_name(sweep.name)}"
    try:
        make_directory(out)
    except OSError as error:
        reason = error.strerror or error
        raise AnalysisError(f"out {out!r}: cannot be written to ({reason})") from None
    costs = find_costs(sweep.directory, complexity)
    assembled = assemble(sweep)
    comparison = compare(sweep, assembled=assembled)
    correlations, found_gaps = surrogate(assembled), gaps(assembled)
    plots = {
        "variants": draw_ablation(assembled, comparison),
        "curves": draw_curves(assembled),
        "forest": draw_forest(assembled, comparison),
        "tasks": draw_tasks(assembled),
        "quality": draw_psnr(assembled),
        "difference": draw_difference(assembled),
        "complexity": [] if costs is None else draw_costs(assembled, comparison, costs),
        "gaps": draw_gaps(assembled, found_gaps),
        "surrogate": draw_surrogate(assembled, correlations),
        "panels": draw_panels(assembled),
    }
    written = _save(out, [plot for group in plots.values() for plot in group], pdf)
    sentence = summary_sentence(sweep, comparison, assembled.missing)
    sentences = (lead_sentence(sweep, comparison), sentence)
    html = join(out, REPORT)
    text = page(assembled, comparison, correlations, found_gaps, plots, sentences, mlflow_ui)
    write_bytes(html, text.encode())
    return ReportPaths(html, tuple(written), summary_table(sweep, comparison), sentence)


def _save(out: str, plots: Iterable[Plot], pdf: bool) -> list[str]:
    """Write the figures in place of those of the report before; returns their paths."""
    endings = ("png", "svg", "pdf") if pdf else ("png", "svg")
    written = [path for plot in plots for path in plot.save(join(out, PLOTS), endings)]
    remove_old_figures(out, written)
    return written


def _check(options: argparse.Namespace) -> None:
    """Refuse wrong combinations of arguments before anything is read.

    Raises:
        AnalysisError: several sources, or a part of one, and nowhere to write to; or one that is
            kept apart.
    """
    count = len(options.sources)
    if count > 1 and not options.out:
        raise AnalysisError(f"--out: required with several sources ({count} given)")
    if (options.curves or options.anchor) and not options.out:
        raise AnalysisError(
            "--out: required with --curves and --anchor; a sweep keeps its own report"
        )
    if count == 1 and options.apart:
        raise AnalysisError("--apart: needs several sources; one was given")


def _add_choices(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose curves, and what they are compared with."""
    parser.add_argument(
        "--curves",
        metavar="FIELD=VALUE",
        nargs="+",
        default=[],
        help="show some curves alone, as scenario=d1,d3 codec=elic; fields are "
        f"{', '.join(FIELDS)}; the anchor stays",
    )
    parser.add_argument(
        "--anchor",
        metavar="SCENARIO",
        help="compare curves with this scenario; default: the decoded image (reconstruction)",
    )


def _add_directions(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which direction of a metric is better."""
    for direction in ("higher", "lower"):
        parser.add_argument(
            f"--{direction}-is-better",
            metavar="METRIC",
            nargs="+",
            default=[],
            help="metrics of others' tables whose names do not say so",
        )


def _chance(text: str) -> tuple[str, float]:
    """A task and the value that guessing gives, from `TASK=CHANCE`.

    Raises:
        argparse.ArgumentTypeError: it is of another form.
    """
    task, _, chance = text.rpartition("=")
    try:
        return task, float(chance)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not TASK=CHANCE, as vqa=0.25") from None


def parser(prog: str = PROGRAM) -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Make a sweep's figures and report from its points.",
    )
    parser.add_argument(
        "sources",
        metavar="PATH_OR_URI",
        nargs="+",
        help="a sweep's directory, points.parquet or .csv, a table of rates and of benchmarks' "
        "results, a tracking URI (sqlite:///..., http(s)://...), or "
        "mlflow:TRACKING_URI#EXPERIMENT[/SWEEP]; several are read as one sweep",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="where to write; default, with one source: beside the points of a sweep, and "
        "report-NAME in this directory for MLflow and other results",
    )
    parser.add_argument(
        "--apart",
        action="store_true",
        help="of several sources, keep what has the same name apart, as variants under the sweeps' "
        "names; otherwise it must be the same points",
    )
    parser.add_argument(
        "--complexity",
        metavar="FILE",
        help="what `python -m trainables.commands.complexity SPACE --json FILE` wrote; default: "
        f"{COMPLEXITY} beside the points, if it is there",
    )
    parser.add_argument(
        "--mlflow-ui",
        metavar="URL",
        help="where links to MLflow runs lead; default: the sweep's tracking server, else "
        f"{MLFLOW_UI}",
    )
    _add_directions(parser)
    _add_choices(parser)
    parser.add_argument(
        "--above-chance",
        metavar="TASK=CHANCE",
        nargs="*",
        type=_chance,
        help="normalise accuracies, so that guessing is 0 and all answers right are 1; tasks whose "
        "chance is not known need it here, as vqa=0.25",
    )
    parser.add_argument("--pdf", action="store_true", help="also write the figures as PDF")
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = PROGRAM) -> int:
    """The command; returns its exit code: 0, or 2 for input that cannot be read."""
    options = parser(prog).parse_args(arguments)
    try:
        _check(options)
        sweep = read_sweep(
            *options.sources,
            apart=options.apart,
            higher_is_better=options.higher_is_better,
            lower_is_better=options.lower_is_better,
        )
        sweep = choose(sweep, options.curves, options.anchor)
        if options.above_chance is not None:
            sweep = above_chance(sweep, dict(options.above_chance))
        paths = write_report(sweep, options.out, options.complexity, options.mlflow_ui, options.pdf)
    except (AnalysisError, OSError) as error:
        print_error(str(error))
        return 2
    print(printable_lines(paths.sentence))
    print(f"report: {paths.html}")
    print(f"plots:  {join(paths.html.rpartition('/')[0] or '.', PLOTS)} ({len(paths.plots)} files)")
    return 0
