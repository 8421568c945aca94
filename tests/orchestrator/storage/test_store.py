import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.storage import cache
from orchestrator.storage import store as store_module
from orchestrator.storage.cleanup import remove_lost_uploads
from orchestrator.storage.lease import LeaseHeldError, hold
from orchestrator.storage.store import FileEntry, PartsMissingError, Store, StoreError
from tests.orchestrator.storage.conftest import OpenStore, s3_storage
from tests.orchestrator.waiting import wait_until

STAGE = "stages/codec/0123456789abcdef"
# sha256 of "hello", from coreutils
HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


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
    entry = manifest["files"]["train/part.txt"]
    assert (entry["bytes"], entry["sha256"]) == (5, HELLO)


def test_a_listing_finds_the_stages_that_are_there_and_no_others(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    assert store.complete_stages("codec") == frozenset()
    for name in ("complete", "begun", "empty", "linked manifest"):
        out = store.new(f"stages/codec/{name}")
        (out / "weights").write_bytes(b"1")
        store.commit(f"stages/codec/{name}", out, {})
    kind = tmp_path / "storage" / "stages" / "codec"
    (kind / "begun" / "manifest.json").unlink()
    (kind / "empty" / "manifest.json").write_bytes(b"")
    (kind / "linked manifest" / "manifest.json").rename(tmp_path / "manifest.json")
    (kind / "linked manifest" / "manifest.json").symlink_to(tmp_path / "manifest.json")
    (kind / "linked stage").symlink_to(kind / "complete")
    (kind / "a file").write_bytes(b"1")
    assert store.complete_stages("codec") == {"stages/codec/complete"}
    assert [name for name in kind.iterdir() if store.has(f"stages/codec/{name.name}")] == [
        kind / "complete"
    ]
    kind.rename(tmp_path / "elsewhere")
    kind.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="stages/codec is a link"):
        store.complete_stages("codec")


def test_the_first_of_two_writers_wins_and_the_second_leaves_nothing(store: Store) -> None:
    first, second = make(store, "first"), make(store, "second!")
    assert store.commit(STAGE, first, {})
    assert not store.commit(STAGE, second, {})
    assert (store.fetch(STAGE) / "train" / "part.txt").read_text() == "first"
    assert not second.exists()


def test_a_writer_that_does_not_see_the_first_one_yet_drops_its_copy(
    open_store: OpenStore,
) -> None:
    one, two = open_store("node1"), open_store("node2")
    assert one.commit(STAGE, make(one, "first"), {})
    assert not two.commit(STAGE, make(two, "second!"), {})
    assert (open_store("node3").fetch(STAGE) / "train" / "part.txt").read_text() == "first"


def put_part(store: Store, name: str, text: str) -> FileEntry:
    with store.part(STAGE, "job", name) as (path, entry):
        path.write_text(text)
    return entry


def record_call(
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    call: Callable[..., Any],
    paths: list[str],
) -> None:
    def recorded(path: Path | str, *rest: Any, **more: Any) -> Any:
        paths.append(str(path))
        return call(path, *rest, **more)

    monkeypatch.setattr(owner, name, recorded)


