"""The command that runs a sweep: `python -m orchestrator.sweep [SPACE]`.

It trains and evaluates every operating point of a space on Ray, logs each in MLflow, and writes the
points file, the plots and the report. The same command again continues where it stopped; on a sweep
that runs, it adds the operating points that are new.
Exit codes: 0 every point is complete or cancelled, 1 some are missing, 2 bad input, 130 stopped by
Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.execution.environment import StorageAwayError, line_of
from orchestrator.monitoring.notify import check_notify, command_text
from orchestrator.stopping import STOPPED, ignore_signals, stopped, stopped_by_signals
from orchestrator.storage.files import StoreError
from orchestrator.storage.store import DEFAULT_STORAGE, Store
from orchestrator.validation.inputs import read_input
from orchestrator.validation.uris import InputError
from search_spaces import OperatingPoint, Space
from search_spaces.settings.commands import run_command
from search_spaces.settings.secrets import print_error, printable_lines

if TYPE_CHECKING:  # MLflow takes seconds
    from orchestrator.recording.request import Request
    from orchestrator.storage.sweep_requests import Kind

OK, MISSING, BAD_INPUT = 0, 1, 2
PROGRAM = "python -m orchestrator.sweep"


def main(argv: Sequence[str] | None = None, prog: str = PROGRAM) -> int:
    """The command; returns its exit code.

    Args:
        argv: its words; by default those of this process.
        prog: how it was called.
    """
    began = time.monotonic()
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["gc"]:
        from orchestrator import gc

        return gc.main(words[1:], f"{prog} gc")
    if words[:1] == ["status"]:
        from orchestrator.monitoring.status import main as status

        return status(words[1:], f"{prog} status")
    if words[:1] in (["cancel"], ["prioritise"]):
        from orchestrator.steering import command

        verb: Kind = "cancel" if words[0] == "cancel" else "prioritise"
        return command.main(verb, words[1:], f"{prog} {verb}")
    arguments = parser(prog).parse_args(words)
    if arguments.list:
        from orchestrator.driver.installed import listing  # imports every extension

        print(listing())
        return OK
    mistake = None if arguments.notify is None else check_notify(arguments.notify)
    try:
        space, points, store = read_input(
            arguments.space,
            arguments.set,
            arguments.only,
            arguments.name,
            arguments.storage,
            arguments.tracking_uri,
            arguments.experiment,
            arguments.owner,
            touch=not arguments.plan and mistake is None,
        )
        warnings = space.warnings()
        plan = _plan(space, points, store, arguments.name) if arguments.plan else None
    except InputError as error:
        return _bad("\n".join(filter(None, (mistake, str(error)))))
    except Exception as error:  # of whatever parses a file or a name, which no check foresaw
        if arguments.verbose:
            raise
        return _bad(f"the input cannot be read: {line_of(error)} (-v shows where)")
    if mistake is not None:
        return _bad(mistake)
    for line in warnings:
        print(f"warning: {line}", file=sys.stderr)
    if plan is not None:
        print(printable_lines(plan))
        return OK
    return _sweep(arguments, words, began, space, points, store)


def _plan(space: Space, points: tuple[OperatingPoint, ...], store: Store, name: str | None) -> str:
    """The text of `--plan`."""
    from orchestrator.driver.plan_text import overview  # with what reads a storage's history

    return overview(space, points, store, name or space.name)


def _sweep(
    arguments: argparse.Namespace,
    words: Sequence[str],
    began: float,
    space: Space,
    points: tuple[OperatingPoint, ...],
    store: Store,
) -> int:
    """Run the sweep, and its search; returns the exit code.

    Args:
        words: of the command line.
        began: `time.monotonic` at its start.
    """
    # MLflow and what a run needs: seconds, which --list, --plan and mistakes must not take.
    from orchestrator.driver.hand_over import RefusedSpaceError, UnansweredError
    from orchestrator.driver.jobs_on_ray import ClusterUnfitError
    from orchestrator.execution.cluster import (
        NoClusterError,
        OpenClusterError,
        TokenRefusedError,
    )
    from orchestrator.recording.recorder_process import RecorderLostError
    from orchestrator.recording.request import Request
    from orchestrator.storage.lease import SweepHeldError
    from orchestrator.tracking.mlflow_client import take_login
    from orchestrator.tracking.sweep_identity import login_name

    tracking_uri = arguments.tracking_uri and take_login(arguments.tracking_uri)
    verbose, command = arguments.verbose, command_text(words, arguments.notify)
    request = Request(
        *(space, points, store, arguments.name or space.name, tracking_uri),
        *(verbose, began, command),
        insecure=arguments.insecure,
        experiment=arguments.experiment,
        owner=arguments.owner or login_name(),
        notify=arguments.notify,
    )
    try:
        with stopped_by_signals(command):
            complete = _run_or_hand_over(request)
        return MISSING if complete is False else OK
    except (
        *(SweepHeldError, RefusedSpaceError, ClusterUnfitError, OpenClusterError),
        *(TokenRefusedError, StorageAwayError),  # nothing was begun
    ) as error:
        return _bad(str(error))
    except (NoClusterError, RecorderLostError, UnansweredError, StoreError) as error:
        print_error(str(error))
        print(f"the same command tries again:\n  {command}", file=sys.stderr)
        return MISSING
    except KeyboardInterrupt:
        ignore_signals()  # all has been stopped
        print(stopped(command), flush=True)
        return STOPPED


def _run_or_hand_over(request: Request) -> bool | None:
    """Run the sweep, or add its points to the sweep that runs.

    Returns:
        Whether every point is complete or cancelled, and the search complete; None if another
        driver takes them over.

    Raises:
        SweepHeldError: another driver runs it, and this one is to search.
        RefusedSpaceError: another driver runs it, and cannot take these points over.
        StorageAwayError, UnansweredError: as of `hand_over`.
    """
    from orchestrator.driver.hand_over import hand_over
    from orchestrator.driver.run import run
    from orchestrator.storage.lease import SweepHeldError

    search = None
    if request.space.search is not None:
        from orchestrator import search as module  # takes a while, and few spaces search

        search = module.search
    while True:
        try:
            return run(request, search)
        except SweepHeldError as held:
            if request.space.search is not None:
                raise
            if hand_over(request, held):
                return None
        time.sleep(1.0)  # that driver has ended, or a shared disk does not show its lease yet


def parser(prog: str = PROGRAM) -> argparse.ArgumentParser:
    """The options of the command; those of `status`, `gc`, ... are in their modules."""
    verbs = (
        "\n       %(prog)s status SWEEP [--storage DIR|URI]\n"
        "       %(prog)s cancel|prioritise SWEEP POINT... [--storage DIR|URI]\n"
        "       %(prog)s gc [--storage DIR|URI] [--delete]"
    )
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"%(prog)s [SPACE] [options]{verbs if prog == PROGRAM else ''}",
        description="Train and evaluate every operating point of a space on Ray, and draw its "
        "rate-accuracy curves. A space lists codecs, lambdas, scenarios, models and tasks. The "
        "same command again continues a sweep that was stopped, and adds what is new to one that "
        "runs. `gc --help`: delete what no sweep "
        "refers to.",
        epilog="Exit codes: 0 every point is complete, or cancelled by a person, 1 some are "
        "missing, 2 bad input, 130 stopped by Ctrl-C. Example: %(prog)s demo "
        "--only scenario=d1 --set d1.steps=600 --name longer",
    )
    parser.add_argument(
        "space",
        nargs="?",
        default="demo",
        help="name of a space that comes with this package, or path of a YAML file (default: demo)",
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="list named spaces, scenarios, codecs, tasks, MLLM families and benchmark formats",
    )
    _add_places(parser)
    _add_choice(parser)
    parser.add_argument(
        "--plan", action="store_true", help="print what would run and exit; write nothing"
    )
    parser.add_argument(
        "--notify",
        default=os.environ.get("BRIDGESWEEP_NOTIFY") or None,
        metavar="URL|COMMAND",
        help="when the sweep ends or needs a person: POST JSON to this http(s) URL, or run this "
        "shell command with the facts in variables BRIDGESWEEP_EVENT, BRIDGESWEEP_TEXT, ... "
        "(default: the environment's BRIDGESWEEP_NOTIFY, which no list of processes shows)",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="also print the logs of Ray, Tune and Train, and where an error of the "
        "input comes from",
    )
    return parser


def _add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that change a space or choose among its points."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="change a setting of the space, for example --set d1.steps=500; may be repeated",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="FIELD=VALUE[,VALUE]",
        help="run only these operating points, for example --only scenario=d1,d2; fields: codec, "
        "lambda (also lmbda), scenario, seed, variant; may be repeated",
    )


def _add_places(parser: argparse.ArgumentParser) -> None:
    """Options that say where results go, and where a sweep may run."""
    parser.add_argument(
        "--storage",
        default=DEFAULT_STORAGE,
        metavar="DIR|URI",
        help="directory or fsspec URI of all results: trained weights, points, report "
        f"(default: {DEFAULT_STORAGE})",
    )
    parser.add_argument(
        "--name",
        help="name of the sweep, its directory in the storage and its run in MLflow (default: the "
        "name of the space)",
    )
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow server or database (default: a SQLite database in the storage)",
    )
    parser.add_argument(
        "--experiment",
        default="bridgesweep",
        metavar="NAME",
        help="MLflow's experiment for the runs of the sweep; made if there is none (default: "
        "bridgesweep)",
    )
    parser.add_argument(
        "--owner",
        metavar="NAME",
        help="user that MLflow shows with the runs (default: the login name)",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="use a Ray cluster that asks for no token: whoever reaches it can run programs on it",
    )


def _bad(message: str) -> int:
    print_error(message)
    return BAD_INPUT


if __name__ == "__main__":
    run_command(main)
