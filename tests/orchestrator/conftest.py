import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.orchestrator.models import write_models

ROOT = Path(__file__).parents[2]
Sweep = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Directories of a random teacher and a random MLLM."""
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def command(models: tuple[Path, Path]) -> Callable[[Path], list[str]]:
    """The sweep of the smoke space with random models, into a storage."""
    clip, llava = models

    def build(storage: Path, *more: str) -> list[str]:
        given = ["--set", f"teacher.model={clip}", "--set", f"mllms=[{llava}]"]
        base = [sys.executable, "-m", "orchestrator.sweep", "smoke", "--storage", str(storage)]
        return [*base, *given, *more]

    return build


@pytest.fixture(autouse=True)
def no_token_is_left() -> Iterator[None]:
    """Ray would give a test's token to the clusters of later tests, and send them another one."""
    before = os.environ.get("RAY_AUTH_TOKEN")
    yield
    assert os.environ.get("RAY_AUTH_TOKEN") == before


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """A child's environment: never somebody else's cluster."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
    return {**kept, "RAY_ADDRESS": "local", "RAY_memory_monitor_refresh_ms": "0"}


@pytest.fixture(scope="session")
def execute(environment: dict[str, str]) -> Sweep:
    def run(command: Sequence[str], timeout: float = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