def test_parts_of_two_machines_become_a_stage_without_being_read_again(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, driver = open_store("node1"), open_store("node2"), open_store("driver")
    lost = put_part(one, "train/part-0.txt", "a first try")
    parts = {"train/part-0.txt": put_part(two, "train/part-0.txt", "hello")}
    parts["train/part-1.txt"] = put_part(one, "train/part-1.txt", "there")
    assert lost["sha256"] != parts["train/part-0.txt"]["sha256"] == HELLO
    assert not driver.has(STAGE)
    out = driver.new(STAGE)
    (out / "unreadable.json").write_text("[]")
    touched: list[str] = []
    checksum = store_module._entry
    for name in ("cat_file", "get_file", "open", "cp_file"):
        call = getattr(driver.fs, name)
        record_call(monkeypatch, driver.fs, name, call, touched)
    record_call(monkeypatch, store_module, "_entry", checksum, touched)
    assert driver.commit_parts(STAGE, "job", parts, out, {"spec": {}})
    monkeypatch.undo()
    assert not [path for path in touched if "part-" in path]
    assert not out.exists()
    directory = open_store("node3").fetch(STAGE)
    texts = {name: (directory / name).read_text() for name in (*parts, "unreadable.json")}
    assert list(texts.values()) == ["hello", "there", "[]"]
    if driver.remote:
        remove_lost_uploads(driver, ["codec"])
    stored = [path for path in driver.fs.find(driver.path(STAGE)) if not path.endswith(".json")]
    assert len(stored) == 2, "what a lost writer left is gone"


def test_a_stage_whose_parts_are_gone_is_not_committed(open_store: OpenStore) -> None:
    store = open_store("node1")
    parts = {f"part-{n}.txt": put_part(store, f"part-{n}.txt", "hello") for n in range(3)}
    store.fs.rm(store.part_path(STAGE, "job", parts["part-1.txt"]))
    with pytest.raises(PartsMissingError, match="1 written files are gone") as refusal:
        store.commit_parts(STAGE, "job", parts, store.new(STAGE), {})
    assert refusal.value.names == {"part-1.txt"}
    assert not store.has(STAGE)
    parts["part-1.txt"] = put_part(store, "part-1.txt", "again")
    assert store.commit_parts(STAGE, "job", parts, store.new(STAGE), {})
    assert (store.fetch(STAGE) / "part-1.txt").read_text() == "again"


def test_a_commit_of_parts_that_a_full_disk_interrupted_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    write_synced = store_module.write_synced

    def fill_disk(path: Path, content: str) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def commit() -> bool:
        out = store.new(STAGE)
        (out / "about.json").write_text("{}")
        return store.commit_parts(STAGE, "job", {"part.txt": part}, out, {})

    part = put_part(store, "part.txt", "hello")
    monkeypatch.setattr(store_module, "write_synced", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        commit()
    monkeypatch.setattr(store_module, "write_synced", write_synced)
    left = store.local("work", "job") / "stage"
    assert (left / "manifest.json").exists()
    (left / "old.txt").write_text("of another division")
    assert commit()
    stage = store.fetch(STAGE)
    assert {path.name for path in stage.iterdir()} == {"part.txt", "about.json", "manifest.json"}
    assert store.manifest(STAGE)["files"].keys() == {"part.txt", "about.json"}


def test_the_first_of_two_commits_of_parts_wins(open_store: OpenStore) -> None:
    stores = [open_store("node1"), open_store("node2")]
    results = []
    for store, text in zip(stores, ("first", "second!"), strict=True):
        parts = {"part.txt": put_part(store, "part.txt", text)}
        results.append(store.commit_parts(STAGE, "job", parts, store.new(STAGE), {}))
    assert results == [True, False]
    assert (open_store("node3").fetch(STAGE) / "part.txt").read_text() == "first"


def test_a_stage_of_another_node_is_fetched_though_it_was_looked_for_before(
    open_store: OpenStore,
) -> None:
    """A shared disk then shows it late."""
    one, two = open_store("node1"), open_store("node2")
    assert not two.has(STAGE)
    assert one.commit(STAGE, make(one, "hello"), {})
    assert (two.fetch(STAGE) / "train" / "part.txt").read_text() == "hello"


def test_an_empty_file_is_read_as_one_and_a_refused_file_is_an_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("logs/empty.log", b"")
    assert store.read("logs/empty.log") == b""
    store.write("logs/full.log", b"hello")

    def refuse(*arguments: object, **options: object) -> bytes:
        raise OSError(errno.EINVAL, "s3fs: TokenRefreshRequired")

    monkeypatch.setattr(store.fs, "cat_file", refuse)
    with pytest.raises(OSError, match="TokenRefreshRequired"):
        store.read("logs/full.log")


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


def swap(file: Path, old: bytes, new: bytes) -> None:
    """Change bytes of a file, which keeps its size."""
    assert len(old) == len(new)
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new))


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("size", [3, cache.SMALL + 1])
def test_a_stage_with_a_changed_byte_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_remote: bool, size: int
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = Store(f"file://{tmp_path}/storage", remote=is_remote)
    store.commit(STAGE, make(store, "bpp: 1.64" + size * "x"), {})
    (file,) = (tmp_path / "storage" / STAGE).rglob("part.txt")
    swap(file, b"1.64", b"9.64")
    for _ in range(2):  # a stage that was refused is not taken for a verified one
        with pytest.raises(StoreError, match=f"part.txt .*delete .*{STAGE}"):
            store.fetch(STAGE)
    with pytest.raises(StoreError, match=f"part.txt .*delete .*{STAGE}"):
        store.stage_file(store.manifest(STAGE), "train/part.txt")
    swap(file, b"9.64", b"1.64")
    assert (store.fetch(STAGE) / "train" / "part.txt").read_text().startswith("bpp: 1.64")


