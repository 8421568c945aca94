"""The small space, evaluated once in every scenario that it has."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.trainables.evaluation.setting import Setting

SCENARIOS = ("uncompressed", "reconstruction", "d1", "d3")


@pytest.fixture(scope="session")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    torch.set_num_threads(1)
    return Setting(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="session")
def results(
    setting: Setting, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What an evaluation wrote, by scenario; `out` is its directory."""
    out = tmp_path_factory.mktemp("out")
    return {s: setting.run(s, out / s) | {"out": out / s} for s in SCENARIOS}
