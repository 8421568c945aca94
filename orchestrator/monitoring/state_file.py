"""The state of a sweep as a file in its storage, `status/<sweep>.json`, which any machine can read.

Only the driver writes it. Whether that driver is alive, its lease says (storage/lease.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence, Set
from typing import Annotated, Final, Literal

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic reads no other before Python 3.12

from orchestrator.monitoring.job_states import JobStates
from orchestrator.storage.files import StoreError
from orchestrator.storage.store import Store
from search_spaces.settings.secrets import printable, without_secrets

SCHEMA: Final = 2
Whole = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[FiniteFloat, Field(lt=1e12)]
DIRECTORY: Final = "status"
MOST_LABELS: Final = 50
"""Jobs that are named of those that failed for one cause."""
_LOG: Final = re.compile(r" \(log: (?P<path>.*)\)$")


class Count(TypedDict):
    """Operating points or jobs."""

    total: Whole
    done: Whole
    failed: Whole
    cancelled: Whole


class Running(TypedDict):
    """A running job; `seconds` since its start, `left_s` of its phase, `host` may be empty."""

    label: str
    host: str
    phase: str
    step: FiniteFloat
    steps: FiniteFloat
    loss: float | None
    seconds: Seconds
    left_s: Seconds | None


class Failure(TypedDict):
    """A cause, how many jobs failed for it or were tried again, and the labels of some."""

    cause: str
    count: Whole
    labels: list[str]
    log: str


class SweepState(TypedDict):
    """The content of the file.

    `end`: None while it runs, `complete` (but for cancelled points), `incomplete` (points are
    missing), `stopped` (Ctrl-C) or `error` (then with a `reason`). `driver`: of
    `storage.process.Process`. `written`: date and time by the driver's clock. `wall_s`: of this
    driver. `gpu_hours`: of all drivers of the sweep. `cancelled`: labels of operating points, of
    at most `MOST_LABELS`.
    """

    schema: Literal[2]
    sweep: str
    end: str | None
    reason: str
    command: str
    driver: dict[str, str | int]
    written: str
    wall_s: Seconds
    lanes: Whole
    points: Count
    jobs: Count
    seconds_left: Seconds | None
    images_per_s: FiniteFloat
    gpu_hours: FiniteFloat
    running: list[Running]
    failed: list[Failure]
    retried: list[Failure]
    cancelled: list[str]
    notes: list[str]


_CONTENT: Final = TypeAdapter(SweepState)


def running_jobs(states: JobStates) -> list[Running]:
    """The running jobs, in the order in which they started."""
    with states.lock:
        now = states.clock()
        return [
            {
                "label": states.jobs[key].label,
                "host": job.host,
                "phase": job.phase,
                "step": job.step,
                "steps": job.steps,
                "loss": job.loss,
                "seconds": now - job.began,
                "left_s": job.left_in_phase(now),
            }
            for key, job in states.running.items()
        ]


def count_points(points: Set[str], open_jobs: Set[str], states: JobStates) -> Count:
    """Count operating points.

    Args:
        points: keys of those that are to be completed.
        open_jobs: keys of the jobs that were not done when the driver started.
    """
    with states.lock:
        left = points & (open_jobs - states.finished.keys())
        return {
            "total": len(points),
            "done": len(points - left),
            "failed": len(points & states.failed.keys()),
            "cancelled": len(points & states.cancelled),
        }


def count_jobs(open_jobs: Set[str], states: JobStates) -> Count:
    """Count the jobs that were not done when the driver started, or were added later."""
    with states.lock:
        return {
            "total": len(open_jobs),
            "done": len(states.finished),
            "failed": len(states.failed),
            "cancelled": len(states.cancelled),
        }


def cancelled_points(points: Set[str], states: JobStates) -> list[str]:
    """The labels of cancelled operating points, of some if there are many.

    Args:
        points: keys of those that are to be completed.
    """
    with states.lock:
        labels = sorted(states.jobs[key].label for key in points & states.cancelled)
        return labels[:MOST_LABELS]


def failed_jobs(states: JobStates) -> list[Failure]:
    """The jobs that failed for good or were not started for a reason, by their causes."""
    with states.lock:
        return failures([(states.jobs[key].label, text) for key, text in states.failed.items()])


def retried_jobs(states: JobStates) -> list[Failure]:
    """The failures after which jobs were tried again, by their causes."""
    with states.lock:
        return failures(
            [
                (states.jobs[key].label, text)
                for key, texts in states.retried.items()
                for text in texts
            ]
        )


def failures(reasons: Sequence[tuple[str, str]]) -> list[Failure]:
    """Failures by their causes.

    Args:
        reasons: label of a job, reason with the path of its log.
    """
    causes: dict[str, Failure] = {}
    for label, reason in reasons:
        match = _LOG.search(reason)
        cause = without_secrets(_LOG.sub("", reason))
        log = "" if match is None else match["path"]
        failure = causes.setdefault(cause, {"cause": cause, "count": 0, "labels": [], "log": log})
        failure["count"] += 1
        failure["labels"] = [*failure["labels"], label][:MOST_LABELS]
        failure["log"] = failure["log"] or log
    return list(causes.values())


def write_state(store: Store, state: SweepState) -> None:
    """Write the file."""
    store.write(_file(state["sweep"]), json.dumps(state, allow_nan=False).encode())


def sweeps_in(store: Store) -> list[str]:
    """The names of the sweeps of a storage that have such a file."""
    names = store.names(DIRECTORY)
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]


def no_such_sweep(store: Store, sweep: str) -> str:
    """The mistake of a sweep that a storage does not have."""
    if not store.directories():
        return f"no sweep {sweep!r}: {nothing_stored(store)}"
    names = ", ".join(map(printable, sweeps_in(store))) or "none"
    return f"no sweep {sweep!r} in {store.uri}; sweeps there: {names}"


def nothing_stored(store: Store) -> str:
    """Why a storage has nothing."""
    bucket = store.missing_bucket()
    if bucket is not None:
        return f"there is no bucket {bucket!r} for {store.uri}, or these keys may not see it"
    return f"nothing is stored in {store.uri}"


def read_state(store: Store, sweep: str) -> SweepState | None:
    """Read the file; None if there is none. It is of this sweep, whatever name it holds.

    Raises:
        StoreError: it is damaged, or from another version of this program.
    """
    is_path = "/" in sweep
    data = None if is_path else store.read(_file(sweep))
    if data is None:
        return None
    try:
        return {**_CONTENT.validate_json(data, strict=True), "sweep": sweep}
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False, include_input=False)
    place, (first, *_) = f"{_file(sweep)} in {store.uri}", mistakes
    if any(each["loc"] == ("schema",) or each["type"] == "missing" for each in mistakes):
        raise StoreError(f"{place} is of another version of this program")
    setting = "".join(f"{name}: " for name in first["loc"][:1])  # the names below are the file's
    raise StoreError(f"{place} is damaged: {setting}{first['msg']}")


def _file(sweep: str) -> str:
    return f"{DIRECTORY}/{sweep}.json"
