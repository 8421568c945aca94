"""The command that shows a sweep, from any machine: `python -m orchestrator.sweep status SWEEP`.

It reads the storage alone: `status/<sweep>.json`, which the driver writes, and the sweep's lease,
which says whether that driver is alive. It needs no Ray and writes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.execution.environment import StorageAwayError, storage_answers
from orchestrator.monitoring.state_file import SweepState, no_such_sweep, read_state
from orchestrator.monitoring.status_text import Driver, status_text
from orchestrator.storage.files import StoreError
from orchestrator.storage.lease_files import Standing, Watch
from orchestrator.storage.process import Process
from orchestrator.storage.store import DEFAULT_STORAGE, Store
from orchestrator.validation.uris import InputError, open_storage
from search_spaces.settings.secrets import print_error

PROGRAM: Final = "python -m orchestrator.sweep status"
OK, BAD_INPUT = 0, 2
REDRAW_S: Final = 5.0


def main(words: Sequence[str], prog: str = PROGRAM) -> int:
    """The command; returns its exit code: 0, or 2 if there is no such sweep, or no storage.

    Args:
        words: of the command line, behind `status`.
        prog: how it was called.
    """
    arguments = parser(prog).parse_args(words)
    try:
        store = open_storage(arguments.storage, touch=False, writes=False)
        with contextlib.suppress(KeyboardInterrupt):
            (_watch if arguments.watch else _show)(store, arguments.sweep)
    except (InputError, StoreError, StorageAwayError) as error:
        print_error(str(error))
        return BAD_INPUT
    return OK


def _show(store: Store, sweep: str) -> None:
    """Print the status, and then whether the driver is alive if that is not clear at once."""
    with storage_answers(store.uri):
        state, watch = _state_of(store, sweep), lease_watch(store, sweep)
        driver = driver_of(state, watch.look(), watch.holder)
    print(status_text(state, driver), flush=True)
    if driver is Driver.UNKNOWN:
        print(_when_known(store, sweep, state, watch), flush=True)


def parser(prog: str = PROGRAM) -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Show a sweep that runs or ran: what runs where, losses, failures, time left. "
        "Works from any machine that reads the storage.",
        epilog="Exit codes: 0, or 2 if there is no such sweep or the storage cannot be used.",
    )
    parser.add_argument("sweep", help="its name: --name, or the name of its space")
    parser.add_argument(
        "--storage",
        default=DEFAULT_STORAGE,
        metavar="DIR|URI",
        help=f"of the sweep (default: {DEFAULT_STORAGE})",
    )
    parser.add_argument(
        "--watch", action="store_true", help="draw again every few seconds, until the sweep ends"
    )
    return parser


def _state_of(store: Store, sweep: str) -> SweepState:
    """The state of a sweep.

    Raises:
        InputError: there is no such sweep.
        StoreError: its file is damaged.
    """
    state = read_state(store, sweep)
    if state is None:
        raise InputError(no_such_sweep(store, sweep))
    return state


def lease_watch(store: Store, sweep: str) -> Watch:
    """A watch on the lease of a sweep's driver."""
    return Watch(store, f"sweep-{sweep}", None)


def driver_of(state: SweepState, standing: Standing, holder: Process | None) -> Driver:
    """What has become of the driver that wrote a state.

    Args:
        standing, holder: of the sweep's lease, by a look at it.
    """
    try:
        is_writer = holder == Process(**state["driver"])  # type: ignore[arg-type]
    except TypeError:
        is_writer = False
    if standing is Standing.FREE:
        return Driver.ENDED if state["end"] else Driver.DIED
    if not is_writer or state["end"]:
        return Driver.SUCCEEDED
    return Driver.ALIVE if standing is Standing.ALIVE else Driver.UNKNOWN


def _when_known(store: Store, sweep: str, state: SweepState, watch: Watch) -> str:
    """Look at the lease until it is clear whether its holder is alive; a line about that."""
    print(f"(waiting for the next heartbeat of its driver, {watch.pace.stale:g} s at most)")
    with storage_answers(store.uri):
        while (standing := watch.look()) is Standing.UNKNOWN:
            time.sleep(watch.pace.look)
        newest = read_state(store, sweep) or state
    return "\n".join(driver_of(newest, standing, watch.holder).lines(newest))


def _watch(store: Store, sweep: str) -> None:
    """Draw the status again and again, until the sweep has ended."""
    watch = lease_watch(store, sweep)
    with Live(console=Console(file=sys.stdout), auto_refresh=False) as live:
        drawn = -REDRAW_S
        while True:
            with storage_answers(store.uri):
                standing = watch.look()
            if time.monotonic() - drawn >= REDRAW_S:
                drawn = time.monotonic()
                with storage_answers(store.uri):
                    state = _state_of(store, sweep)
                driver = driver_of(state, standing, watch.holder)
                live.update(Text(status_text(state, driver)), refresh=True)
                if driver in (Driver.ENDED, Driver.DIED):
                    return
            time.sleep(watch.pace.look)
