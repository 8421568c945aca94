"""The parent run of a sweep in MLflow: its progress while it runs, its files at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.tracking.child_runs import KIND, OWNER, STATUS, SWEEP, SWEEP_ID
from orchestrator.tracking.mlflow_client import Client, RefusedError
from orchestrator.tracking.sweep_identity import SweepIdentity

if TYPE_CHECKING:  # MLflow takes seconds
    from mlflow.entities import Metric, Run

DESCRIPTION: Final = "mlflow.note.content"
DONE, TOTAL = "points_complete", "points_total"


class ParentRun:
    """The parent run. One that somebody deleted is made anew.

    Args:
        client: of MLflow.
        experiment: id.
        sweep: of which it is the run.
        runs: the parent runs that the sweep has, the oldest first; one is made if there is none.
        on_new: called with the id of a run that replaces a deleted one.

    Attributes:
        id: of the run.
    """

    def __init__(
        self,
        client: Client,
        experiment: str,
        sweep: SweepIdentity,
        runs: Sequence[Run],
        on_new: Callable[[str], None],
    ) -> None:
        self._client, self._experiment, self._sweep = client, experiment, sweep
        self._on_new = on_new
        self._counts: dict[str, float] = {}
        """Of points, as the run has them."""
        self.id = str(runs[0].info.run_id) if runs else self._create()
        if runs:
            self._counts = {n: v for n, v in runs[0].data.metrics.items() if n in (DONE, TOTAL)}
            if runs[0].data.tags.get(OWNER) != sweep.owner:
                self._log(tags={OWNER: sweep.owner})

    def _create(self) -> str:
        tags = {
            KIND: "sweep",
            SWEEP: self._sweep.name,
            SWEEP_ID: self._sweep.id,
            OWNER: self._sweep.owner,
            "mlflow.runName": self._sweep.name,
        }
        create = self._client.mlflow.create_run
        return str(self._client.call(create, self._experiment, None, tags).info.run_id)

    def _write(self, write: Callable[[], None]) -> None:
        """Write to the run; if it was deleted, to a new one."""
        try:
            write()
        except RefusedError:
            if not self._client.is_deleted(self.id):
                raise
            self.id, self._counts = self._create(), {}
            self._on_new(self.id)
            write()

    def _log(self, metrics: Iterable[Metric] = (), tags: Mapping[str, str] | None = None) -> None:
        from mlflow.entities import RunTag

        entities = [RunTag(name, value) for name, value in (tags or {}).items()]
        self._client.call(self._client.mlflow.log_batch, self.id, [*metrics], [], entities)

    def log_done(self, done: int, total: int) -> None:
        """Log how many operating points are complete and how many there are, if that has changed.

        Raises:
            AwayError: the server does not answer.
            RefusedError: it refuses the numbers.
        """
        from mlflow.entities import Metric

        def write() -> None:
            counts = {DONE: float(done), TOTAL: float(total)}
            new = {name: n for name, n in counts.items() if self._counts.get(name) != n}
            if new:
                now_ms = int(1000 * time.time())
                self._log([Metric(name, n, now_ms, done) for name, n in new.items()])
                self._counts |= new

        self._write(write)

    def show_progress(self, table: Path, plots: Path, sentence: str) -> None:
        """Give the run the figures and the table of an unfinished sweep.

        Args:
            table: a CSV of the points so far.
            plots: a directory of their figures.
            sentence: the description.

        Raises:
            AwayError: the server does not answer.
            RefusedError: it refuses them.
        """

        def write() -> None:
            self._log(tags={STATUS: "running", DESCRIPTION: sentence})
            self._client.upload(self.id, table)
            self._client.upload(self.id, plots, "plots")
            self._client.call(self._client.mlflow.update_run, self.id, "RUNNING")

        self._write(write)

    def finish(self, directory: Path, space: str, complete: bool, sentence: str) -> None:
        """Give the run its artifacts and description, and end it.

        Args:
            directory: with what the run gets of the sweep's: points, report and plots.
            space: name.
            complete: whether all wanted points are.
            sentence: the description: the result in words.

        Raises:
            AwayError: the server does not answer.
            RefusedError: it refuses them.
        """
        tags = {
            STATUS: "complete" if complete else "failed",
            DESCRIPTION: sentence,
            "bridgesweep.space": space,
        }

        def write() -> None:
            self._log(tags=tags)
            self._client.upload(self.id, directory)
            status = "FINISHED" if complete else "FAILED"
            self._client.call(self._client.mlflow.set_terminated, self.id, status)

        self._write(write)
