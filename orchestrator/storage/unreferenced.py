"""Finds and deletes what no sweep of a storage refers to.

    listing - references of all sweeps = unreferenced stages and working directories
    under the lease of all deletions, then under that of each job: look again --> delete

Nothing goes that a living process makes or evaluates (it holds a lease), nor what is younger than
a limit, nor anything at all while a sweep has no record of its stages.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from orchestrator.storage import outage
from orchestrator.storage.cleanup import remove_leases
from orchestrator.storage.disk import links
from orchestrator.storage.files import FileInfo
from orchestrator.storage.lease import Lease, hold, hold_available
from orchestrator.storage.lease_files import Pace
from orchestrator.storage.references import DELETION, References, read_references
from orchestrator.storage.store import Store
from orchestrator.storage.work import lease_of_job

_MOST_LEASES: Final = 20
"""Jobs whose leases are held at a time; each lease has a thread that renews it."""
_DEPTHS: Final = {"stages": 3, "work": 2, "train": 2}
"""Directory -> length of the paths below it that belong together."""

_KEY: Final = re.compile(r"[0-9a-f]{1,64}")
"""Of a stage, and of a job."""


@dataclass(frozen=True)
class Unreferenced:
    """A stage, or a working directory of a job, that no sweep refers to.

    Attributes:
        path: below the storage.
        files: its paths below the storage.
        size: bytes.
        written: seconds since 1970 of its newest file; None if the file system does not tell.
    """

    path: str
    files: tuple[str, ...]
    size: int
    written: float | None

    @property
    def key(self) -> str:
        """The key of the stage, or of the job, that it belongs to."""
        return PurePosixPath(self.path).name

    def is_older_than(self, seconds: float) -> bool:
        """Whether nothing was written to it for so long; False if that is not known."""
        return self.written is not None and time.time() - self.written > seconds


@dataclass(frozen=True)
class Deletion:
    """What a deletion did.

    Attributes:
        deleted: are gone.
        held: stayed, as a living process holds a lease of theirs, or they changed meanwhile.
    """

    deleted: tuple[Unreferenced, ...]
    held: tuple[Unreferenced, ...]


def find_unreferenced(store: Store, references: References) -> list[Unreferenced]:
    """What no sweep refers to, in the order of its paths; one listing per directory.

    What has another name than a key was not made by a sweep, and stays.

    Args:
        references: of the storage's sweeps.

    Raises:
        StoreError: one of the directories is a link.
    """
    keys = {PurePosixPath(stage).name for stage in references.stages}
    found: list[Unreferenced] = []
    for directory, depth in _DEPTHS.items():
        groups: dict[str, dict[str, FileInfo]] = defaultdict(dict)
        for file, info in store.infos(directory).items():
            groups["/".join(PurePosixPath(file).parts[:depth])][file] = info
        entries = (_entry(path, files) for path, files in groups.items())
        found += [e for e in entries if e.key not in keys and _KEY.fullmatch(e.key)]
    return found


def links_left_alone(store: Store) -> list[str]:
    """Paths below the storage of links, which no deletion follows; of a remote one, none."""
    if store.remote:
        return []
    root = Path(store.root)
    places = (place for directory in _DEPTHS for place in links(root / directory))
    return sorted(place.relative_to(root).as_posix() for place in places)


def _entry(path: str, files: Mapping[str, FileInfo]) -> Unreferenced:
    ages = [info.written for info in files.values()]
    written = None if None in ages else max(age for age in ages if age is not None)
    return Unreferenced(path, tuple(files), sum(info.size for info in files.values()), written)


def delete_unreferenced(
    store: Store,
    older_than_s: float,
    note: Callable[[str], None] = lambda line: None,
    pace: Pace | None = None,
) -> Deletion:
    """Delete what no sweep refers to.

    Args:
        older_than_s: what was written in so many last seconds stays.
        note: called with a line for a person when this takes a while.
        pace: of the leases; None for the storage's.

    Raises:
        LeaseLostError: this process could not renew its lease.
    """
    deleted: list[Unreferenced] = []
    held: list[Unreferenced] = []
    with hold(store, DELETION, pace=pace) as deletion:
        if not store.remote:
            _wait_until_seen(note)
        references = read_references(store, pace)
        if references.covers_everything:
            return Deletion((), ())
        entries = [e for e in find_unreferenced(store, references) if e.is_older_than(older_than_s)]
        by_key: dict[str, list[Unreferenced]] = defaultdict(list)
        for entry in entries:
            by_key[entry.key].append(entry)
        waiting = sorted(by_key)
        while waiting:
            keys, waiting = waiting[:_MOST_LEASES], waiting[_MOST_LEASES:]
            leases = {key: _leases_of(store, key) for key in keys}
            names = [name for group in leases.values() for name in group]
            with hold_available(store, names, pace) as free:
                for key in keys:
                    if leases[key] <= free:
                        gone = list(_delete(store, by_key[key], older_than_s, deletion))
                        deleted += gone
                        held += [entry for entry in by_key[key] if entry not in gone]
                    else:
                        held += by_key[key]
        deletion.check()
        remove_leases(store, {entry.key for entry in deleted})
    return Deletion(tuple(deleted), tuple(held))


def _leases_of(store: Store, key: str) -> set[str]:
    """The leases that a process holds which makes, or evaluates, what belongs to a key."""
    return {lease_of_job(key), f"evaluation-{key}", *store.evaluation_leases(key)}


def _wait_until_seen(note: Callable[[str], None]) -> None:
    """Wait until this machine sees the record of a driver that may not see the lease yet.

    Its record is visible here after `VISIBLE_S`; so is the lease there. A driver that wrote its
    record later than that has seen the lease, and waits.
    """
    seconds = 2 * outage.VISIBLE_S
    note(f"waiting for {seconds:.0f} s: a shared disk may hide a sweep that has just started")
    time.sleep(seconds)


def _delete(
    store: Store, entries: Iterable[Unreferenced], older_than_s: float, deletion: Lease
) -> Iterator[Unreferenced]:
    """Delete what belongs to a job whose leases are held, unless it changed meanwhile."""
    for entry in entries:
        deletion.check()
        present = store.infos(entry.path)
        if not present or not _entry(entry.path, present).is_older_than(older_than_s):
            continue
        if entry.path.startswith("stages/"):
            store.remove_stage(entry.path, present)
        else:
            store.remove_tree(entry.path)
        yield entry
