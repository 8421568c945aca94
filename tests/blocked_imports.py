"""Python code run with some packages blocked: importing one of them is an error."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
MESSAGE = "blocked in this test"
_BLOCKER = f"""
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    blocked = set(sys.argv.pop(1).split(","))
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.blocked:
            raise ModuleNotFoundError("{MESSAGE}: " + name)
sys.meta_path.insert(0, Blocker())
"""


def run_blocked(
    blocked: Sequence[str], code: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a new process.

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
