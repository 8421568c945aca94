"""What earlier sweeps of a storage took besides their stages, from their `sweep.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.storage.references import sweep_names
from orchestrator.storage.store import Store

_TRACKING = ("mlflow", "mlruns", "logs")


@dataclass(frozen=True)
class PastSweep:
    """A run of an earlier sweep.

    Attributes:
        lanes: jobs at a time at most, of the storage's runs; a run of few jobs had fewer.
        start_s: seconds of the clock that were no computing in any lane: starting Ray, loading
            what every process needs, the report.
    """

    name: str
    lanes: int
    start_s: float


def latest_sweep(store: Store, name: str) -> PastSweep | None:
    """The latest run that made stages: of a sweep of this name, else of any other.

    Args:
        name: of a sweep, which may be new.
    """
    names = sweep_names(store)
    contents = store.read_all(f"{sweep}/sweep.json" for sweep in names)
    runs = []
    for sweep, text in zip(names, contents, strict=True):
        content = _object(text)
        timing = content.get("timing") or {}
        if timing.get("lanes") and timing.get("wall_s"):
            work = sum(timing.get("work_by_kind_s", {}).values())
            lanes = int(timing["lanes"])
            run = PastSweep(sweep, lanes, max(0.0, timing["wall_s"] - work / lanes))
            runs.append((sweep == name, str(content.get("created", "")), run))
    if not runs:
        return None
    latest = max(runs, key=lambda run: run[:2])[2]
    return replace(latest, lanes=max(run.lanes for _, _, run in runs))


def bytes_beside_stages(store: Store) -> float | None:
    """Bytes per complete point of what a storage holds besides stages; None without a point.

    Points files, reports, plots and examples of all sweeps, MLflow's files in the storage, logs.
    """
    names, points, size = sweep_names(store), 0, 0
    for text in store.read_all(f"{name}/sweep.json" for name in names):
        points += len(_object(text).get("points") or {})
    if not points:
        return None
    for directory in (*names, *_TRACKING):
        size += sum(info.size for info in store.infos(directory).values())
    return (size + store.size("mlflow.db")) / points


def _object(text: bytes | None) -> Mapping[str, Any]:
    try:
        content = json.loads(text or b"{}")
    except ValueError:  # a driver is writing it, or was killed
        return {}
    return content if isinstance(content, dict) else {}
