import shutil
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def database(empty_database: Path, tmp_path: Path) -> None:
    """An MLflow database with its tables; creating them takes seconds."""
    shutil.copy(empty_database, tmp_path)
