"""Dependencies point one way: between packages, between folders, between files."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "ray")
FORBIDDEN = {
    "search_spaces": (*HEAVY, "mlflow", "transformers", "trainables", "orchestrator", "analysis"),
    "trainables": ("ray", "mlflow", "orchestrator", "analysis"),
    "analysis": (*HEAVY, "transformers", "trainables", "orchestrator"),
    "bridgesweep": (*HEAVY, "mlflow", "transformers", "trainables", "orchestrator", "analysis"),
}
FLOORS = {
    "search_spaces": ("plugins", "settings", "facts", "specs", "codecs", "scenarios", ""),
    "trainables": (
        *("arithmetic", "codecs/entropy", "codecs", "standards", "encoders"),
        *(
            "datasets/images",
            "datasets/worlds",
            "datasets/worlds/scenes",
            "datasets/worlds/tabletop",
        ),
        *("datasets/benchmarks", "datasets"),
        *("networks", "mllms", "tasks/common", "tasks", "points", "scenarios"),
        *(
            "training",
            "evaluation",
            "commands",
            "recipes",
            "recipes/scenes",
            "recipes/tabletop",
            "",
        ),
    ),
    "orchestrator": (
        *("storage", "plan", "scheduling", "validation", "tracking"),
        *(
            "execution",
            "execution/features",
            "execution/backends",
            "execution/trials",
            "monitoring",
            "steering",
            "recording",
            "driver",
            "",
        ),
    ),
    "analysis": (
        "io/benchmarks",
        "io",
        "sampling",
        "curves",
        "stats",
        "qualitative",
        "figures/common",
        "figures",
        "report",
        "",
    ),
    "bridgesweep": ("",),
}
"""Folders of each package, lowest first; a folder imports only those before it."""
MOST_MODULES = 14
EXTENSIONS = ("SCENARIO = ", "METHOD = ", "TASK = ", "CODEC = ", "FORMAT = ")
"""A module that defines one is an extension; a folder may hold any number of them."""
BLOCKER = """
import importlib, importlib.abc, importlib.util, sys
blocked = set(sys.argv[1].split(","))
find_spec = importlib.util.find_spec
# Who asks whether a package is installed hears that it is not.
importlib.util.find_spec = lambda name, package=None: (
    None if name.split(".")[0] in blocked else find_spec(name, package)
)
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError("forbidden here: " + name)
sys.meta_path.insert(0, Blocker())
for module in sys.argv[2:]:
    importlib.import_module(module)
"""

Modules = dict[str, Path]


def modules_of(root: Path, package: str) -> Modules:
    """Dotted name -> file."""
    files = sorted((root / package).rglob("*.py"))
    parts = {file: file.relative_to(root).with_suffix("").parts for file in files}
    return {
        ".".join(part for part in names if part != "__init__"): file
        for file, names in parts.items()
    }


def imports_of(file: Path, modules: Modules) -> Iterator[str]:
    """The modules of a package that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                imported = name if name in modules else node.module
                if imported in modules:
                    yield imported
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)


def folder_of(module: str, modules: Modules, root: Path, package: str) -> str:
    folder = modules[module].parent.relative_to(root / package).as_posix()
    return "" if folder == "." else folder


def upward_imports(root: Path, package: str, floors: tuple[str, ...]) -> list[str]:
    """Imports between folders that do not run downwards, and folders without a floor."""
    modules, wrong = modules_of(root, package), []
    for module, file in modules.items():
        folder = folder_of(module, modules, root, package)
        if folder not in floors:
            wrong.append(f"{folder}: no floor")
            continue
        for imported in imports_of(file, modules):
            below = folder_of(imported, modules, root, package)
            if below != folder and below in floors and floors.index(below) > floors.index(folder):
                wrong.append(f"{module} imports {imported}")
    return wrong


