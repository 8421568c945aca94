"""Trackers on the MLflow database in a test's directory, and what they log."""

import math
from pathlib import Path
from typing import Any

from orchestrator.tracking.mlflow_runs import Tracker
from orchestrator.tracking.sweep_identity import EXPERIMENT, SweepIdentity


def uri(directory: Path) -> str:
    return f"sqlite:///{directory}/mlflow.db"


def identity(name: str = "sweep", id: str = "") -> SweepIdentity:
    return SweepIdentity(name, id or f"id of {name}", EXPERIMENT, "ada")


def open_tracker(directory: Path, name: str = "sweep", id: str = "") -> Tracker:
    return Tracker(uri(directory), (directory / "mlruns").as_uri(), identity(name, id))


def manifest(stage: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "created": 1_700_000_000.25,
        "seconds": 3.0,
        "inputs": [],
        "code": {"commit": "abc", "dirty": False, "packages": {"torch": "2"}},
        "hardware": {"cpus": 2},
        "files": {"model.safetensors": {"bytes": 1, "sha256": "00"}},
    }


def row(**columns: Any) -> dict[str, Any]:
    """A row of the points file, of whose columns those are empty that are not given."""
    empty = dict.fromkeys(("psnr", "distill_pooled", "distill_tokens"))
    bounds = {"value_low": math.nan, "value_high": math.nan}
    return {"split": "test", "n_samples": 4, **bounds, **empty, **columns}
