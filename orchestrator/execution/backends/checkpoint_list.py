"""Ray Train's list of a run's checkpoints, on a disk.

    train/<key>/checkpoint_manager_snapshot.json         Train writes it in place
    train/<key>/checkpoint_manager_snapshot.json.whole   a copy of the latest that was whole
    train/<key>/checkpoint_*/                            a checkpoint

A full disk, or the end of Train's process, can leave a part of the list, with which no later
process would start. Train deletes the checkpoint before only behind it, so what the copy names is
there. Object stores keep a file whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

from orchestrator.storage.store import Store

_COPY: Final = f"{CHECKPOINT_MANAGER_SNAPSHOT_FILENAME}.whole"
_NAME: Final = "checkpoint_dir_name"


def keep_list(store: Store, key: str) -> None:
    """Copy the list of a job's run, if it is whole and has changed."""
    if store.remote:
        return
    text = store.read(f"train/{key}/{CHECKPOINT_MANAGER_SNAPSHOT_FILENAME}")
    if text is None or text == store.read(f"train/{key}/{_COPY}"):
        return
    if _named(text) is not None:
        store.write(f"train/{key}/{_COPY}", text)


def mend_list(store: Store, key: str) -> str | None:
    """Put the copy in the place of a list that was cut, or remove that.

    Checkpoints that are in no list any more, which would fill the disk, are deleted.

    Returns:
        What was done, as a line; None where the list is whole, or there is none.
    """
    name = f"train/{key}/{CHECKPOINT_MANAGER_SNAPSHOT_FILENAME}"
    text = store.read(name)
    if store.remote or text is None or _named(text) is not None:
        return None
    copy, directory = store.read(f"train/{key}/{_COPY}"), store.local("train", key)
    named = None if copy is None else _named(copy)
    if copy and named and all((directory / checkpoint).is_dir() for checkpoint in named):
        store.write(name, copy)
        done = f"the list before it, with {', '.join(sorted(named))}, is in its place"
    else:
        named = set()
        store.remove([name])
        done = "it was removed: the training begins anew"
    for checkpoint in _checkpoints(directory):
        if checkpoint.name not in named:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return f"{store.path(name)} is damaged; {done}"


def _named(text: bytes) -> set[str] | None:
    """The directories of the checkpoints that a list names; None if it was cut."""
    try:
        listed: Any = json.loads(text)
    except ValueError:
        return None
    names: set[str] = set()
    if isinstance(listed, dict):
        entries = [*listed.get("checkpoint_results", ()), listed.get("latest_checkpoint_result")]
        names = {str(entry[_NAME]) for entry in entries if isinstance(entry, dict)}
    return names


def _checkpoints(directory: Path) -> Iterator[Path]:
    return (path for path in directory.glob("checkpoint_*") if path.is_dir())
