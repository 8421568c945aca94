"""A storage with a database of MLflow, and a plan of it."""

from pathlib import Path

import pytest

from orchestrator.plan.jobs import Plan
from orchestrator.storage.provenance import fingerprints
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points
from tests.orchestrator.tracking.conftest import database as database


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.fixture
def plan(store: Store) -> Plan:
    space = load_space("smoke")
    return Plan(space, operating_points(space), fingerprints(space), store)
