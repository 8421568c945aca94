"""Training curves on their way to MLflow, thinned to at most `MOST_ROWS` rows a run.

    reports of a step --LiveCurves, any thread--> few calls (`LIVE_EVERY_S`, `RUN_EVERY_S`)
    curve in the storage --Thinned.add_rest--> what the run does not have yet

A training has `_PARTS` equal parts of its steps. Of each part a run gets one row, and one more with
validation values. So rows that arrive live and rows of the finished curve fill the same places, and
a training that is tried again goes on where its run stands.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from orchestrator.tracking.mlflow_client import AwayError

MOST_ROWS: Final = 500
"""Of a run's curve: steps of which it has metrics."""
LIVE_EVERY_S: Final = 1.0
"""Seconds between two calls for live rows, at least. Each call serves one run, that which has
waited longest."""
RUN_EVERY_S: Final = 10.0
"""Seconds between two calls for live rows of one run, at least. With n trainings at a time, a run
is at most 10 seconds behind, or n, whichever is more."""
_PARTS: Final = 240
VALIDATION: Final = "val_"
"""Begins the names of validation values."""
BEST_BY: Final = "val_loss"
"""Lowest at the step whose weights are kept."""


@dataclass(frozen=True)
class CurveRow:
    """The metrics of a step.

    Attributes:
        step: 1 .. `steps`.
        steps: of the whole training.
        metrics: by name: loss terms, `val_*`, `images_per_s`, `lr`.
        time_ms: milliseconds since 1970.
    """

    step: int
    steps: int
    metrics: Mapping[str, float]
    time_ms: int

    @property
    def is_validated(self) -> bool:
        """Whether it has validation values."""
        return any(name.startswith(VALIDATION) for name in self.metrics)


class Thinned:
    """The rows of a curve that a run has.

    Args:
        steps: of the whole training.
        logged: step -> whether its row has validation values.
    """

    def __init__(self, steps: int, logged: Mapping[int, bool] | None = None) -> None:
        self._steps = max(steps, 1)
        self._logged: dict[int, bool] = {}
        self._filled: dict[int, bool] = {}
        """Part of the training -> whether one of its rows has validation values."""
        for step, is_validated in (logged or {}).items():
            self._add(step, is_validated)

    def add(self, rows: Iterable[CurveRow]) -> list[CurveRow]:
        """Add those rows, in the order of their steps, of whose part there is none yet.

        Returns:
            The rows that were added.
        """
        added = []
        for row in rows:
            part = self._part(row.step)
            is_new = part not in self._filled or (row.is_validated and not self._filled[part])
            if is_new and row.step not in self._logged:
                self._add(row.step, row.is_validated)
                added.append(row)
        return added

    def add_rest(self, curve: Sequence[CurveRow]) -> list[CurveRow]:
        """Add what is lacking of a finished curve: its first, last and best rows always.

        Returns:
            The rows that were added.
        """
        thinned: list[CurveRow] = []
        if len(self._logged.keys() | {row.step for row in curve}) <= MOST_ROWS:
            rest = list(curve)
        else:
            validated = [row for row in curve if BEST_BY in row.metrics]
            best = sorted(validated, key=lambda row: row.metrics[BEST_BY])[:1]
            rest = [curve[0], *best, curve[-1]]
            thinned = self.add(curve)
        lacking = {row.step: row for row in rest if row.step not in self._logged}
        for row in lacking.values():
            self._add(row.step, row.is_validated)
        return sorted([*thinned, *lacking.values()], key=lambda row: row.step)

    def _add(self, step: int, is_validated: bool) -> None:
        self._logged[step] = is_validated
        part = self._part(step)
        self._filled[part] = self._filled.get(part, False) or is_validated

    def _part(self, step: int) -> int:
        return (step - 1) * _PARTS // self._steps


class LiveCurves:
    """Rows of trainings that run, by key of the job, until they are logged.

    Args:
        clock: seconds.
        now: seconds since 1970.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._now = clock, now
        self._lock = threading.Lock()
        self._waiting: dict[str, list[CurveRow]] = {}
        self._thinned: dict[str, Thinned] = {}
        self._due = -inf
        self._served: dict[str, float] = {}
        """Key -> when the last rows were logged."""

    def add(self, key: str, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Add the row of a step, unless its part of the curve has one."""
        row = CurveRow(step, steps, dict(metrics), int(1000 * self._now()))
        with self._lock:
            thinned = self._thinned.setdefault(key, Thinned(steps))
            if added := thinned.add([row]):
                self._waiting.setdefault(key, []).extend(added)

    def drop(self, key: str) -> None:
        """Forget a training that has ended: the storage has its whole curve."""
        with self._lock:
            self._waiting.pop(key, None)
            self._thinned.pop(key, None)
            self._served.pop(key, None)

    def log_if_due(self, log: Callable[[str, list[CurveRow]], None]) -> None:
        """Call `log` with the rows of the training that has waited longest, if that is due.

        Raises:
            AwayError: of `log`; the rows wait on.
            RefusedError: of `log`; the rows are dropped.
        """
        now = self._clock()
        if now < self._due:
            return
        with self._lock:
            due = (k for k in self._waiting if now >= self._served.get(k, -inf) + RUN_EVERY_S)
            key = next(due, None)
            if key is None:
                return
            rows = list(self._waiting[key])
            self._served[key] = now
        self._due = now + LIVE_EVERY_S
        try:
            log(key, rows)
        except AwayError:
            raise
        except Exception:
            self._remove(key, len(rows))
            raise
        self._remove(key, len(rows))

    def _remove(self, key: str, count: int) -> None:
        with self._lock:
            left = self._waiting.pop(key, [])[count:]
            if left:
                self._waiting[key] = left