def test_a_large_stage_is_read_once_per_machine_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store, out = Store(str(tmp_path / "storage")), Store(str(tmp_path / "storage")).new(STAGE)
    for name in ("a", "b"):
        (out / name).write_bytes(name.encode() * cache.SMALL)
    store.commit(STAGE, out, {})
    read: list[str] = []
    record_call(monkeypatch, cache, "checksum", cache.checksum, read)
    for _ in range(3):  # further processes of the machine
        Store(str(tmp_path / "storage")).fetch(STAGE)
    assert sorted(Path(path).name for path in read) == ["a", "b"]
    file = tmp_path / "storage" / STAGE / "b"
    status = file.stat()
    swap(file, b"bbbb", b"bbbb")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    store.fetch(STAGE)
    assert [Path(path).name for path in read[2:]] == ["b"], "its time was set back"


def test_what_is_verified_stays_noted_when_the_reader_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_READERS", 1)
    store, out = Store(str(tmp_path / "storage")), Store(str(tmp_path / "storage")).new(STAGE)
    for name in ("a", "b", "c"):
        (out / name).write_bytes(name.encode() * cache.SMALL)
    store.commit(STAGE, out, {})
    read: list[str] = []
    checksum = cache.checksum

    def die_at_b(file: Path) -> str:
        if file.name == "b":
            raise KeyboardInterrupt
        return checksum(file)

    with monkeypatch.context() as killed:
        killed.setattr(cache, "checksum", die_at_b)
        with pytest.raises(KeyboardInterrupt):
            store.fetch(STAGE)
    record_call(monkeypatch, cache, "checksum", checksum, read)
    store.fetch(STAGE)
    assert [Path(path).name for path in read] == ["b", "c"]


def test_a_damaged_copy_in_the_cache_is_fetched_again(open_store: OpenStore) -> None:
    store = open_store("node")
    if not store.remote:
        pytest.skip("a disk has no copies")
    store.commit(STAGE, make(store, "hello"), {})
    swap(store.fetch(STAGE) / "train" / "part.txt", b"hello", b"jello")
    assert (store.fetch(STAGE) / "train" / "part.txt").read_text() == "hello"


def test_without_a_home_a_large_stage_is_read_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", none)
    store = Store(str(tmp_path / "storage"))
    store.commit(STAGE, make(store, "x" * (cache.SMALL + 1)), {})
    for _ in range(2):
        store.fetch(STAGE)
    with pytest.raises(RuntimeError, match="home"):
        Store("s3://bucket/storage")


def test_an_emptied_directory_is_not_committed(store: Store) -> None:
    out = make(store, "hello")
    shutil.rmtree(out / "train")
    with pytest.raises(StoreError, match="no file"):
        store.commit(STAGE, out, {})
    assert not store.has(STAGE)


