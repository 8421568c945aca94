"""What tests of several packages need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How fast a machine is, or what else it does, is no property of the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# Clusters of other tests write their address where a sweep without this one looks.
os.environ["RAY_ADDRESS"] = "local"
# Ray would kill processes of a test where other programs of the machine fill its memory.
os.environ |= {"RAY_memory_monitor_refresh_ms": "0"}


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables and nothing in them; making them takes seconds."""
    from mlflow import MlflowClient  # takes a second: not for tests without it

    directory = tmp_path_factory.mktemp("mlflow")
    client = MlflowClient(f"sqlite:///{directory}/mlflow.db")
    client.search_experiments()
    return directory / "mlflow.db"
