"""Sweeps made once for all tests of analysis."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.analysis.rich import make_rich
from tests.analysis.sweeps import make_sweep


@pytest.fixture(scope="session")
def sweep_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sweep(tmp_path_factory.mktemp("storage") / "demo")


@pytest.fixture(scope="session")
def holey_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = {("d2", 0.004): "diverged", ("post_processing", 0.012): "killed"}
    return make_sweep(tmp_path_factory.mktemp("holes") / "demo", missing)


@pytest.fixture(scope="session")
def rich_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rich(tmp_path_factory.mktemp("rich") / "demo")
