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


@dataclass(frozen=True)
class BesideStages:
    """Bytes of what a storage holds besides stages.

    Attributes:
        per_sweep: of its points file, report and plots, and of their copies in MLflow.
        per_point: of the examples of a complete point, of its run in MLflow and of logs.
    """

    per_sweep: float
    per_point: float


class PastSweeps:
    """The sweeps of a storage, as they were when their manifests were read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        names = sweep_names(store)
        contents = store.read_all(f"{name}/sweep.json" for name in names)
        self._manifests = dict(zip(names, map(json_object, contents), strict=True))

    def __contains__(self, name: str) -> bool:
        """Whether a sweep has written its manifest."""
        return bool(self._manifests.get(name))

    def latest(self, name: str) -> PastSweep | None:
        """The latest run that made stages: of a sweep of this name, else of any other.

        Args:
            name: of a sweep, which may be new.
        """
        runs = []
        for sweep, content in self._manifests.items():
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

    def measured(self, name: str, most_points: int) -> list[str]:
        """Names of those that measured, of at most so many points: `name` first, then by age."""
        found = [
            (sweep == name, str(self._manifests[sweep].get("created", "")), sweep)
            for sweep, count in self._points().items()
            if count <= most_points
        ]
        return [sweep for *_, sweep in sorted(found, reverse=True)]

    def beside_stages(self) -> BesideStages | None:
        """What the sweeps take besides stages; None without a complete point.

        MLflow's files count where they are in the storage.
        """
        store, counts = self._store, self._points()
        if not counts:
            return None
        total, shared = store.size("mlflow.db"), 0
        for name in counts:
            files = store.infos(name)
            total += sum(info.size for info in files.values())
            examples = f"{name}/examples/"
            shared += sum(i.size for file, i in files.items() if not file.startswith(examples))
        tracked = sum(info.size for place in _TRACKING for info in store.infos(place).values())
        copies = 2 if tracked > shared else 1
        rest = max(0, total + tracked - copies * shared)
        return BesideStages(copies * shared / len(counts), rest / sum(counts.values()))

    def _points(self) -> dict[str, int]:
        """Complete points of each sweep that has any."""
        counts = {name: len(c.get("points") or ()) for name, c in self._manifests.items()}
        return {name: count for name, count in counts.items() if count}


def json_object(text: bytes | None) -> Mapping[str, Any]:
    """An object of JSON data in the storage; empty where there is none, or it is damaged."""
    try:
        content = json.loads(text or b"{}")
    except (ValueError, RecursionError):  # cut, or not written by this program
        return {}
    return content if isinstance(content, dict) else {}
