"""The last lines that a sweep prints: its table, the paths of its files, its missing points."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from orchestrator.monitoring.status_text import shortened
from orchestrator.plan.jobs import Plan
from orchestrator.recording.report import left_out_lines
from orchestrator.recording.request import Outcome, Request, Timing
from orchestrator.steering.words import AGAIN, number_of
from orchestrator.tracking.mlflow_client import open_command, page_address
from orchestrator.tracking.points_file import MissingPoint
from search_spaces import operating_points
from search_spaces.settings.secrets import printable, printable_lines, without_secrets

if TYPE_CHECKING:  # Matplotlib takes seconds
    from analysis.report.paths import ReportPaths


_LOG = re.compile(r" \(log: .*\)$")


def print_summary(request: Request, plan: Plan, outcome: Outcome) -> None:
    """Print the table of curves, paths, the MLflow UI and, to stderr, the missing points."""
    report = outcome.report
    if report is not None:
        print(printable_lines(f"\n{_table(report)}\n\n{report.sentence}\n"))
        print(f"report  {report.html}")
        print(f"points  {request.store.uri}/{request.name}/points.parquet")
        for plot in report.plots:
            if plot.endswith(".png"):
                print(f"plot    {plot}")
    tracking_uri = without_secrets(outcome.tracking_uri)
    print(f"MLflow  {open_command(tracking_uri)}", flush=True)
    if not outcome.page:
        print("MLflow lacks what it could not take until the end; the same command logs the rest")
    else:
        print(f"runs    {printable(page_address(tracking_uri, outcome.page))}", flush=True)
    if request.verbose:
        print(_efficiency(outcome.timing))
    if outcome.sliced:
        print(
            "out of memory at first, then trained with more accumulation at the same effective "
            f"batch: {printable(', '.join(outcome.sliced))}"
        )
    for line in left_out_lines(outcome.left_out):
        print(printable(line))
    if others := _others_shown(request, plan):
        print(f"also shown, as stored before: {number_of(others)} that --only leaves out")
    if outcome.cancelled:
        labels = shortened(outcome.cancelled, len(outcome.cancelled))
        print(f"cancelled: {printable(labels)}; {AGAIN}", flush=True)
    if outcome.missing:
        count = f"{len(outcome.missing)} of {len(plan.points)} points are missing:"
        print(f"\n{count}", file=sys.stderr)
        for line in _causes(outcome.missing.values()):
            print(printable(line), file=sys.stderr)
        print(f"the same command tries them again:\n  {request.command}", file=sys.stderr)


def _others_shown(request: Request, plan: Plan) -> int:
    """How many complete points of the space were not wanted by this command."""
    if len(request.points) == len(operating_points(request.space)):
        return 0
    return len({plan.key(point) for point in plan.complete_points()} - plan.wanted.keys())


def _causes(missing: Iterable[MissingPoint]) -> Iterator[str]:
    """Each cause once, the points that are missing for it, and the first log that explains it."""
    by_cause: dict[str, list[MissingPoint]] = {}
    for gone in missing:
        # A full disk may have kept the log from being written, though the reason names it.
        cause = _LOG.sub("", gone.reason)
        by_cause.setdefault(cause, []).append(gone)
    for cause, points in by_cause.items():
        yield f"  {cause}"
        yield f"    {', '.join(gone.point.label for gone in points)}"
        yield from [f"    log: {gone.log}" for gone in points if gone.log][:1]


def _efficiency(timing: Timing) -> str:
    if not timing.get("work_s"):
        return "nothing had to be run"
    ideal = timing["work_s"] / max(1, timing["lanes"])
    return (
        f"wall {timing['wall_s']:.0f} s, work {timing['work_s']:.0f} s: "
        f"{timing['wall_s'] / ideal:.2f} x the ideal schedule of {timing['lanes']} at a time"
    )


def _table(report: ReportPaths) -> str:
    """The summary table without its notes, which are long and are in the report."""
    summary = report.summary
    if not len(summary):
        return "no curves yet"
    return str(summary.drop(columns="note", errors="ignore").to_string(index=False))
