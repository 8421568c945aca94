"""Below the root of a storage on a disk no link is followed, and no pipe is waited for."""

from __future__ import annotations

import fcntl
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from orchestrator.storage.cleanup import remove_work_of
from orchestrator.storage.disk import locked
from orchestrator.storage.files import StoreError
from orchestrator.storage.lease import hold
from orchestrator.storage.lease_files import Standing, Watch
from orchestrator.storage.references import read_references, sweep_names
from orchestrator.storage.store import Store

STAGE = "stages/point/0123456789abcdef"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A directory of whoever runs a sweep, outside the storage."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "file").write_text("secret")
    return home


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "storage").mkdir()
    return Store(str(tmp_path / "storage"))


def link(store: Store, name: str, target: Path) -> None:
    place = Path(store.root, name)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.read("logs/file"),
        lambda store: store.fs.open(store.path("logs/file"), "rb"),
        lambda store: store.fs.get(store.path("logs/file"), store.root + "-copy"),
        lambda store: store.put_file(Path(__file__), "logs/file/x"),
    ],
)
@pytest.mark.parametrize("name", ["logs/file", "logs"])
def test_no_link_is_read(
    store: Store, secret: Path, read: Callable[[Store], object], name: str
) -> None:
    link(store, name, secret / "file" if name == "logs/file" else secret)
    with pytest.raises(StoreError, match=f"{name} is a link"):
        read(store)
    assert not Path(store.root + "-copy").exists()


def test_a_storage_that_a_link_leads_to_is_used(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "link").symlink_to(secret)
    store = Store(str(tmp_path / "link"))
    assert store.read("file") == b"secret"
    assert store.names("") == ["file"]


def test_nothing_is_written_made_listed_or_deleted_behind_a_link(
    store: Store, secret: Path, tmp_path: Path
) -> None:
    for name in ("logs", "tmp", "work", "stages", "leases"):
        link(store, name, secret)
    out = tmp_path / "out"
    out.mkdir()
    (out / "info.json").write_text("{}")
    for act in (
        lambda: store.write("logs/file", b"mine"),
        lambda: store.create("logs/other", b"mine"),
        lambda: store.new(STAGE),
        lambda: store.commit(STAGE, out, {}),
        lambda: store.names("logs"),
        lambda: store.infos("stages"),
        lambda: store.remove(["logs/file"]),
        lambda: store.remove_tree("work/file"),
        lambda: store.remove_stage("stages/point/x", ()),
        lambda: hold(store, "x").__enter__(),
    ):
        with pytest.raises(StoreError, match="is a link"):
            act()
    assert [path.name for path in secret.rglob("*")] == ["file"]
    assert (secret / "file").read_text() == "secret"


def test_a_link_in_the_place_of_a_file_is_replaced_or_deleted_and_not_followed(
    store: Store, secret: Path
) -> None:
    for name in ("a/file", "b/file", "c/file"):
        link(store, name, secret / "file")
    link(store, "d", secret)
    store.write("a/file", b"mine")
    assert store.read("a/file") == b"mine"
    assert not store.create("b/file", b"mine")
    store.remove(["c/file"])
    store.remove_tree("d")
    assert store.names("c") == []
    assert not os.path.lexists(store.path("d"))
    assert (secret / "file").read_text() == "secret"


def test_what_is_no_regular_file_is_in_no_listing(store: Store, secret: Path) -> None:
    store.write("sweep/points.csv", b"x")
    link(store, "sweep/plots", secret)
    link(store, "sweep/id_rsa", secret / "file")
    os.mkfifo(store.path("sweep/pipe"))
    assert list(store.below("sweep")) == ["sweep/points.csv"]


def test_a_pipe_keeps_no_reader(store: Store) -> None:
    """A test that hangs fails by its time-out."""
    for name in (f"{STAGE}/manifest.json", "sweep/stages.json", "leases/x/000001.json"):
        Path(store.root, name).parent.mkdir(parents=True)
        os.mkfifo(store.path(name))
    with pytest.raises(StoreError, match="no regular file"):
        store.read("sweep/stages.json")
    with pytest.raises(StoreError, match="no regular file"):
        store.fs.open(store.path("sweep/stages.json"), "rb")
    assert not store.has(STAGE)
    assert sweep_names(store) == ["sweep"]
    assert read_references(store).unrecorded == ("sweep",)
    with pytest.raises(StoreError, match="damaged"):
        list(store.manifests([STAGE]))


