"""What a sweep is asked for, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from orchestrator.storage.store import Store
from orchestrator.tracking.points_file import MissingPoint
from orchestrator.tracking.sweep_identity import EXPERIMENT, login_name
from search_spaces import OperatingPoint, Space
from search_spaces.settings.secrets import without_secrets

if TYPE_CHECKING:  # Matplotlib takes seconds
    from analysis.report.paths import ReportPaths


@dataclass(frozen=True)
class Request:
    """What the command line asked for.

    Attributes:
        points: the wanted operating points of the space.
        name: the sweep's.
        tracking_uri: of MLflow; None for the database in the storage.
        verbose: show what Ray logs.
        began: `time.monotonic` at the start of the command.
        command: as it can be typed again, without secrets.
        insecure: use a cluster that asks for no token.
        experiment: name of MLflow's experiment.
        owner: name of the user that makes MLflow's runs.
        notify: URL of a webhook or command that is told of the end; None for nobody.
    """

    space: Space
    points: tuple[OperatingPoint, ...]
    store: Store
    name: str
    tracking_uri: str | None
    verbose: bool
    began: float
    command: str
    insecure: bool = False
    experiment: str = EXPERIMENT
    owner: str = field(default_factory=login_name)
    notify: str | None = None

    @property
    def driver_log(self) -> Path:
        """What the driver of the sweep logs; of a remote storage in this machine's cache."""
        return self.store.local("logs", f"{self.name}-driver.log")

    @property
    def options(self) -> dict[str, str]:
        """The options that a command which adds points must share, without secrets."""
        return {
            "--tracking-uri": without_secrets(self.tracking_uri or ""),
            "--experiment": self.experiment,
        }


@dataclass(frozen=True)
class SearchResult:
    """What came of the search of a sweep.

    Attributes:
        has_best: whether a trial was trained to its end.
        text: lines for a person.
    """

    has_best: bool
    text: str


@dataclass(frozen=True)
class JobResults:
    """What came of a plan's jobs.

    Attributes:
        done: keys of the jobs that were run.
        failed: key -> reason.
        cancelled: keys of the jobs that a person has cancelled.
        lanes: how many jobs ran at a time at most.
    """

    done: frozenset[str] = frozenset()
    failed: dict[str, str] = field(default_factory=dict)
    cancelled: frozenset[str] = frozenset()
    lanes: int = 0


class Timing(TypedDict, total=False):
    """How long a sweep took; empty if nothing was ever run.

    `wall_s` of the clock; `work_s` of computing in codecs, points and evaluations, and
    `work_by_kind_s` by kind of stage; `lanes` is how many jobs ran at a time at most.
    """

    wall_s: float
    work_s: float
    work_by_kind_s: dict[str, float]
    lanes: int


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended.

    Attributes:
        report: None if no point is complete, or the report failed.
        missing: by key of the point.
        sliced: labels of what ran out of memory and was trained with more accumulation, at the same
            effective batch.
        error: of this program, in the report or while it logged.
        page: of the MLflow UI with the sweep's points; empty while the server is away.
        left_out: images and samples that were skipped, a line for each data set or point.
        cancelled: labels of the points that a person has cancelled.
    """

    report: ReportPaths | None
    missing: dict[str, MissingPoint]
    tracking_uri: str
    timing: Timing
    sliced: tuple[str, ...] = ()
    error: Exception | None = None
    page: str = ""
    left_out: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
