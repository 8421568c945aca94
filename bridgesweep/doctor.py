"""`bridgesweep doctor`: what is installed here, what is missing, and how to get it."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

from packaging.requirements import Requirement

from search_spaces.settings.commands import MissingExtraError
from search_spaces.settings.secrets import printable

PACKAGE: Final = "bridgesweep"
PROGRAM: Final = f"{PACKAGE} doctor"
EXTRAS: Final = {
    "": "spaces, analysis and reports",
    "sweep": "running sweeps",
    "cluster": "Ray's dashboard and jobs, S3",
    "search": "a space's `search` by Optuna",
    "vvc": "the standard VVC",
    "gpus": "one MLLM over several GPUs",
    "lmms": "tasks of lmms-eval, in an environment of its own",
}
"""What an extra is for; the empty one is the base install."""
NEEDED: Final = ("", "sweep")
"""Of any sweep."""
SHOWN: Final = ("torch", "ray", "mlflow", "transformers", "compressai", "numpy", "pandas")
OK, MISSING = 0, 1


def parser(prog: str = PROGRAM) -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Say what is installed on this machine, what is missing, and how to get it.",
        epilog="Exit codes: 0 a sweep of the space can run here, 1 something that it needs is "
        "missing.",
    )
    parser.add_argument(
        "space", nargs="?", default="demo", help="whose models are looked for (default: demo)"
    )
    parser.add_argument("--storage", metavar="DIR|URI", help="look at this storage")
    return parser


def main(words: Sequence[str] | None = None, prog: str = PROGRAM) -> int:
    """The command; returns its exit code."""
    options = parser(prog).parse_args(words)
    print(
        f"{PACKAGE} {version(PACKAGE)}, Python {platform.python_version()}, {platform.platform()}"
    )
    print(f"versions: {', '.join(_versions())}\n")
    lacking = {extra: missing_of(extra) for extra in EXTRAS}
    for extra, about in EXTRAS.items():
        _print_extra(extra, about, lacking[extra])
    print()
    is_fit = not any(lacking[extra] for extra in NEEDED)
    for title, is_needed, fit, line in _findings(options.space, options.storage):
        print(f"{_label(fit, is_needed)}  {title}: {printable(line)}")
        is_fit = is_fit and (fit or not is_needed)
    return OK if is_fit else MISSING


def missing_of(extra: str) -> list[str]:
    """The requirements of an extra (empty: of the base install) that are not met here."""
    return sorted(
        {
            f"{requirement.name}{requirement.specifier}"
            for requirement in _requirements(extra)
            if not _is_met(requirement)
        }
    )


def _requirements(extra: str) -> Iterator[Requirement]:
    """Of an extra alone, not of the extras that it includes."""
    for requirement in map(Requirement, requires(PACKAGE) or ()):
        without = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        with_extra = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if with_extra and without == (not extra) and requirement.name != PACKAGE:
            yield requirement


def _is_met(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _versions() -> Iterator[str]:
    for name in SHOWN:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"no {name}"


def _print_extra(extra: str, about: str, missing: Sequence[str]) -> None:
    name = f"[{extra}]" if extra else "base"
    if missing:
        brackets = f"[{extra}]" if extra else ""
        print(f"{_label(False, extra in NEEDED)}  {name}, {about}: {', '.join(missing)}")
        print(f'         get it: pip install "{PACKAGE}{brackets}"')
    else:
        print(f"{_label(True)}  {name}, {about}")


def _label(is_fit: bool, is_needed: bool = True) -> str:
    """How a line begins."""
    return f"{'ok' if is_fit else 'MISSING' if is_needed else 'without':<7}"


def _findings(space: str, storage: str | None) -> Iterator[tuple[str, bool, bool, str]]:
    """What a sweep would meet: title, whether a sweep needs it, whether it is fit, a line."""
    try:
        from orchestrator import machine
    except MissingExtraError as error:
        yield "Ray, GPU, storage, models", True, False, str(error)
        return
    yield "Ray", True, *machine.ray_cluster()
    yield "GPU", False, *machine.gpus()
    yield "storage", True, *machine.storage(machine.STORAGE if storage is None else storage)
    for finding in machine.models(space):
        yield "models", True, *finding
    for finding in machine.programs():
        yield "programs", False, *finding
