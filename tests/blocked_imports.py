"""Python run with some packages blocked: importing one of them is an error."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
MESSAGE = "blocked in this test"
_BLOCKER = f"""
import importlib.abc, importlib.machinery, sys
class Blocker(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    # Installed, for who only asks.
    blocked = set(sys.argv.pop(1).split(","))
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.blocked:
            return importlib.machinery.ModuleSpec(name, self)
    def exec_module(self, module):
        raise ModuleNotFoundError("{MESSAGE}: " + module.__name__)
sys.meta_path.insert(0, Blocker())
"""
_ABSENT = """
import importlib.machinery, sys
absent = set({absent!r})
class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] not in absent:
            return super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
"""


def run_blocked(
    blocked: Sequence[str], code: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a new process, in which packages are installed and cannot be imported.

    Args:
        blocked: top-level packages.
        code: Python.
        arguments: `sys.argv[1:]` of the code.
    """
    return subprocess.run(
        [sys.executable, "-c", _BLOCKER + code, ",".join(blocked), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def run_absent(
    absent: Sequence[str], folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in a new process, in which packages are as if they were not installed.

    Args:
        absent: top-level packages.
        folder: an empty directory, which is also the working directory.
        arguments: of the interpreter, such as `-m` and a module.
    """
    (folder / "sitecustomize.py").write_text(_ABSENT.format(absent=sorted(absent)))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )
