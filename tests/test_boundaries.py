"""Dependencies point one way, as the README draws them; a forbidden import fails here."""

import pytest

from tests.blocked_imports import MESSAGE, ROOT, run_blocked

HEAVY = ("torch", "ray")
FORBIDDEN = {
    "search_spaces": (*HEAVY, "mlflow", "transformers", "trainables", "orchestrator", "analysis"),
    "trainables": ("ray", "mlflow", "orchestrator", "analysis"),
    "analysis": (*HEAVY, "transformers", "trainables", "orchestrator"),
}
IMPORT_ALL = """
import importlib
for module in sys.argv[1:]:
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
    done = run_blocked(FORBIDDEN[package], IMPORT_ALL, *names)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_blocker_blocks() -> None:
    done = run_blocked(["orchestrator"], IMPORT_ALL, "orchestrator.sweep")
    assert done.returncode != 0
    assert f"{MESSAGE}: orchestrator" in done.stderr
    assert run_blocked(["ray"], IMPORT_ALL, "orchestrator.sweep").returncode == 0


@pytest.mark.parametrize("package", ["search_spaces", "trainables", "analysis"])
def test_only_orchestrator_names_ray(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        lines = file.read_text(encoding="utf-8").splitlines()
        named = [x for x in lines if x.strip().startswith(("import ray", "from ray"))]
        assert not named, f"{file}: {named}"
