"""What a job has copied to a remote storage, whoever dies while it copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from orchestrator.storage.lease import Lease, LeaseLostError
from orchestrator.storage.store import Store

PART = "work/key/checkpoint"


class Holder:
    """A lease that has not noticed that it is lost, unless it is told so."""

    def __init__(self, number: int) -> None:
        self.number, self.is_lost = number, False

    def check(self) -> None:
        if self.is_lost:
            raise LeaseLostError("taken")


class Node:
    """A process that trains on a machine with a cache of its own.

    Args:
        amid: called between two files of an upload.
    """

    def __init__(self, directory: Path, number: int, amid: Callable[[], None] | None = None):
        self.store = Store(
            f"file://{directory}/storage", cache=directory / f"node{number}", remote=True
        )
        self.lease = Holder(number)
        if amid is not None:
            put = self.store.fs.put_file

            def put_slowly(source: str, target: str) -> None:
                put(source, target)
                if Path(source).name == "a":
                    amid()

            self.store.fs.put_file = put_slowly

    def save(self, text: str) -> None:
        directory = self.store.new("key")
        for name in "ab":
            (directory / name).write_text(f"{text} of {name}")
        lease = cast("Lease", self.lease)
        self.store.save_work("key", directory, "checkpoint", lease)

    def load(self) -> list[str] | None:
        directory = self.store.local("loaded")
        if not self.store.load_work("key", "checkpoint", directory):
            return None
        content = [(directory / name).read_text() for name in "ab"]
        directory.rename(self.store.new("loaded") / "read")
        return content


def kill() -> None:
    raise KeyboardInterrupt


def test_a_process_killed_amid_an_upload_costs_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    Node(tmp_path, 1).save("step 10")
    with pytest.raises(KeyboardInterrupt):
        Node(tmp_path, 1, kill).save("step 20")
    successor = Node(tmp_path, 2)
    assert successor.load() == ["step 10 of a", "step 10 of b"]
    successor.save("step 30")
    assert successor.load() == ["step 30 of a", "step 30 of b"]
    assert len(successor.store.below(PART)) == 3, "its files, and the list of them"


@pytest.mark.parametrize("notices", [False, True])
def test_an_orphan_that_still_copies_costs_its_successor_nothing(
    notices: bool, tmp_path: Path
) -> None:
    """Its lease is another's by now, whether it has noticed that or not."""
    successor = Node(tmp_path, 2)

    def take_over() -> None:
        successor.save("step 30")
        orphan.lease.is_lost = notices

    orphan = Node(tmp_path, 1, take_over)
    if notices:
        with pytest.raises(LeaseLostError):
            orphan.save("step 20")
    else:
        orphan.save("step 20")
    assert successor.load() == ["step 30 of a", "step 30 of b"]


def test_work_of_which_a_file_is_gone_counts_as_none(tmp_path: Path) -> None:
    node = Node(tmp_path, 1)
    node.save("step 10")
    (file,) = (name for name in node.store.below(PART) if name.endswith("/b"))
    node.store.remove([file])
    assert node.load() is None
