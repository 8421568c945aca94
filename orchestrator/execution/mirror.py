"""What a job leaves on a remote storage while it runs, so that another node can go on.

    checkpoint with its curve, finished shards of an evaluation --> work/<key>/ of the storage

On a local storage all nodes see the working directory itself.
"""

from __future__ import annotations

import logging
import shutil
import stat
from pathlib import Path
from typing import Final

from orchestrator.storage.lease import Lease
from orchestrator.storage.store import Store
from trainables.datasets.images.files import remove
from trainables.training.sealing import sealed_step

CHECKPOINT: Final = "checkpoint"
CURVE: Final = "curve.jsonl"
"""The parts of a working directory that `LocalContext` keeps; the curve is a JSON object per
reported step."""
log = logging.getLogger(__name__)


def save_checkpoint(store: Store, key: str, work: Path, lease: Lease) -> None:
    """Keep a training's checkpoint, with its curve.

    Args:
        key: of the job.
        work: the job's working directory on this node.
        lease: of that directory.

    Raises:
        LeaseLostError: another process trains by now.
    """
    shutil.copy(work / CURVE, work / CHECKPOINT / CURVE)
    store.save_work(key, work / CHECKPOINT, CHECKPOINT, lease)


def take_newest_checkpoint(store: Store, key: str, work: Path) -> None:
    """Take the checkpoint, and its curve, that another node left in the remote storage.

    Unless this node has trained further, and could not upload that; or what was left is damaged.

    Args:
        key: of the job.
        work: the job's working directory on this node.
    """
    elsewhere, here = work / "elsewhere", work / CHECKPOINT
    shutil.rmtree(elsewhere, ignore_errors=True)
    if not store.load_work(key, CHECKPOINT, elsewhere):
        return
    stored, own = sealed_step(elsewhere), sealed_step(here)
    if stored is None or not (elsewhere / CURVE).is_file():
        log.warning(
            "%s is damaged, or of a version without checksums, and is not used",
            store.path("work", key, CHECKPOINT),
        )
        stored = None
    if stored is None or (own is not None and stored <= own):
        shutil.rmtree(elsewhere)
        return
    shutil.rmtree(here, ignore_errors=True)
    shutil.copy(elsewhere / CURVE, work / CURVE)
    elsewhere.rename(here)


class MirroredShards:
    """The finished shards of an evaluation, kept on a remote storage for other nodes.

    On a local storage all nodes see the working directory itself, and nothing is done.

    Args:
        key: of the job.
        work: the evaluation's working directory on this node, in which each shard is a directory.

    Attributes:
        work: that.
    """

    def __init__(self, store: Store, key: str, work: Path) -> None:
        self._store, self._key, self.work = store, key, work
        self._saved: dict[str, int] = {}
        """Name of a shard that the storage has -> when it was made, in ns: it may be made again."""

    def load(self) -> None:
        """Take the shards of other nodes that this node lacks."""
        self._load(self.work.name)

    def _load(self, directory: str) -> None:
        """Take the shards in a directory of the remote storage that this one lacks.

        They are brought to this process's own directory: others bring the same ones meanwhile.
        """
        if not self._store.remote:
            return
        for name in self._store.names(f"work/{self._key}/{directory}"):
            shard = self.work / name
            if not shard.is_dir() and self._store.load_work(
                self._key, f"{directory}/{name}", shard
            ):
                self._saved[name] = shard.stat().st_mtime_ns

    def take_parts(self) -> None:
        """Take the shards that other processes have answered as parts of this evaluation."""
        prefix = f"{self.work.name}-"
        names = {path.name for path in self.work.parent.glob(f"{prefix}*")}
        if self._store.remote:
            stored = self._store.names(f"work/{self._key}")
            names |= {name for name in stored if name.startswith(prefix)}
        for name in sorted(names):
            self.take(name)

    def take(self, name: str) -> None:
        """Copy the shards that a process has kept in another working directory of the job."""
        for shard in _kept(self.work.with_name(name)):
            if not (self.work / shard.name).exists():
                copy = self.work / f"{shard.name}.part"
                remove(copy)
                shutil.copytree(shard, copy, ignore=_irregular)
                copy.rename(self.work / shard.name)
        self._load(name)

    def save(self, lease: Lease) -> None:
        """Keep the shards that are new.

        Args:
            lease: of the working directory.
        """
        if not self._store.remote:
            return
        for shard in _kept(self.work):
            made = shard.stat().st_mtime_ns
            if self._saved.get(shard.name) != made:
                self._store.save_work(self._key, shard, f"{self.work.name}/{shard.name}", lease)
                self._saved[shard.name] = made

    def leave(self) -> None:
        """Delete what lies on this node, which the job may not end on: all is in the storage."""
        if self._store.remote:
            for directory in self.work.parent.glob(f"{self.work.name}*"):
                shutil.rmtree(directory, ignore_errors=True)


def _irregular(directory: str, names: list[str]) -> list[str]:
    """What in the directory of a shard is no file of it, as links and pipes."""
    return [name for name in names if not stat.S_ISREG(Path(directory, name).lstat().st_mode)]


def _kept(work: Path) -> list[Path]:
    from trainables.evaluation.shard_results import kept_shards  # imports torch

    return kept_shards(work)