@pytest.mark.parametrize("rest", ["part.txt", "manifest.json"])
def test_what_is_left_of_a_stage_without_a_manifest_is_in_nobodys_way(
    tmp_path: Path, rest: str
) -> None:
    store = Store(str(tmp_path))
    (tmp_path / STAGE).mkdir(parents=True)
    (tmp_path / STAGE / rest).write_text("")
    assert store.commit(STAGE, make(store, "hello"), {})
    assert (store.fetch(STAGE) / "train" / "part.txt").read_text() == "hello"


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "change",
    [
        *("[]", "null", "5", DEEP, f'{{"stage": {DEEP}'),
        *({"files": []}, {"files": {"x": 5}}, {"files": {"x": {"bytes": "1", "sha256": HELLO}}}),
        *({"files": {"x": {"bytes": 1, "sha256": 5}}}, {"files": {"x": {"bytes": 1}}}),
        *({"files": {"x": {"bytes": 1, "sha256": HELLO, "at": 5}}}, {"stage": "stages/codec/x"}),
        *({"subject": []}, {"version": "1"}, {"cost": "1"}),
        *({"seconds": "long"}, {"inputs": 5}, {"spec": []}, {"created": float("nan")}),
    ],
)
def test_a_manifest_of_another_shape_is_an_error_that_says_what_to_delete(
    store: Store, change: str | dict[str, object]
) -> None:
    store.commit(STAGE, make(store, "hello"), {"seconds": 1.0, "spec": {}, "inputs": []})
    text = change if isinstance(change, str) else json.dumps(store.manifest(STAGE) | change)
    store.write(f"{STAGE}/manifest.json", text.encode())
    wait_until(lambda: store.read(f"{STAGE}/manifest.json") == text.encode(), 30)
    for read in (store.fetch, store.manifest, lambda stage: list(store.manifests([stage]))):
        with pytest.raises(StoreError, match=f"manifest.json of {STAGE}.*delete") as error:
            read(STAGE)
        assert len(str(error.value).splitlines()) == 1


def test_work_of_another_node_is_found_again(open_store: OpenStore) -> None:
    one, two = open_store("node1"), open_store("node2")
    if not one.remote:
        pytest.skip("nodes share the working directories of a disk")
    for text in ("step 1", "step 2"):
        with one.work("key") as (work, lease):
            (work / "checkpoint").mkdir(exist_ok=True)
            (work / "checkpoint" / "state").write_text(text)
            one.save_work("key", work / "checkpoint", "checkpoint", lease)
    with two.work("key") as (work, _):
        assert two.load_work("key", "checkpoint", work / "checkpoint")
        assert (work / "checkpoint" / "state").read_text() == "step 2"
    two.remove_work("key")
    with two.work("key") as (work, _):
        assert not two.load_work("key", "checkpoint", work / "checkpoint")


