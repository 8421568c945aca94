"""The child runs of a sweep in MLflow: one for each operating point and each base codec.

A run is found again by the sweep's id and its own stage key, and what it has is not written again.
A run that somebody deleted is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orchestrator.tracking.curves import CurveRow, Thinned
from orchestrator.tracking.mlflow_client import Client, RefusedError
from orchestrator.tracking.run_content import CURVE, RunSubject, curve_metrics
from orchestrator.tracking.sweep_identity import SweepIdentity

if TYPE_CHECKING:  # MLflow takes seconds
    from mlflow.entities import Metric, Run

PARENT: Final = "mlflow.parentRunId"
OWNER: Final = "mlflow.user"
KIND, SWEEP, SWEEP_ID = "bridgesweep.kind", "bridgesweep.sweep", "bridgesweep.sweep_id"
STATUS, CONTENT, REASON = "bridgesweep.status", "bridgesweep.content", "bridgesweep.reason"
KEYS: Final = {"point": "bridgesweep.point_key", "codec": "bridgesweep.codec_key"}
"""Kind of a child -> the tag with the key of its stage."""
_MOST_ENTITIES: Final = 1000
"""Metrics, parameters and tags: the most that MLflow takes with one call."""
_SHOWN: Final = 60
"""Characters of a name in a message."""
_CUT_AT: Final = 250
"""Servers may cut longer parameters."""


@dataclass
class ChildRun:
    """A child run, as far as this process has read or written it.

    Attributes:
        params: those that the run has.
        is_new: whether this process made it.
        curve: None until it is asked for.
        waiting: parameters that go with the next metrics or tags.
    """

    id: str
    kind: str
    tags: dict[str, str]
    params: dict[str, str]
    is_new: bool
    curve: Thinned | None = None
    waiting: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The tag: `running`, `complete`, `trained`, `failed`, `cancelled` or `stale`."""
        return self.tags.get(STATUS, "")


