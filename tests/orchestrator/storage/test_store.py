import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.storage.lease import LeaseHeldError, hold
from orchestrator.storage.store import Store, StoreError
from tests.orchestrator.storage.conftest import OpenStore

STAGE = "stages/codec/0123456789abcdef"


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
    store.upload(make(store, "half"), store.path(STAGE, "someupload"))
    assert not store.has(STAGE)
    assert store.commit(STAGE, make(store, "whole"), {})
    assert (store.fetch(STAGE) / "train" / "part.txt").read_text() == "whole"


def test_a_damaged_stage_is_an_error_that_says_what_to_delete(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.commit(STAGE, make(store, "hello"), {})
    (tmp_path / STAGE / "train" / "part.txt").write_text("hell")
    with pytest.raises(StoreError, match=f"delete .*{STAGE}"):
        store.fetch(STAGE)


def test_work_of_another_node_is_found_again(open_store: OpenStore) -> None:
    one, two = open_store("node1"), open_store("node2")
    if not one.remote:
        pytest.skip("nodes share the working directories of a disk")
    for text in ("step 1", "step 2"):
        with one.work("key") as (work, _):
            (work / "checkpoint").mkdir(exist_ok=True)
            (work / "checkpoint" / "state").write_text(text)
            one.save_work("key", work / "checkpoint", "checkpoint")
    with two.work("key") as (work, _):
        assert two.load_work("key", "checkpoint", work / "checkpoint")
        assert (work / "checkpoint" / "state").read_text() == "step 2"
    two.remove_work("key")
    with two.work("key") as (work, _):
        assert not two.load_work("key", "checkpoint", work / "checkpoint")


def test_a_stage_can_be_fetched_by_the_process_that_works_on_it(store: Store) -> None:
    with store.work("0123456789abcdef"):
        store.commit(STAGE, make(store, "hello"), {})
        assert (store.fetch(STAGE) / "train" / "part.txt").exists()


HOLD = """
import sys, time
from pathlib import Path
from orchestrator.storage.store import Store
with Store(sys.argv[1]).work("key") as (work, _):
    (work / "held").write_text("")
    time.sleep(60)
"""


def test_work_waits_for_its_holder_and_goes_on_when_that_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)])
    try:
        while not (tmp_path / "work" / "key" / "held").exists():
            time.sleep(0.05)
        with pytest.raises(LeaseHeldError), hold(Store(str(tmp_path)), "job-key", wait=False):
            pass
        holder.kill()
        with Store(str(tmp_path)).work("key") as (work, _):
            assert (work / "held").exists()
    finally:
        holder.kill()
        holder.wait()


MAKE = """
import sys
from orchestrator.storage.store import Store
print(Store(sys.argv[1]).new(sys.argv[2]))
"""


def test_leftovers_of_dead_processes_are_swept_and_those_of_living_ones_kept(
    tmp_path: Path,
) -> None:
    store = Store(str(tmp_path))
    mine = store.new(STAGE)
    command = [sys.executable, "-c", MAKE, str(tmp_path), STAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    of_dead = Path(done.stdout.strip())
    key, _, pid, rest = mine.name.split(".", 3)
    of_other_machine = mine.with_name(f"{key}.{'0' * 12}.{pid}.{rest}")
    old_of_other_machine = mine.with_name(f"{key}.{'1' * 12}.{pid}.{rest}")
    of_other_machine.mkdir()
    old_of_other_machine.mkdir()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old_of_other_machine, (two_days_ago, two_days_ago))
    assert of_dead.exists()
    store.remove_leftovers()
    kept = {path.name for path in (tmp_path / "tmp").iterdir()}
    assert kept == {mine.name, of_other_machine.name}


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "a/../../escaped", "."])
def test_names_in_a_storage_do_not_lead_out_of_the_cache(tmp_path: Path, name: str) -> None:
    store = Store(f"file://{tmp_path}/storage", cache=tmp_path / "cache", remote=True)
    store.commit(STAGE, make(store, "hello"), {})
    manifest = json.loads(store.read(f"{STAGE}/manifest.json") or b"")
    for change in ({"upload": name}, {"files": {name: {"bytes": 1, "sha256": ""}}}):
        store.write(f"{STAGE}/manifest.json", json.dumps(manifest | change).encode())
        with pytest.raises(StoreError, match="leads out of"):
            store.fetch(STAGE)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    store.write("work/key/checkpoint/LATEST", name.encode())
    with pytest.raises(StoreError, match="leads out of"):
        store.load_work("key", "checkpoint", tmp_path / "checkpoint")


def test_stray_files_and_a_damaged_manifest_cost_nothing_else(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.new(STAGE)
    for stray in (".DS_Store", ".nfs0001", "a.b.c.d.e"):
        (tmp_path / "tmp" / stray).write_text("")
    store.remove_leftovers()
    store.write(f"{STAGE}/manifest.json", b"{")
    with pytest.raises(StoreError, match=f"manifest.json of {STAGE}"):
        store.fetch(STAGE)


def test_a_manifest_is_plain_json(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.commit(STAGE, make(store, "x"), {"seconds": 1.5})
    text = (tmp_path / STAGE / "manifest.json").read_text()
    assert json.loads(text)["seconds"] == 1.5
