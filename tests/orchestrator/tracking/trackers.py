"""Trackers on the MLflow database in a test's directory."""

from pathlib import Path

from orchestrator.tracking.mlflow_runs import Tracker


def uri(directory: Path) -> str:
    return f"sqlite:///{directory}/mlflow.db"


def open_tracker(directory: Path, name: str = "sweep") -> Tracker:
    return Tracker(uri(directory), (directory / "mlruns").as_uri(), name)