class ChildRuns:
    """The child runs of a sweep, by the key of their stage.

    Args:
        client: of MLflow.
        experiment: id.
        sweep: to which they belong.
        parent: id of the sweep's run.
        runs: all runs with the sweep's id, the oldest first.

    Attributes:
        refusals: what the server refused that cost nothing else, to be shown.
    """

    def __init__(
        self,
        client: Client,
        experiment: str,
        sweep: SweepIdentity,
        parent: str,
        runs: Iterable[Run],
    ) -> None:
        self._client, self._experiment = client, experiment
        self._sweep, self._parent = sweep, parent
        self._runs: dict[str, ChildRun] = {}
        self.refusals: list[str] = []
        for run in runs:
            tags = dict(run.data.tags)
            kind, run_id = tags.get(KIND, ""), str(run.info.run_id)
            key = tags.get(KEYS.get(kind, ""))
            if key is None:
                continue
            if key in self._runs:  # two drivers at once made it
                client.call(client.mlflow.delete_run, run_id)
            else:
                self._runs[key] = ChildRun(run_id, kind, tags, dict(run.data.params), False)
        self.adopt(parent)

    def adopt(self, parent: str) -> None:
        """Bring all runs below a parent run."""
        self._parent = parent
        for key, run in self.items():
            if run.tags.get(PARENT) != parent:
                self.update(key, {PARENT: parent})

    def get(self, key: str) -> ChildRun | None:
        """The run of a stage, if there is one."""
        return self._runs.get(key)

    def items(self, kind: str | None = None) -> list[tuple[str, ChildRun]]:
        """Keys and runs, of one kind or of all."""
        return [(key, run) for key, run in self._runs.items() if kind in (None, run.kind)]

    def write(
        self, subject: RunSubject, write: Callable[[ChildRun], None], began: int | None = None
    ) -> ChildRun:
        """Call `write` with a subject's run, which is made if there is none or it was deleted.

        Args:
            began: when the training began, in milliseconds since 1970, for a new run; None: now.

        Raises:
            RefusedError: by `write`, though the run is there.
        """
        run = self._runs.get(subject.key) or self._create(subject, began)
        try:
            write(run)
        except RefusedError:
            if not self._client.is_deleted(run.id):
                raise
            del self._runs[subject.key]
            run = self._create(subject, began)
            write(run)
        return run

    def _create(self, subject: RunSubject, began: int | None) -> ChildRun:
        tags = {
            PARENT: self._parent,
            OWNER: self._sweep.owner,
            KIND: subject.kind,
            KEYS[subject.kind]: subject.key,
            SWEEP: self._sweep.name,
            SWEEP_ID: self._sweep.id,
            STATUS: "running",
            **subject.tags,
        }
        create = self._client.mlflow.create_run
        run_id = str(self._client.call(create, self._experiment, began, tags).info.run_id)
        run = ChildRun(run_id, subject.kind, tags, {}, is_new=True)
        self._runs[subject.key] = run
        self.log_params(run, subject.params)
        return run

    def log_params(self, run: ChildRun, params: Mapping[str, object]) -> None:
        """Log the parameters that a run lacks with its next metrics or tags; report changes."""
        texts = {name: str(value) for name, value in params.items()}
        changed = [
            n for n in texts.keys() & run.params.keys() if not _same(run.params[n], texts[n])
        ]
        label = run.tags.get("mlflow.runName", run.id)
        if changed:
            name = min(changed)
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            self.refusals.append(
                f"{label} keeps its parameter {name} = {run.params[name]}, now {texts[name]}{more}"
            )
        run.waiting = {name: text for name, text in texts.items() if name not in run.params}

    def log(
        self, run: ChildRun, metrics: Sequence[Metric] = (), tags: Mapping[str, str] | None = None
    ) -> None:
        """Log metrics, tags and waiting parameters; report the parameters that are refused."""
        waiting = run.waiting
        try:
            self._send(run, metrics, tags or {}, waiting)
        except RefusedError:
            if not waiting or self._client.is_deleted(run.id):
                raise
            self._log_one_by_one(run, waiting)
            self._send(run, metrics, tags or {}, {})

    def _log_one_by_one(self, run: ChildRun, params: Mapping[str, str]) -> None:
        """Log all parameters but those that are refused, which are reported."""
        for name, text in params.items():
            try:
                self._send(run, (), {}, {name: text})
            except RefusedError as error:
                label = run.tags.get("mlflow.runName", run.id)
                self.refusals.append(f"{label}, parameter {name[:_SHOWN]}: {error}")

    def _send(
        self,
        run: ChildRun,
        metrics: Sequence[Metric],
        tags: Mapping[str, str],
        params: Mapping[str, str],
    ) -> None:
        from mlflow.entities import Param, RunTag

        of_run = [Param(name, text) for name, text in params.items()]
        # A run's name that is sent again costs MLflow's database a transaction of its own.
        labels = [RunTag(n, value) for n, value in tags.items() if run.tags.get(n) != value]
        self._client.call(self._client.mlflow.log_batch, run.id, metrics, of_run, labels)
        run.tags |= tags
        run.params |= params
        run.waiting = {}

    def update(self, key: str, tags: Mapping[str, str], status: str | None = None) -> None:
        """Set tags of a run, and end it; forget one that was deleted, report what is refused.

        Args:
            key: of its stage.
            status: MLflow's; None: the run is not ended.
        """
        run = self._runs[key]
        try:
            self.log(run, tags=tags)
            if status is not None:
                self.end(run, status)
        except RefusedError as error:
            if self._client.is_deleted(run.id):
                del self._runs[key]
            else:
                self.refusals.append(f"{run.tags.get('mlflow.runName', run.id)}: {error}")

    def log_live(self, run: ChildRun, rows: Sequence[CurveRow]) -> None:
        """Log rows of a training that runs, as far as they are kept and the run lacks them."""
        added = self._curve(run, rows[0].steps).add(rows)
        self._log_rows(run, added)
        if run.status != "running":
            self._client.call(self._client.mlflow.update_run, run.id, "RUNNING")
            self.log(run, tags={STATUS: "running"})

    def log_rest(
        self,
        run: ChildRun,
        rows: Sequence[CurveRow],
        metrics: Sequence[Metric],
        tags: Mapping[str, str],
    ) -> None:
        """Log what a run lacks of a finished curve, with the last rows metrics, then tags."""
        added = self._curve(run, rows[0].steps).add_rest(rows) if rows else []
        self._log_rows(run, added, metrics, tags)

    def end(self, run: ChildRun, status: str, end_ms: int | None = None) -> None:
        """End a run.

        Args:
            status: MLflow's: `FINISHED`, `FAILED` or `KILLED`.
            end_ms: milliseconds since 1970; None: now.
        """
        self._client.call(self._client.mlflow.set_terminated, run.id, status, end_ms)

    def _curve(self, run: ChildRun, steps: int) -> Thinned:
        if run.curve is None:
            run.curve = Thinned(steps, {} if run.is_new else self._logged_steps(run))
        return run.curve

    def _logged_steps(self, run: ChildRun) -> dict[int, bool]:
        """The steps of which a run has a row -> whether that has validation values."""
        history = self._client.mlflow.get_metric_history
        trained, validated = (
            {metric.step for metric in self._client.call(history, run.id, f"{CURVE}{name}")}
            for name in ("loss", "val_loss")
        )
        return {step: step in validated for step in trained | validated}

    def _log_rows(
        self,
        run: ChildRun,
        rows: Sequence[CurveRow],
        metrics: Sequence[Metric] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log rows, none of them split, so that a run has a row whole or not at all.

        Metrics and tags, at most 900, go with the last rows where the limit allows it.
        """
        try:
            batch: list[Metric] = []
            for group in (*(curve_metrics([row]) for row in rows), [*metrics]):
                others = len(tags or ()) + len(run.waiting)
                if len(batch) + len(group) + others > _MOST_ENTITIES:
                    self.log(run, batch)
                    batch = []
                batch += group
            if batch or tags:
                self.log(run, batch, tags)
        except Exception:
            run.curve, run.is_new = None, False  # what the run has now, the server must tell
            raise


def _same(kept: str, text: str) -> bool:
    return kept == text or (len(kept) >= _CUT_AT and text.startswith(kept))
