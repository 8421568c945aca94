"""What earlier sweeps of a storage took besides their stages."""

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
        content = json_object(text)
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


def measured_sweeps(store: Store, name: str, most_points: int) -> list[str]:
    """Names of sweeps that have measured, of at most so many points: `name` first, then by age."""
    names = sweep_names(store)
    contents = map(json_object, store.read_all(f"{sweep}/sweep.json" for sweep in names))
    found = [
        (sweep == name, str(content.get("created", "")), sweep)
        for sweep, content in zip(names, contents, strict=True)
        if 0 < len(content.get("points") or ()) <= most_points
    ]
    return [sweep for *_, sweep in sorted(found, reverse=True)]


@dataclass(frozen=True)
class BesideStages:
    """Bytes of what a storage holds besides stages.

    Attributes:
        per_sweep: of its points file, report and plots, and of their copies in MLflow.
        per_point: of the examples of a complete point, of its run in MLflow and of logs.
    """

    per_sweep: float
    per_point: float


def beside_stages(store: Store) -> BesideStages | None:
    """What the sweeps of a storage take besides stages; None without a complete point.

    MLflow's files count where they are in the storage.
    """
    names = sweep_names(store)
    contents = map(json_object, store.read_all(f"{name}/sweep.json" for name in names))
    counts = {name: len(c.get("points") or ()) for name, c in zip(names, contents, strict=True)}
    written = [name for name, count in counts.items() if count]
    if not written:
        return None
    total, shared = store.size("mlflow.db"), 0
    for name in written:
        files = store.infos(name)
        total += sum(info.size for info in files.values())
        examples = f"{name}/examples/"
        shared += sum(i.size for file, i in files.items() if not file.startswith(examples))
    tracked = sum(info.size for place in _TRACKING for info in store.infos(place).values())
    copies = 2 if tracked > shared else 1
    rest = max(0, total + tracked - copies * shared)
    return BesideStages(copies * shared / len(written), rest / sum(counts.values()))


def json_object(text: bytes | None) -> Mapping[str, Any]:
    """An object of JSON data in the storage; empty where there is none, or it is damaged."""
    try:
        content = json.loads(text or b"{}")
    except (ValueError, RecursionError):  # cut, or not written by this program
        return {}
    return content if isinstance(content, dict) else {}
