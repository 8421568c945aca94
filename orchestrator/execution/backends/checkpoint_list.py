"""Ray Train's list of a run's checkpoints.

    train/<key>/checkpoint_manager_snapshot.json         Train writes it in place
    train/<key>/checkpoint_manager_snapshot.json.whole   a copy of the latest that was whole
    train/<key>/checkpoint_*/                            a checkpoint

A full disk, or the end of Train's process, can leave a part of the list, with which no later
process would start. Train deletes the checkpoint before only behind it, so what the copy names is
there. Object stores keep a file whole. Train deletes what the list names, wherever it is, so a list
that names anything but directories beside itself counts as damaged.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, Field, ValidationError
from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

from orchestrator.storage.store import Store

_COPY: Final = f"{CHECKPOINT_MANAGER_SNAPSHOT_FILENAME}.whole"


class _Result(BaseModel):
    checkpoint_dir_name: Annotated[str, Field(pattern=r"^checkpoint_[\w.-]+$")]


class _CheckpointList(BaseModel):
    """What is read of Train's list; validations, which it could hold as well, are not asked for."""

    checkpoint_results: list[_Result]
    latest_checkpoint_result: _Result | None = None
    pending_training_results: Annotated[list[_Result], Field(max_length=0)] = []


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
    """Put the copy in the place of a list that is damaged, or remove that.

    Checkpoints that are in no list any more, which would fill the storage, are deleted.

    Returns:
        What was done, as a line; None where the list is whole, or there is none.

    Raises:
        StoreError: a link is among the files of the run.
    """
    store.refuse_links_in("train", key)
    directory = store.local("train", key)
    name = f"train/{key}/{CHECKPOINT_MANAGER_SNAPSHOT_FILENAME}"
    text = store.read(name)
    if text is None or _named(text) is not None:
        return None
    copy = None if store.remote else store.read(f"train/{key}/{_COPY}")
    named = None if copy is None else _named(copy)
    if copy and named and all((directory / checkpoint).is_dir() for checkpoint in named):
        store.write(name, copy)
        for checkpoint in _checkpoints(directory):
            if checkpoint.name not in named:
                shutil.rmtree(checkpoint, ignore_errors=True)
        done = f"the list before it, with {', '.join(sorted(named))}, is in its place"
    else:
        store.remove_tree(f"train/{key}")
        done = "it was removed: the training begins anew"
    return f"{store.path(name)} is damaged; {done}"


def _named(text: bytes) -> set[str] | None:
    """The directories of the checkpoints that a list names; None if it is damaged."""
    try:
        found = _CheckpointList.model_validate_json(text)
    except ValidationError:
        return None
    results = [*found.checkpoint_results, found.latest_checkpoint_result]
    return {result.checkpoint_dir_name for result in results if result is not None}


def _checkpoints(directory: Path) -> Iterator[Path]:
    return (path for path in directory.glob("checkpoint_*") if path.is_dir())
