"""The cache of remote stages keeps to its limit and deletes nothing that is in use."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.storage import cache
from orchestrator.storage.cache import LIMIT, StageCache
from orchestrator.storage.store import Store
from orchestrator.validation.uris import InputError, open_storage
from tests.orchestrator.waiting import wait_until

SIZE = 1000


def stage(number: int) -> str:
    return f"stages/point/{number}"


def open_node(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}/storage", cache=tmp_path / "cache", remote=True)


def cached(tmp_path: Path) -> set[int]:
    return {int(path.parent.name) for path in tmp_path.glob("cache/stages/point/*/manifest.json")}


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A remote storage with six stages of 1000 bytes, each with its number as content."""
    writer = Store(f"file://{tmp_path}/storage", cache=tmp_path / "writer", remote=True)
    for number in range(6):
        out = writer.new(stage(number))
        (out / "data").write_bytes(bytes([number]) * SIZE)
        writer.commit(stage(number), out, {})
    return tmp_path


@pytest.fixture
def room_for_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, str(3.5 * SIZE / 1e9))


@pytest.mark.usefixtures("room_for_three")
def test_the_least_recently_used_stage_goes(storage: Path) -> None:
    for number in (0, 1, 2):
        open_node(storage).fetch(stage(number))
        time.sleep(0.01)
    assert cached(storage) == {0, 1, 2}
    open_node(storage).fetch(stage(0))
    open_node(storage).fetch(stage(3))
    assert cached(storage) == {0, 2, 3}
    directory = open_node(storage).fetch(stage(1))
    assert (directory / "data").read_bytes() == bytes([1]) * SIZE


@pytest.mark.usefixtures("room_for_three")
def test_a_stage_in_use_stays_whatever_its_age(
    storage: Path, caplog: pytest.LogCaptureFixture
) -> None:
    user = open_node(storage)
    for number in (0, 1, 2):
        user.fetch(stage(number))
    assert "more than its limit" not in caplog.text
    open_node(storage).fetch(stage(3))
    assert cached(storage) == {0, 1, 2, 3}, "all are in use"
    assert "more than its limit" in caplog.text
    del user
    open_node(storage).fetch(stage(4))
    assert len(cached(storage)) == 3
    assert 4 in cached(storage)


FETCH = """
import sys, time
from pathlib import Path
from orchestrator.storage.store import Store
store = Store(f"file://{sys.argv[1]}/storage", cache=Path(sys.argv[1]) / "cache", remote=True)
store.fetch("stages/point/0")
print("fetched", flush=True)
time.sleep(600)
"""