def circle(root: Path, package: str) -> list[str]:
    """Files that import each other in a circle; empty if there is none."""
    modules = modules_of(root, package)
    graph = {
        module: {name for name in imports_of(file, modules) if name != module}
        for module, file in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def full_folders(root: Path, package: str) -> dict[str, int]:
    """Folders with too many modules, besides packages' `__init__` and extensions."""
    count: Counter[str] = Counter()
    for file in modules_of(root, package).values():
        text = file.read_text(encoding="utf-8")
        is_extension = any(text.startswith(e) or f"\n{e}" in text for e in EXTENSIONS)
        if file.name not in ("__init__.py", "__main__.py") and not is_extension:
            count[file.parent.as_posix()] += 1
    return {folder: number for folder, number in count.items() if number > MOST_MODULES}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_with_the_forbidden_ones_blocked(package: str) -> None:
    names = [name for name in modules_of(ROOT, package) if not name.endswith("__main__")]
    assert names
    command = [sys.executable, "-c", BLOCKER, ",".join(FORBIDDEN[package]), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_blocker_blocks() -> None:
    command = [sys.executable, "-c", BLOCKER, "colorsys", "colorsys"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "forbidden here: colorsys" in done.stderr


@pytest.mark.parametrize("package", FORBIDDEN)
def test_only_orchestrator_names_ray(package: str) -> None:
    for file in modules_of(ROOT, package).values():
        lines = file.read_text(encoding="utf-8").splitlines()
        named = [x for x in lines if x.strip().startswith(("import ray", "from ray"))]
        assert not named, f"{file}: {named}"


@pytest.mark.parametrize("package", FLOORS)
def test_folders_import_only_those_below_them(package: str) -> None:
    assert upward_imports(ROOT, package, FLOORS[package]) == []


@pytest.mark.parametrize("package", FLOORS)
def test_no_files_import_each_other_in_a_circle(package: str) -> None:
    assert circle(ROOT, package) == []


@pytest.mark.parametrize("package", FLOORS)
def test_no_folder_is_too_full(package: str) -> None:
    assert full_folders(ROOT, package) == {}


def test_the_checks_of_structure_can_fail(tmp_path: Path) -> None:
    house = tmp_path / "house"
    for folder in ("cellar", "attic"):
        (house / folder).mkdir(parents=True)
        (house / folder / "__init__.py").touch()
    (house / "__init__.py").touch()
    (house / "attic" / "roof.py").write_text("from house.cellar import wine\n")
    (house / "cellar" / "wine.py").write_text("X = 1\n")
    floors = ("cellar", "attic", "")
    assert upward_imports(tmp_path, "house", floors) == []
    assert circle(tmp_path, "house") == []
    hidden = "def drink():\n    from house.attic import roof\n    return roof\n"
    (house / "cellar" / "wine.py").write_text(hidden)
    assert upward_imports(tmp_path, "house", floors) == [
        "house.cellar.wine imports house.attic.roof"
    ]
    assert set(circle(tmp_path, "house")) == {"house.attic.roof", "house.cellar.wine"}
    assert full_folders(tmp_path, "house") == {}
    for number in range(MOST_MODULES):
        (house / "cellar" / f"barrel{number}.py").touch()
        (house / "attic" / f"box{number}.py").write_text("TASK = 1\n")
    assert list(full_folders(tmp_path, "house").values()) == [MOST_MODULES + 1]
    (house / "shed").mkdir()
    (house / "shed" / "spade.py").touch()
    assert "shed: no floor" in upward_imports(tmp_path, "house", floors)


SCENARIOS = tuple(
    file.stem
    for file in (ROOT / "search_spaces" / "scenarios").glob("*.py")
    if "\nSCENARIO = " in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("package", FLOORS)
def test_no_code_outside_the_rooms_of_scenarios_names_one(package: str) -> None:
    assert {"d1", "d2", "reconstruction"} <= set(SCENARIOS)
    naming = {}
    for name, file in modules_of(ROOT, package).items():
        if "scenarios" in file.parts or "recipes" in file.parts:
            continue
        strings = {
            node.value
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        if found := strings & set(SCENARIOS):
            naming[name] = found
    assert naming == {}
