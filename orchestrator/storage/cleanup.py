"""Deletes what finished sweeps and killed machines left in a storage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from itertools import chain
from pathlib import PurePosixPath
from typing import Final

from orchestrator.storage.lease import hold_available
from orchestrator.storage.lease_files import lease_number, parse_lease, put_back_first
from orchestrator.storage.store import MANIFEST, Store
from orchestrator.storage.work import lease_of_job

OLD_S: Final = 24 * 3600.0
"""Age of a file after which no process is writing beside it any more."""


def remove_work_of(store: Store, keys: Iterable[str]) -> None:
    """Delete the working directories of jobs, of which most have none left.

    Those stay in which another sweep trains, or evaluates on benchmarks of its own.

    Args:
        keys: of the jobs.
    """
    present = {*store.names("work"), *store.names("train")}
    left = [key for key in keys if key in present or store.local("work", key).exists()]
    leases = {key: {lease_of_job(key), *store.evaluation_leases(key)} for key in left}
    with hold_available(store, chain.from_iterable(leases.values())) as held:
        for key, names in leases.items():
            if names <= held:
                store.remove_work(key)


def remove_leases(store: Store, keys: Iterable[str]) -> None:
    """Delete the leases of what is complete and nobody holds, and old numbers of all others.

    Another sweep may hold the lease of a complete point, which it evaluates on other benchmarks.

    Args:
        keys: of stages, and of passes over test images that make evaluations.
    """
    complete = {f"{kind}-{key}" for key in keys for kind in ("job", "evaluation")}
    by_name = _by_name(store)
    latest = _latest(by_name)
    finished = [name for name in by_name if name in complete]
    states = store.read_all(latest[name] for name in finished)
    free = {name for name, state in zip(finished, states, strict=True) if _is_released(state)}
    now = store.now() if by_name else None
    gone: list[str] = []
    for name, files in by_name.items():
        if name in free or (name in complete and _is_old(files[latest[name]], now)):
            gone += files
        else:
            before = [file for file in files if lease_number(file) > 1 and file != latest[name]]
            gone += [file for file in before if _is_old(files[file], now)]
    if not gone:
        return
    # Who took a lease meanwhile has the next number, and needs number 1 to keep others out.
    current = _latest(_by_name(store))
    gone = [file for file in gone if current.get(name := _name_of(file)) == latest[name]]
    store.remove(gone)
    # Or took it between that look and the removal, and would notice with its next beat.
    taken = _by_name(store)
    for name in {_name_of(file) for file in gone if lease_number(file) == 1} & taken.keys():
        put_back_first(store, name)


def _by_name(store: Store) -> dict[str, dict[str, float | None]]:
    """The files of all leases, by name: path -> when it was written."""
    by_name: dict[str, dict[str, float | None]] = defaultdict(dict)
    for file, written in store.below("leases").items():
        by_name[_name_of(file)][file] = written
    return by_name


def _name_of(file: str) -> str:
    return PurePosixPath(file).parts[1]


def _latest(by_name: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    return {name: max(files, key=lease_number) for name, files in by_name.items()}


def _is_released(data: bytes | None) -> bool:
    """Whether a lease's file says that its holder gave it back."""
    state = parse_lease(data)
    return state is not None and state.released


def remove_lost_uploads(store: Store, kinds: Iterable[str]) -> None:
    """Delete what killed machines uploaded for stages of a remote storage.

    Of a complete stage: the uploads that its manifest does not name. Of a stage without a manifest:
    all files, if they are a day old and the stage is not being made.
    """
    in_progress, now = store.names("work"), cache(store.now)
    for kind in sorted(set(kinds)):
        by_stage: dict[str, dict[str, float | None]] = defaultdict(dict)
        for file, written in store.below(f"stages/{kind}").items():
            by_stage["/".join(PurePosixPath(file).parts[:3])][file] = written
        for stage, files in by_stage.items():
            store.remove(_lost_files(store, stage, files, in_progress, now))


def _lost_files(
    store: Store,
    stage: str,
    files: Mapping[str, float | None],
    in_progress: Collection[str],
    now: Callable[[], float | None],
) -> list[str]:
    if f"{stage}/{MANIFEST}" not in files:
        if PurePosixPath(stage).name in in_progress:
            return []
        return list(files) if all(_is_old(written, now()) for written in files.values()) else []
    uploads = {PurePosixPath(file).parts[3] for file in files} - {MANIFEST}
    if len(uploads) <= 1:
        return []
    text = (store.read(f"{stage}/{MANIFEST}") or b"").decode(errors="replace")
    if not text:
        return []  # the stage was removed after the listing
    lost = {upload for upload in uploads if upload not in text}
    return [file for file in files if PurePosixPath(file).parts[3] in lost]


def _is_old(written: float | None, now: float | None) -> bool:
    """Whether a file is old; False if its file system does not tell when it was written.

    Args:
        now: `Files.now`.
    """
    return written is not None and now is not None and now - written > OLD_S
