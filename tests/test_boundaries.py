"""Dependencies point one way, as the README draws them; a forbidden import fails here."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "ray")
FORBIDDEN = {
    "search_spaces": (*HEAVY, "mlflow", "transformers", "trainables", "orchestrator", "analysis"),
    "trainables": ("ray", "mlflow", "orchestrator", "analysis"),
    "analysis": (*HEAVY, "transformers", "trainables", "orchestrator"),
}
BLOCKER = """
import importlib, importlib.abc, sys
blocked = set(sys.argv[1].split(","))
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError("forbidden here: " + name)
sys.meta_path.insert(0, Blocker())
for module in sys.argv[2:]:
    importlib.import_module(module)
"""


def modules(package: str) -> list[str]:
    names = []
    for file in sorted((ROOT / package).rglob("*.py")):
        parts = list(file.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__main__":
            continue
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_with_the_forbidden_ones_blocked(package: str) -> None:
    names = modules(package)
    assert names
    command = [sys.executable, "-c", BLOCKER, ",".join(FORBIDDEN[package]), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_blocker_blocks() -> None:
    command = [sys.executable, "-c", BLOCKER, "json", "json.decoder_missing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0


@pytest.mark.parametrize("package", ["search_spaces", "trainables", "analysis"])
def test_only_orchestrator_names_ray(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        lines = file.read_text(encoding="utf-8").splitlines()
        named = [x for x in lines if x.strip().startswith(("import ray", "from ray"))]
        assert not named, f"{file}: {named}"