def test_a_file_that_says_it_is_endless_is_not_read(store: Store) -> None:
    for name in ("leases/x/000001.json", "sweep/stages.json", f"{STAGE}/manifest.json"):
        store.write(name, b"{}")
        os.truncate(store.path(name), 2**40)
    with pytest.raises(StoreError, match="is larger than anything that is read"):
        store.read("sweep/stages.json")
    path = store.path("sweep/stages.json")
    assert store.fs.cat_file(path, start=2**40 - 4, end=2**40) == bytes(4)
    assert store.fs.cat_file(path, start=0, end=2) == b"{}"
    assert read_references(store).unrecorded == ("sweep",)
    assert Watch(store, "x", None).look() is Standing.UNKNOWN
    with pytest.raises(StoreError, match="damaged"):
        list(store.manifests([STAGE]))


def test_a_stage_and_a_working_directory_with_links_are_not_used(
    store: Store, secret: Path
) -> None:
    out = store.new(STAGE)
    (out / "file").write_text("secret")
    store.commit(STAGE, out, {})
    Path(store.path(STAGE, "file")).unlink()
    link(store, f"{STAGE}/file", secret / "file")
    with pytest.raises(StoreError, match="is a link"):
        store.fetch(STAGE)
    link(store, "work/key/checkpoint/state.pt", secret / "file")
    with pytest.raises(StoreError, match=r"state.pt is a link"), store.work("key"):
        pass
    with pytest.raises(StoreError, match=r"state.pt is a link"), store.work_of(["key"]):
        pass
    with pytest.raises(StoreError, match="is a link"), store.evaluation_work("key", "pass"):
        pass
    remove_work_of(store, ["key"])
    assert store.names("work") == []
    assert (secret / "file").read_text() == "secret"


def test_the_file_system_of_a_storage_reaches_other_processes(store: Store) -> None:
    store.write("logs/file", b"x")
    link(store, "logs/link", Path(__file__))
    fs = pickle.loads(pickle.dumps(store.fs))
    assert fs.cat_file(store.path("logs/file")) == b"x"
    with pytest.raises(StoreError):
        fs.cat_file(store.path("logs/link"))


COUNT = """
import sys
from pathlib import Path
from orchestrator.storage.disk import locked
lock, count = map(Path, sys.argv[1:3])
temporary = sys.argv[3]
for _ in range(300):
    with locked(lock, temporary=temporary == "True"):
        number = int(count.read_text())
        count.write_text(str(number + 1))
"""
"""Counts in a way that loses counts as soon as two processes hold the lock."""


@pytest.mark.parametrize("temporary", [True, False])
def test_a_lock_never_lets_two_in_and_who_leaves_last_deletes_a_temporary_one(
    tmp_path: Path, temporary: bool
) -> None:
    lock, count = tmp_path / "locks" / "lock", tmp_path / "count"
    count.write_text("0")
    words = [sys.executable, "-c", COUNT, str(lock), str(count), str(temporary)]
    children = [subprocess.Popen(words) for _ in range(3)]
    assert [child.wait(timeout=120) for child in children] == [0, 0, 0]
    assert count.read_text() == "900"
    assert lock.exists() is not temporary


def test_a_shared_lock_is_of_a_file_that_can_be_read_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over NFS the lock of a file is one of its server, which refuses any other."""
    flock, modes = fcntl.flock, list[int]()

    def noted(file: IO[str], mode: int) -> None:
        modes.append(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE)
        flock(file, mode)

    monkeypatch.setattr(fcntl, "flock", noted)
    with locked(tmp_path / "lock", fcntl.LOCK_SH):
        assert modes == [os.O_RDWR]


def test_a_temporary_lock_that_is_shared_stays_until_its_last_holder_leaves(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with locked(lock, fcntl.LOCK_SH, temporary=True):
        with locked(lock, fcntl.LOCK_SH, temporary=True):
            pass
        with pytest.raises(BlockingIOError), locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
            pass
        assert lock.exists()
    assert not lock.exists()