@pytest.fixture
def user(storage: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process of this machine, which uses stage 0."""
    command = [sys.executable, "-c", FETCH, str(storage)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "fetched\n"
        yield process
        process.kill()


def test_a_stage_goes_only_when_the_process_that_uses_it_is_dead(
    storage: Path, user: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, str(1.5 * SIZE / 1e9))
    open_node(storage).fetch(stage(1))
    open_node(storage).fetch(stage(2))
    assert cached(storage) == {0, 2}
    user.send_signal(signal.SIGKILL)
    user.wait()
    open_node(storage).fetch(stage(3))
    assert cached(storage) == {3}
    assert not list(storage.glob("cache/uses/point/0/*"))


def fetch_and_read(directory: str, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(25):
        store, number = open_node(Path(directory)), rng.randrange(6)
        data = store.fetch(stage(number)) / "data"
        time.sleep(0.002)
        assert data.read_bytes() == bytes([number]) * SIZE
        del store


@pytest.mark.usefixtures("room_for_three")
def test_processes_that_fetch_and_evict_at_once_always_read_whole_stages(storage: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=fetch_and_read, args=(str(storage), seed)) for seed in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(cached(storage)) <= 3
    assert not list(storage.glob("cache/tmp/*"))
    assert not [path for path in storage.glob("cache/uses/*/*/*") if path.is_file()]


def test_what_is_being_fetched_counts(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that fetch at once must not both believe that the last room is theirs."""
    monkeypatch.setenv(LIMIT, str(2.5 * SIZE / 1e9))
    open_node(storage).fetch(stage(0))
    open_node(storage).fetch(stage(1))
    first = open_node(storage)
    download = first._download_files

    def fetch_another(*arguments: object) -> None:
        assert len(cached(storage)) == 1, "one of the two went for stage 2"
        monkeypatch.setattr(first, "_download_files", download)
        open_node(storage).fetch(stage(3))
        assert cached(storage) == {3}, "the other one went for stage 3"
        download(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(first, "_download_files", fetch_another)
    first.fetch(stage(2))
    assert cached(storage) == {2, 3}


def test_the_storages_of_a_machine_share_the_limit(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, str(1.5 * SIZE / 1e9))
    monkeypatch.setenv("XDG_CACHE_HOME", str(storage / "home"))
    shutil.copytree(storage / "storage", storage / "other")
    for name in ("storage", "other"):
        Store(f"file://{storage}/{name}", remote=True).fetch(stage(0))
    left = list(storage.glob("home/bridgesweep/*/stages/point/*/manifest.json"))
    assert [
        path.is_relative_to(Store(f"file://{storage}/other", remote=True).local()) for path in left
    ] == [True]


def test_a_fifth_of_the_disk_is_the_default(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMIT, raising=False)
    usage = SimpleNamespace(total=5 * 2.5 * SIZE)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    for number in range(4):
        open_node(storage).fetch(stage(number))
        time.sleep(0.01)
    assert cached(storage) == {2, 3}


@pytest.mark.parametrize("text", ["0", "-3", "much", "nan", "inf"])
def test_a_wrong_limit_is_a_mistake_before_any_work(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, text)
    with pytest.raises(InputError, match=f"{LIMIT} = '{text}'"):
        open_storage(str(tmp_path), touch=False)
    monkeypatch.setenv(LIMIT, "0.5")
    open_storage(str(tmp_path), touch=False)


def test_a_forked_child_ends_no_use_of_its_parent(storage: Path) -> None:
    user = open_node(storage)
    user.fetch(stage(0))
    child = os.fork()
    if child == 0:
        user._cache.release()
        os._exit(0)
    wait_until(lambda: os.waitpid(child, os.WNOHANG)[0] == child, 30)
    assert len(list(storage.glob("cache/uses/point/0/*"))) == 1
    user._cache.release()
    assert not list(storage.glob("cache/uses/point/0/*"))


def test_stages_are_looked_at_only_when_there_may_be_no_room(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    cached_stages = StageCache._cached

    def counted(fetched: StageCache) -> Any:
        looks.append(1)
        return cached_stages(fetched)

    monkeypatch.setattr(StageCache, "_cached", counted)
    monkeypatch.setenv(LIMIT, str(4.5 * SIZE / 1e9))
    for number in range(4):
        open_node(storage).fetch(stage(number))
        time.sleep(0.01)
    assert len(looks) == 1, "of the empty cache"
    open_node(storage).fetch(stage(4))
    assert len(looks) == 2
    assert cached(storage) == {1, 2, 3, 4}


@pytest.mark.parametrize("content", [None, "{", '{"limit": 3500.0}', '{"limit": 1, "room": 1e9}'])
@pytest.mark.usefixtures("room_for_three")
def test_a_lost_or_damaged_count_of_the_room_costs_a_look(
    storage: Path, content: str | None
) -> None:
    for number in range(5):
        open_node(storage).fetch(stage(number))
        room = storage / "cache" / "room.json"
        assert room.exists()
        if content is None:
            room.unlink()
        else:
            room.write_text(content)
        time.sleep(0.01)
        assert len(cached(storage)) <= 3
    assert cached(storage) == {2, 3, 4}


@pytest.mark.usefixtures("room_for_three")
def test_a_process_of_another_machine_keeps_what_it_uses_for_days(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "RENEW_S", 0.02)
    user = open_node(storage)
    user.fetch(stage(0))
    (use,) = storage.glob("cache/uses/point/0/*")
    _, identity = use.name.split(".", 1)
    foreign = use.with_name(f"000000000000.{identity}")  # of another boot, so of another machine
    long_ago = time.time() - 100 * 3600
    os.utime(use, (long_ago, long_ago))
    wait_until(lambda: time.time() - use.stat().st_mtime < 3600, 30)
    user._cache._uses = {foreign}
    use.rename(foreign)
    os.utime(foreign, (long_ago, long_ago))
    wait_until(lambda: time.time() - foreign.stat().st_mtime < 3600, 30)
    for number in range(1, 6):
        open_node(storage).fetch(stage(number))
    assert 0 in cached(storage), "it is renewed"
    user._cache._released.set()
    os.utime(foreign, (long_ago, long_ago))
    time.sleep(0.1)
    os.utime(foreign, (long_ago, long_ago))
    open_node(storage).fetch(stage(1))
    open_node(storage).fetch(stage(2))
    assert 0 not in cached(storage), "its machine is lost"
