"""What notebooks need, such as `bridgesweep.load_space`, `bridgesweep.read_sweep`.

Everything that `search_spaces` and `analysis` give, imported when it is first asked for. The
packages themselves, `trainables` and `orchestrator` too, are imported by their names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis import *  # noqa: F403
    from search_spaces import *  # noqa: F403

_PACKAGES = ("search_spaces", "analysis")


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        for package in map(import_module, _PACKAGES):
            if name in package.__all__:
                return getattr(package, name)
    raise AttributeError(f"module 'bridgesweep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(name for package in _PACKAGES for name in import_module(package).__all__)
