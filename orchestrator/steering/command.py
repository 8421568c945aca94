"""The commands that cancel or prioritise points of a sweep that runs, from any machine.

`python -m orchestrator.sweep cancel SWEEP POINT...` and `... prioritise SWEEP POINT...` write a
request into the storage and wait for the answer of the sweep's driver. They need no Ray.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from orchestrator.execution.environment import StorageAwayError, storage_answers
from orchestrator.monitoring.state_file import no_such_sweep, read_state
from orchestrator.storage.files import StoreError
from orchestrator.storage.store import DEFAULT_STORAGE, Store
from orchestrator.storage.sweep_requests import DRIVER_LOOK_S, Kind, ask
from orchestrator.validation.uris import InputError, open_storage
from search_spaces.settings.secrets import print_error, printable

OK, NO_ANSWER, BAD_INPUT, STOPPED = 0, 1, 2, 130

_DESCRIPTIONS: Final = {
    "cancel": "Cancel operating points of a sweep that runs. One that waits is not started, one "
    "that runs is ended and keeps its checkpoint; points that start from it are cancelled, too. It "
    "is no failure. The next run of the sweep's command does these points again, unless its space "
    "leaves them out.",
    "prioritise": "Let operating points of a sweep that runs, and all that they need, start before "
    "others. What runs goes on.",
}


def main(verb: Kind, words: Sequence[str], prog: str) -> int:
    """The command; returns its exit code.

    Args:
        verb: `cancel` or `prioritise`.
        words: of the command line, behind the verb.
        prog: how it was called.
    """
    arguments = parser(verb, prog).parse_args(words)
    sweep: str = arguments.sweep
    asked: list[str] = []

    def note() -> None:
        asked.append(sweep)
        about = f"asking the driver, which looks every {DRIVER_LOOK_S:g} s"
        print(about, file=sys.stderr, flush=True)

    try:
        store = open_storage(arguments.storage, touch=False)
        content = {"points": arguments.points}
        with storage_answers(store.uri):
            check_sweep(store, sweep)
            answer = ask(store, sweep, verb, content, note)
    except InputError as error:
        return _error(str(error), BAD_INPUT)
    except (StoreError, StorageAwayError) as error:
        if not asked:
            return _error(str(error), BAD_INPUT)
        return _error(f"{error}; the sweep's driver may have done it all the same", NO_ANSWER)
    except KeyboardInterrupt:
        return _error("withdrawn, unless the sweep's driver has just done it", STOPPED)
    if answer is None and not asked:
        left_out = "leave out of its space what it is not to do" * (verb == "cancel")
        return _error(f"sweep {sweep!r} does not run now{left_out and f': {left_out}'}", BAD_INPUT)
    if answer is None:
        return _error(f"the driver of sweep {sweep!r} ended before it answered", NO_ANSWER)
    if not answer.is_accepted:
        return _error("\n".join(answer.lines), BAD_INPUT)
    for line in answer.lines:
        print(printable(line))
    return OK


def check_sweep(store: Store, sweep: str) -> None:
    """Make sure that a sweep runs or ran in a storage.

    Raises:
        InputError: there is no such sweep.
        StoreError: its status is damaged.
    """
    if read_state(store, sweep) is None:
        raise InputError(no_such_sweep(store, sweep))


def parser(verb: Kind, prog: str) -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=_DESCRIPTIONS[verb],
        epilog="Exit codes: 0 done, 1 the sweep's driver ended before it answered, or its answer "
        "cannot be read, 2 no such sweep or points, or the storage cannot be used.",
    )
    parser.add_argument("sweep", help="its name: --name, or the name of its space")
    parser.add_argument(
        "points",
        nargs="+",
        metavar="POINT",
        help="key or label of an operating point (`status`, MLflow and the points file show them), "
        "or a filter FIELD=VALUE[,VALUE] as of --only, for example scenario=d1; a point must meet "
        "all filters",
    )
    parser.add_argument(
        "--storage",
        default=DEFAULT_STORAGE,
        metavar="DIR|URI",
        help=f"of the sweep (default: {DEFAULT_STORAGE})",
    )
    return parser


def _error(text: str, code: int) -> int:
    print_error(text)
    return code
