"""The last words of a sweep: its table, where things are, what is missing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from orchestrator.plan.jobs import Plan
from orchestrator.tracking.mlflow_runs import open_command
from orchestrator.validation.inputs import safe_uri

if TYPE_CHECKING:
    from analysis.report.build import ReportPaths
    from orchestrator.driver.run import Outcome, Request


def tell(request: Request, plan: Plan, outcome: Outcome) -> None:
    """Print the table of curves, the paths, the missing points (to stderr) and the MLflow UI."""
    report = outcome.report
    if report is not None:
        print(f"\n{_table(report)}\n\n{report.sentence}\n")
        print(f"report  {report.html}")
        print(f"points  {request.store.uri}/{request.name}/points.parquet")
        for plot in report.plots:
            if plot.endswith(".png"):
                print(f"plot    {plot}")
    print(f"MLflow  {open_command(safe_uri(outcome.tracking_uri))}", flush=True)
    if request.verbose:
        print(_efficiency(outcome.timing))
    if outcome.missing:
        count = f"{len(outcome.missing)} of {len(plan.points)} points are missing:"
        print(f"\n{count}", file=sys.stderr)
        for one in outcome.missing.values():
            hint = f"\n    log: {one.log}" if one.log and one.log not in one.reason else ""
            print(f"  {one.point.label}: {one.reason}{hint}", file=sys.stderr)
        print(f"the same command tries them again:\n  {request.command}", file=sys.stderr)


def _efficiency(timing: dict[str, Any]) -> str:
    if not timing.get("work_s"):
        return "nothing had to be run"
    ideal = timing["work_s"] / max(1, timing["lanes"])
    return (
        f"wall {timing['wall_s']:.0f} s, work {timing['work_s']:.0f} s: "
        f"{timing['wall_s'] / ideal:.2f} x the ideal schedule of {timing['lanes']} at a time"
    )


def _table(report: ReportPaths) -> str:
    """The summary without its notes, which are long and stand in the report."""
    summary = report.summary
    if not len(summary):
        return "no curves yet"
    return str(summary.drop(columns="note", errors="ignore").to_string(index=False))
