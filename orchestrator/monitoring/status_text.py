"""The state of a sweep as text: a head, a table of what runs, and what failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum

from orchestrator.monitoring.job_states import clock_text
from orchestrator.monitoring.state_file import Failure, Running, SweepState
from search_spaces.settings.secrets import printable

MOST_LABELS = 8
"""Jobs or points that are named of a list."""
_PHASES = ("starting Ray", "writing the report")
"""Notes about what a driver does just now."""
_HEAD = ("host", "job", "phase", "step", "loss", "for", "left")


class Driver(Enum):
    """What has become of the driver that wrote a state."""

    ALIVE = "running"
    UNKNOWN = "running, or its driver died a moment ago"
    ENDED = "ended"
    DIED = "its driver died"
    SUCCEEDED = "a new driver has started; this is what the one before it left"

    def lines(self, state: SweepState) -> list[str]:
        """Lines about the driver, with what to do about it."""
        if self is Driver.ENDED:
            text = f"{state['end']}{': ' if state['reason'] else ''}{state['reason']}"
        else:
            host, pid = state["driver"].get("host"), state["driver"].get("pid")
            text = f"{self.value} (process {pid} on {host})"
        lines = [text]
        has_more = state["end"] != "complete" or state["cancelled"]
        if self is Driver.DIED or (self is Driver.ENDED and has_more):
            lines += ["the same command continues:", f"  {state['command']}"]
        return [*map(printable, lines)]


def status_text(state: SweepState, driver: Driver) -> str:
    """The status of a sweep, in lines."""
    points, jobs = state["points"], state["jobs"]
    left = None if driver is Driver.DIED else state["seconds_left"]
    counts = [
        f"points {points['done']}/{points['total']}",
        *([f"{points['cancelled']} points cancelled"] if points["cancelled"] else []),
        f"jobs {jobs['done']}/{jobs['total']}",
        *([f"{jobs['failed']} jobs failed"] if jobs["failed"] else []),
        f"for {clock_text(state['wall_s'])}",
        *([] if left is None else [f"about {clock_text(left)} left"]),
        f"{state['gpu_hours']:.2f} GPU-hours",
        *([f"{state['images_per_s']:.0f} images/s"] if state["images_per_s"] else []),
    ]
    lines = [
        printable(f"sweep {state['sweep']}, written {state['written']}"),
        *driver.lines(state),
        "  ".join(counts),
    ]
    # What a dead driver had started runs no more.
    if state["running"] and driver is not Driver.DIED:
        lines += ["", *_table([_HEAD, *map(_row, state["running"])])]
    lines += _failures("failed:", state["failed"])
    lines += _failures("tried again:", state["retried"])
    if state["cancelled"]:
        labels = shortened(state["cancelled"], points["cancelled"])
        lines += ["", "cancelled (the same command does them again):", printable(f"  {labels}")]
    if notes := [note for note in state["notes"] if not (state["end"] and note in _PHASES)]:
        lines += ["", "notes:", *(f"  {printable(note)}" for note in notes)]
    return "\n".join(lines)


def _row(job: Running) -> tuple[str, ...]:
    loss, left = job["loss"], job["left_s"]
    return (
        job["host"] or "-",
        job["label"],
        job["phase"],
        f"{job['step']:g}/{job['steps']:g}" if job["steps"] else "-",
        "-" if loss is None else f"{loss:.4g}",
        clock_text(job["seconds"]),
        "-" if left is None else clock_text(left),
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with columns of equal width."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _failures(title: str, failures: Sequence[Failure]) -> Iterator[str]:
    if failures:
        yield from ("", title)
    for failure in failures:
        yield printable(f"  {failure['cause']}")
        yield printable(f"    {shortened(failure['labels'], failure['count'])}")
        if failure["log"]:
            yield printable(f"    log: {failure['log']}")


def shortened(labels: Sequence[str], count: int) -> str:
    """Some labels, and how many more there are.

    Args:
        labels: of which `MOST_LABELS` are shown.
        count: how many there are in all.
    """
    more = count - len(labels[:MOST_LABELS])
    return f"{', '.join(labels[:MOST_LABELS])}{f' and {more} more' if more > 0 else ''}"
