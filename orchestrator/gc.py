"""The command that cleans a storage: `python -m orchestrator.sweep gc --storage DIR`.

It lists what no sweep of the storage refers to, and deletes it only when told to.
Exit codes: 0 done, 1 it stopped on the way, 2 bad input.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence

from rich.filesize import decimal

from orchestrator.execution.environment import StorageAwayError, storage_answers
from orchestrator.monitoring.state_file import nothing_stored
from orchestrator.storage.files import StoreError
from orchestrator.storage.lease import LeaseLostError
from orchestrator.storage.references import RECORD, References, read_references
from orchestrator.storage.store import DEFAULT_STORAGE, Store
from orchestrator.storage.unreferenced import (
    Unreferenced,
    delete_unreferenced,
    find_unreferenced,
    links_left_alone,
)
from orchestrator.validation.uris import InputError, open_storage
from search_spaces.settings.secrets import print_error, printable, without_secrets

OK, FAILED, BAD_INPUT = 0, 1, 2
DEFAULT_HOURS = 24.0


def main(argv: Sequence[str], prog: str) -> int:
    """The command; returns its exit code.

    Args:
        argv: arguments after `gc`.
        prog: how it was called.
    """
    arguments = parser(prog).parse_args(argv)
    if not arguments.older_than >= 0:
        return _error(f"--older-than {arguments.older_than:g}: hours, 0 or more", BAD_INPUT)
    try:
        store = open_storage(arguments.storage, touch=False, writes=arguments.delete)
        with storage_answers(store.uri):
            references, entries = _find(store)
    except (InputError, StorageAwayError, StoreError) as error:
        return _error(str(error), BAD_INPUT)
    for line in _listing(store, references, entries):
        print(line)
    for path in links_left_alone(store):
        print(
            f"left alone: {printable(path)} is a link, and no storage follows those below its root"
        )
    if not arguments.delete:
        if entries and not references.covers_everything:
            print("nothing was deleted; --delete deletes what is old enough")
        return OK
    try:
        with storage_answers(store.uri):
            deletion = delete_unreferenced(
                store, 3600 * arguments.older_than, lambda line: print(line, flush=True)
            )
    except (LeaseLostError, StorageAwayError, StoreError) as error:
        return _error(f"{error}; the same command goes on", FAILED)
    print(f"deleted {_summary(deletion.deleted)}")
    if deletion.held:
        print(f"kept {_summary(deletion.held)}: in use by a living process, or just changed")
    gone = {entry.path for entry in (*deletion.deleted, *deletion.held)}
    young = [entry for entry in entries if entry.path not in gone]
    if young and not references.covers_everything:
        print(f"kept {_summary(young)}: younger than {arguments.older_than:g} hours")
    return OK


def _find(store: Store) -> tuple[References, list[Unreferenced]]:
    """What the sweeps of a storage refer to, and what none refers to.

    Raises:
        InputError: nothing is stored there.
    """
    if not store.directories():
        raise InputError(f"--storage: {nothing_stored(store)}")
    references = read_references(store)
    return references, find_unreferenced(store, references)


def parser(prog: str) -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="List the stages and working directories that no sweep in a storage refers "
        "to, with sizes and ages. A sweep refers to all stages of its space as it was last run; "
        "delete a sweep's directory to drop the sweep.",
        epilog="Exit codes: 0 done, 1 it stopped on the way: another process took over, or the "
        "storage could not be used any more, 2 bad input, or a storage that cannot be used.",
    )
    parser.add_argument(
        "--storage",
        default=DEFAULT_STORAGE,
        metavar="DIR|URI",
        help=f"directory or fsspec URI of the results (default: {DEFAULT_STORAGE})",
    )
    parser.add_argument(
        "--delete",
        action="store_true",
        help="delete it, unless a living process holds it or it is young",
    )
    parser.add_argument(
        "--older-than",
        type=float,
        default=DEFAULT_HOURS,
        metavar="HOURS",
        help="keep what was written in so many last hours (default: %(default)g)",
    )
    return parser


def _listing(store: Store, references: References, entries: Sequence[Unreferenced]) -> list[str]:
    """Each entry with its size and age, the largest first; and what keeps it."""
    place, now = without_secrets(store.uri), time.time()
    lines = [
        f"no sweep in {place} refers to {_summary(entries)}"
        if entries
        else f"nothing to delete: the sweeps in {place} refer to all that is stored there"
    ]
    width = max((len(printable(entry.path)) for entry in entries), default=0)
    for entry in sorted(entries, key=lambda entry: (-entry.size, entry.path)):
        age = "unknown age" if entry.written is None else _age(now - entry.written)
        lines.append(f"  {printable(entry.path):<{width}}  {decimal(entry.size):>9}  {age}")
    lines += [
        f"kept all the same: sweep {name!r} has no {RECORD} that can be read, so it may refer to "
        "every stage; run its command again, or delete its directory"
        for name in references.unrecorded
    ]
    lines += [
        f"kept all the same: sweep {name!r} runs a search, whose trials may refer to every stage"
        for name in references.searching
    ]
    return lines


def _summary(entries: Iterable[Unreferenced]) -> str:
    sizes = [(entry.path.startswith("stages/"), entry.size) for entry in entries]
    stages = sum(is_stage for is_stage, _ in sizes)
    parts = [f"{stages} stage{'' if stages == 1 else 's'}"]
    if works := len(sizes) - stages:
        parts.append(f"{works} working director{'y' if works == 1 else 'ies'}")
    return f"{' and '.join(parts)}, {decimal(sum(size for _, size in sizes))}"


def _age(seconds: float) -> str:
    hours = max(0.0, seconds) / 3600
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.1f} hours"


def _error(message: str, code: int) -> int:
    print_error(message)
    return code