def test_the_files_of_a_stage_and_several_stages_come_side_by_side(
    s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request of an object store waits a while; a GPU may be waiting for all of them."""
    uri = s3_storage(s3_endpoint, tmp_path.name, monkeypatch)
    one, two = Store(uri, cache=tmp_path / "one"), Store(uri, cache=tmp_path / "two")
    stages = [f"stages/world/{name:016x}" for name in range(2)]
    for stage in stages:
        out = one.new(stage)
        for name in "ab":
            (out / name).write_text(name)
        one.commit(stage, out, {})
    get, meeting = two.fs._get_file, Meeting(4)

    async def get_together(*arguments: Any, **options: Any) -> None:
        await meeting.wait_for_all()
        await get(*arguments, **options)

    monkeypatch.setattr(two.fs, "_get_file", get_together)
    directories = two.fetch_all(stages)
    assert [(directory / "b").read_text() for directory in directories] == ["b", "b"]
    assert not meeting.is_missed, "the others were not asked for meanwhile"


class Meeting:
    """Where as many tasks of one event loop wait for each other, half a minute at most."""

    def __init__(self, count: int) -> None:
        self._missing, self._all = count, asyncio.Event()
        self.is_missed = False

    async def wait_for_all(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self._all.set()
        try:
            await asyncio.wait_for(self._all.wait(), 30)
        except TimeoutError:
            self.is_missed = True


def test_a_stage_that_was_made_again_reaches_nodes_with_the_old_one(open_store: OpenStore) -> None:
    one, two = open_store("node1"), open_store("node2")
    if not one.remote:
        pytest.skip("nodes share the stages of a disk")
    one.commit(STAGE, make(one, "first"), {})
    assert (one.fetch(STAGE) / "train" / "part.txt").read_text() == "first"
    (one.fetch(STAGE) / "train" / "part.txt").rename(one.local(STAGE, "of-first-only"))
    one.remove_tree(STAGE)
    two.commit(STAGE, make(two, "second!"), {})
    directory = one.fetch(STAGE)
    assert (directory / "train" / "part.txt").read_text() == "second!"
    assert not (directory / "of-first-only").exists()
    inode = (directory / "train" / "part.txt").stat().st_ino
    assert (one.fetch(STAGE) / "train" / "part.txt").stat().st_ino == inode, "fetched once"


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


@pytest.mark.parametrize("wrong_s", [25 * 3600, -25 * 3600])
def test_a_wrong_clock_removes_no_files_of_a_living_process_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong_s: float
) -> None:
    store = Store(str(tmp_path))
    mine = store.new(STAGE)
    key, _, rest = mine.name.split(".", 2)
    at_work, over = (mine.with_name(f"{key}.{digit * 12}.{rest}") for digit in "01")
    long_ago = time.time() - 26 * 3600
    for directory in (at_work, over):
        (directory / "train").mkdir(parents=True)
        (directory / "train" / "part.txt").write_text("half")
        for path in (directory, directory / "train", directory / "train" / "part.txt"):
            os.utime(path, (long_ago, long_ago))
    (at_work / "train" / "part.txt").write_text("more")  # which its directories do not tell
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + wrong_s)
    store.remove_leftovers()
    assert {path.name for path in (tmp_path / "tmp").iterdir()} == {mine.name, at_work.name}


def test_a_download_sweeps_what_killed_processes_left_on_its_node(tmp_path: Path) -> None:
    """No driver runs on most nodes."""
    store = Store(f"file://{tmp_path}/storage", cache=tmp_path / "cache", remote=True)
    store.commit(STAGE, make(store, "hello"), {})
    mine = store.new(STAGE)
    key, boot, pid, _, rest = mine.name.split(".")
    mine.with_name(f"{key}.{boot}.{pid}.1.{rest}").mkdir()  # another process had this id
    store.fetch(STAGE)
    assert list((tmp_path / "cache" / "tmp").iterdir()) == [mine]


def test_a_node_s_work_on_a_job_that_went_on_elsewhere_is_swept_after_a_day(
    tmp_path: Path,
) -> None:
    """Whoever ends the job cleans its own node and the storage."""
    uri = f"file://{tmp_path}/storage"
    here, elsewhere = (Store(uri, cache=tmp_path / name, remote=True) for name in ("a", "b"))
    left, at_work = (here.local("work", key, "checkpoint") for key in ("left", "at work"))
    long_ago = time.time() - 2 * 24 * 3600
    for directory in (left, at_work):
        directory.mkdir(parents=True)
        (directory / "step.json").write_text("{}")
        for path in (directory / "step.json", directory, directory.parent):
            os.utime(path, (long_ago, long_ago))
    (at_work / "step.json").write_text("{}")
    elsewhere.remove_work("left")
    assert left.exists()
    here.remove_leftovers()
    assert not left.parent.exists()
    assert at_work.exists()


def make_old(directory: Path) -> None:
    """Let a directory, and all in it, look as if nothing had been written for two days."""
    long_ago = time.time() - 2 * 24 * 3600
    for path in (*directory.rglob("*"), directory):
        os.utime(path, (long_ago, long_ago))


def test_a_node_s_work_that_is_in_use_is_not_swept_however_old(tmp_path: Path) -> None:
    """A process that loads its model for minutes writes nothing to what it found."""
    store = Store(f"file://{tmp_path}/storage", cache=tmp_path / "cache", remote=True)
    store.commit(STAGE, make(store, "hello"), {})
    for opened in (
        lambda: store.work("key"),
        lambda: store.evaluation_work("key", "evaluation"),
        lambda: store.work_of(["key"]),
    ):
        shard = store.local("work", "key", "evaluation-x", "0")
        shard.mkdir(parents=True)
        with opened():
            make_old(shard.parents[1])
            store.fetch(STAGE)
            store.remove_leftovers()
            assert shard.exists()
        store.remove_leftovers()
        assert not shard.exists()


def test_a_checkpoint_that_could_not_be_uploaded_outlives_a_weekend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"file://{tmp_path}/storage", cache=tmp_path / "cache", remote=True)

    def is_away(*_: object) -> None:
        raise OSError("the storage is away")

    with store.work("key") as (work, lease):
        checkpoint = work / "checkpoint"
        checkpoint.mkdir()
        (checkpoint / "step.json").write_text("{}")
        with monkeypatch.context() as outage:
            outage.setattr(store, "upload", is_away)
            with pytest.raises(OSError, match="away"):
                store.save_work("key", checkpoint, "checkpoint", lease)
    make_old(work)
    store.remove_leftovers()
    assert checkpoint.exists()
    with store.work("key") as (work, lease):
        store.save_work("key", checkpoint, "checkpoint", lease)
    make_old(work)
    store.remove_leftovers()
    assert not work.exists()


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "a/../../escaped", "."])
def test_names_in_a_storage_do_not_lead_out_of_the_cache(tmp_path: Path, name: str) -> None:
    store = Store(f"file://{tmp_path}/storage", cache=tmp_path / "cache", remote=True)
    store.commit(STAGE, make(store, "hello"), {})
    manifest = json.loads(store.read(f"{STAGE}/manifest.json") or b"")
    part = manifest["files"]["train/part.txt"]
    for files in ({"part.txt": {**part, "at": name}}, {name: part}):
        store.write(f"{STAGE}/manifest.json", json.dumps(manifest | {"files": files}).encode())
        with pytest.raises(StoreError, match="leads out of"):
            store.fetch(STAGE)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)


@pytest.mark.parametrize("name", ["../escaped", "a/../../../escaped", "x/../lease", "a\0b", ".."])
def test_no_name_leads_out_of_the_storage(store: Store, tmp_path: Path, name: str) -> None:
    store.write("lease", b"mine")
    for act in (
        lambda: store.write(name, b"other"),
        lambda: store.create(name, b"other"),
        lambda: store.put_file(Path(__file__), name),
        lambda: store.read(name),
        lambda: store.remove([name]),
        lambda: store.remove_tree(name),
        lambda: store.path("work", name),
        lambda: store.local("work", name),
    ):
        with pytest.raises(StoreError, match="leads out of the storage"):
            act()
    assert not list(tmp_path.rglob("escaped"))
    assert store.read("lease") == b"mine"


def test_an_absolute_name_stays_in_the_storage(store: Store) -> None:
    assert store.local("work", "/etc/x").as_posix().endswith("/work/etc/x")


@pytest.mark.parametrize("open_store", ["memory", "s3"], indirect=True)
def test_objects_whose_names_lead_out_of_the_storage_are_in_no_listing(store: Store) -> None:
    store.write("leases/a", b"x")
    store.fs.pipe_file(f"{store.root}/leases/../b", b"x")
    store.fs.pipe_file(f"{store.root}/../c", b"x")
    assert list(store.below("leases")) == ["leases/a"]
    assert store.names("leases") == ["a"]
    assert ".." not in store.directories()


def test_a_name_is_never_a_pattern(store: Store) -> None:
    names = ["d/a/x", "d/a/y", "d/a/z", "d/b/x"]
    for name in names:
        store.write(name, name.encode())
    odd = ["d/a/*", "d/a/?", "d/a/[xy]"]
    assert store.read_all([*odd, "d/a/x", "d/[ab]/x"]) == [None, None, None, b"d/a/x", None]
    store.remove([*odd, "d/a/y", "d/*/x"])
    assert list(store.below("d")) == ["d/a/x", "d/a/z", "d/b/x"]
    for name in odd:
        store.write(name, name.encode())
    assert store.read_all(odd) == [name.encode() for name in odd]
    store.remove(["d/a/*", "d/a/?"])
    assert list(store.below("d")) == ["d/a/[xy]", "d/a/x", "d/a/z", "d/b/x"]


@pytest.mark.parametrize("name", ["runs [2024]", "a*b", "what?"])
@pytest.mark.parametrize("kind", ["disk", "remote", "memory", "s3"])
def test_a_storage_may_have_any_name(
    tmp_path: Path,
    kind: str,
    name: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = f"{tmp_path}/{name}" if kind in ("disk", "remote") else f"memory://bucket/{name}"
    if kind == "s3":
        uri = s3_storage(request.getfixturevalue("s3_endpoint"), name, monkeypatch)
    store = Store(uri, cache=tmp_path / "cache", remote=True if kind == "remote" else None)
    parts = {"part.txt": put_part(store, "part.txt", "hello")}
    assert store.commit_parts(STAGE, "job", parts, store.new(STAGE), {})
    assert (store.fetch(STAGE) / "part.txt").read_text() == "hello"
    assert [manifest["stage"] for manifest in store.manifests([STAGE])] == [STAGE]
    store.remove_stage(STAGE, store.below(STAGE))
    assert not store.has(STAGE)


@pytest.mark.parametrize("open_store", ["file-as-remote", "memory", "s3"], indirect=True)
def test_a_lost_object_of_a_stage_is_a_damage_that_says_what_to_delete(store: Store) -> None:
    store.commit(STAGE, make(store, "hello"), {})
    store.remove([name for name in store.below(STAGE) if name.endswith("part.txt")])
    with pytest.raises(StoreError, match=f"part.txt is missing or damaged; delete .*{STAGE} to"):
        store.fetch(STAGE)


@pytest.mark.parametrize("at", ["../../../../home/key", "/home/key", "0/part.txt", f"{'0' * 32}/x"])
def test_a_part_is_taken_from_no_other_place(store: Store, tmp_path: Path, at: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "key").write_text("hello")
    part = put_part(store, "part.txt", "hello")
    store.write(f"work/job/parts/{at.strip('./')}", b"hello")
    store.write(f"{STAGE}/{at.strip('./')}", b"hello")
    entry = part | {"at": at.replace("/home", f"{tmp_path}/home") if at[0] == "/" else at}
    with pytest.raises(PartsMissingError):
        store.commit_parts(STAGE, "job", {"part.txt": entry}, store.new(STAGE), {})
    assert (tmp_path / "home" / "key").read_text() == "hello"


def test_parts_in_a_working_directory_with_a_link_are_not_moved(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "part.txt").write_text("mine")
    part = put_part(store, "part.txt", "hello")
    Path(store.path("work/job/stage")).symlink_to(tmp_path / "home")
    with pytest.raises(StoreError, match="stage is a link"):
        store.commit_parts(STAGE, "job", {"part.txt": part}, store.new(STAGE), {})
    assert (tmp_path / "home" / "part.txt").read_text() == "mine"


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


@pytest.mark.parametrize("gone", range(3))
def test_files_are_deleted_although_another_process_was_first_at_one(
    store: Store, gone: int
) -> None:
    names = [f"requests/demo/{number}.json" for number in range(3)]
    for number, name in enumerate(names):
        if number != gone:
            store.write(name, b"{}")
    store.remove(names)
    assert store.below("requests") == {}
    store.remove(names)
