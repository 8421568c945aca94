"""The command `bridgesweep`: each word runs a command of the packages, with that one's own options.

    bridgesweep run demo     python -m orchestrator.sweep demo
    bridgesweep report DIR   python -m analysis.report DIR

A package is imported when one of its commands is called, so `report` needs neither torch nor Ray.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final, NoReturn

from search_spaces.settings.commands import MissingExtraError, run_command

PROGRAM: Final = "bridgesweep"


@dataclass(frozen=True)
class Command:
    """A command of some module.

    Attributes:
        about: what it does, in a line.
        module: has `parser(*first, prog)`, and `main(*first, words, prog)`, which gives the exit
            code.
        first: given before the words.
        words: that stand before those of the command line.
    """

    about: str
    module: str
    first: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def run(self, words: Sequence[str], prog: str) -> int:
        """Run it; returns its exit code."""
        code: int = self._module.main(*self.first, [*self.words, *words], prog)
        return code

    def parser(self, prog: str) -> argparse.ArgumentParser:
        """Its options."""
        parser: argparse.ArgumentParser = self._module.parser(*self.first, prog)
        return parser

    @property
    def _module(self) -> Any:
        return import_module(self.module)


COMMANDS: Final = {
    "run": Command("train, evaluate and draw a space's operating points", "orchestrator.sweep"),
    "plan": Command("print what `run` would do", "orchestrator.sweep", words=("--plan",)),
    "list": Command(
        "list spaces, and what a space can name", "orchestrator.sweep", words=("--list",)
    ),
    "status": Command("show a sweep that runs or ran", "orchestrator.monitoring.status"),
    "cancel": Command(
        "cancel points of a sweep that runs", "orchestrator.steering.command", ("cancel",)
    ),
    "prioritise": Command(
        "let points start before others", "orchestrator.steering.command", ("prioritise",)
    ),
    "gc": Command("list or delete what no sweep of a storage refers to", "orchestrator.gc"),
    "report": Command("make figures and report from points", "analysis.report.build"),
    "doctor": Command("say what is installed here, and what is missing", "bridgesweep.doctor"),
    "complexity": Command("count parameters and kMAC/pixel", "trainables.commands.complexity"),
    "rd-eval": Command("measure PSNR and MS-SSIM on images", "trainables.commands.rd_eval"),
    "released": Command("describe weights files", "trainables.commands.released"),
}


def main() -> NoReturn:
    """The command, as it is installed."""
    run_command(lambda: run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Run a command line; returns its exit code.

    Raises:
        MissingExtraError: the command needs an extra that is not installed.
    """
    if words and words[0] in COMMANDS:
        return COMMANDS[words[0]].run(words[1:], f"{PROGRAM} {words[0]}")
    import shtab  # a few of all calls need it

    options = _parser(complete=False).parse_args(words or ["--help"])
    print(shtab.complete(_parser(complete=True), options.shell))
    return 0


def _parser(complete: bool) -> argparse.ArgumentParser:
    """The names of all commands.

    Args:
        complete: with the options of those whose packages are installed.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Task accuracy of multimodal LLMs over bits per pixel. `bridgesweep COMMAND "
        "--help` has the options of a command.",
    )
    parser.add_argument("--version", action="version", version=version(PROGRAM))
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        parents = _options(command, f"{PROGRAM} {name}") if complete else []
        commands.add_parser(name, help=command.about, parents=parents, add_help=not parents)
    completion = commands.add_parser("completion", help="print a shell's completion of all this")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _options(command: Command, prog: str) -> list[argparse.ArgumentParser]:
    """The options of a command, as a parent of its parser; none if an extra is missing."""
    try:
        return [command.parser(prog)]
    except MissingExtraError:
        return []
