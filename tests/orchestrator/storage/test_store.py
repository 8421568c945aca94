import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from orchestrator.storage.file_lock import locked
from orchestrator.storage.store import Store, StoreError

STAGE = "stages/codec/0123456789abcdef"


@pytest.fixture(params=["local", "file-as-remote", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path / "storage"))
    if request.param == "file-as-remote":
        return Store(f"file://{tmp_path}/storage", cache=tmp_path / "cache", remote=True)
    fsspec.filesystem("memory").store.clear()
    return Store("memory://bucket/storage", cache=tmp_path / "cache")


def make(store: Store, text: str) -> Path:
    out = store.new(STAGE)
    (out / "train").mkdir()
    (out / "train" / "part.txt").write_text(text)
    return out


def test_a_committed_stage_is_read_back_and_an_uncommitted_one_is_not_there(store: Store) -> None:
    out = make(store, "hello")
    assert not store.has(STAGE)
    with pytest.raises(StoreError, match=STAGE):
        store.fetch(STAGE)
    assert store.commit(STAGE, out, {"spec": {"a": 1}})
    assert not out.exists()
    assert (store.fetch(STAGE) / "train" / "part.txt").read_text() == "hello"
    manifest = store.manifest(STAGE)
    assert manifest["spec"] == {"a": 1}
    # sha256 of "hello", from coreutils
    assert manifest["files"]["train/part.txt"] == {
        "bytes": 5,
        "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    }


def test_the_first_of_two_writers_wins_and_the_second_leaves_nothing(store: Store) -> None:
    first, second = make(store, "first"), make(store, "second!")
    assert store.commit(STAGE, first, {})
    assert not store.commit(STAGE, second, {})
    assert (store.fetch(STAGE) / "train" / "part.txt").read_text() == "first"
    assert not second.exists()


def test_files_of_an_upload_without_its_manifest_are_never_read(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/storage", cache=tmp_path / "cache", remote=True)
    store._upload(make(store, "half"), store.path(STAGE, "someupload"))
    assert not store.has(STAGE)
    assert store.commit(STAGE, make(store, "whole"), {})
    assert (store.fetch(STAGE) / "train" / "part.txt").read_text() == "whole"


def test_a_damaged_stage_is_an_error_that_says_what_to_delete(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.commit(STAGE, make(store, "hello"), {})
    (tmp_path / STAGE / "train" / "part.txt").write_text("hell")
    with pytest.raises(StoreError, match=f"delete .*{STAGE}"):
        store.fetch(STAGE)


def test_work_of_another_node_is_found_again(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/storage"
    one = Store(uri, cache=tmp_path / "node1", remote=True)
    two = Store(uri, cache=tmp_path / "node2", remote=True)
    for text in ("step 1", "step 2"):
        with one.work("key") as work:
            (work / "checkpoint").mkdir(exist_ok=True)
            (work / "checkpoint" / "state").write_text(text)
            one.save_work("key", work / "checkpoint", "checkpoint")
    with two.work("key") as work:
        assert two.load_work("key", "checkpoint", work / "checkpoint")
        assert (work / "checkpoint" / "state").read_text() == "step 2"
    two.remove_work("key")
    with two.work("key") as work:
        assert not two.load_work("key", "checkpoint", work / "checkpoint")


def test_a_stage_can_be_fetched_by_the_process_that_works_on_it(store: Store) -> None:
    with store.work("0123456789abcdef"):
        store.commit(STAGE, make(store, "hello"), {})
        assert (store.fetch(STAGE) / "train" / "part.txt").exists()


HOLD = """
import sys, time
from pathlib import Path
from orchestrator.storage.store import Store
with Store(sys.argv[1]).work("key") as work:
    (work / "held").write_text("")
    time.sleep(60)
"""


def test_work_waits_for_its_holder_and_goes_on_when_that_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)])
    try:
        while not (tmp_path / "work" / "key" / "held").exists():
            time.sleep(0.05)
        with pytest.raises(BlockingIOError), locked(tmp_path / "locks" / "key", wait=False):
            pass
        holder.kill()
        with Store(str(tmp_path)).work("key") as work:
            assert (work / "held").exists()
    finally:
        holder.kill()
        holder.wait()


def test_leftovers_of_dead_processes_are_swept_and_those_of_living_ones_kept(
    tmp_path: Path,
) -> None:
    store = Store(str(tmp_path))
    mine = store.new(STAGE)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    theirs = mine.with_name(mine.name.replace(f".{os.getpid()}.", f".{dead.pid}."))
    shutil.copytree(mine, theirs)
    store.remove_leftovers()
    assert mine.exists()
    assert not theirs.exists()


def test_a_manifest_is_plain_json(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.commit(STAGE, make(store, "x"), {"seconds": 1.5})
    text = (tmp_path / STAGE / "manifest.json").read_text()
    assert json.loads(text)["seconds"] == 1.5
