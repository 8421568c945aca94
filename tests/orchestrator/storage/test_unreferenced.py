"""What no sweep refers to goes when told to; what a sweep refers to, or a process holds, stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.storage import outage, unreferenced
from orchestrator.storage.lease import hold, hold_available, only_driver
from orchestrator.storage.references import (
    DELETION,
    is_held,
    read_references,
    record_references,
    wait_for_deletion,
)
from orchestrator.storage.store import Store, StoreError
from orchestrator.storage.unreferenced import (
    delete_unreferenced,
    find_unreferenced,
    links_left_alone,
)
from tests.orchestrator.storage.conftest import OpenStore
from tests.orchestrator.waiting import wait_until

SEEN_S = 0.4
"""After which a disk of these tests hides nothing any more."""
KEPT, LOST = "stages/point/beef", "stages/point/dead"
"""Keys are hex digits."""


@pytest.fixture(autouse=True)
def short_hiding(short_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared disk hides files for less than `SEEN_S`."""
    monkeypatch.setattr(outage, "VISIBLE_S", SEEN_S)


def make(store: Store, stage: str, content: str = "1234") -> None:
    out = store.new(stage)
    (out / "info.json").write_text(content)
    assert store.commit(stage, out, {"spec": {}, "inputs": []})


def paths(store: Store) -> list[str]:
    return [entry.path for entry in find_unreferenced(store, read_references(store))]


def test_only_what_no_sweep_refers_to_is_listed_and_deleted(open_store: OpenStore) -> None:
    store = open_store("node1")
    for stage in (KEPT, LOST, "stages/codec/c0dec"):
        make(store, stage)
    for path in ("work/beef/step.json", "work/dead/step.json", "train/dead/state.json"):
        store.write(path, b"{}")
    record_references(store, "a", [KEPT], searches=False)
    record_references(store, "b", ["stages/codec/c0dec"], searches=False)
    lost = [LOST, "work/dead", "train/dead"]
    entries = find_unreferenced(store, read_references(store))
    assert [entry.path for entry in entries] == lost
    assert entries[1].size == 2
    assert 4 < entries[0].size == sum(i.size for i in store.infos(LOST).values())
    deletion = delete_unreferenced(store, 0)
    assert sorted(entry.path for entry in deletion.deleted) == sorted(lost)
    assert deletion.held == ()
    for path in lost:
        assert not store.below(path)
    for stage in (KEPT, "stages/codec/c0dec"):
        assert (store.fetch(stage) / "info.json").read_text() == "1234"
    assert store.read("work/beef/step.json") == b"{}"
    assert not [name for name in store.names("leases") if "dead" in name]


def test_what_has_another_name_than_a_key_was_made_by_no_sweep_and_stays(store: Store) -> None:
    """On object stores a name may be anything, such as the pattern of all others."""
    make(store, KEPT)
    record_references(store, "a", [KEPT], searches=False)
    names = ["stages/point/*/x", f"work/{'a' * 200}/x", "work/?eef/x", "train/[a-f]eef/x"]
    for name in names:
        store.write(name, b"{}")
    assert paths(store) == []
    assert delete_unreferenced(store, 0).deleted == ()
    assert store.has(KEPT)
    assert all(store.exists(name) for name in names)


def test_a_sweep_whose_directory_is_deleted_is_dropped(store: Store) -> None:
    make(store, LOST)
    record_references(store, "a", [LOST], searches=False)
    record_references(store, "b", [], searches=False)
    assert paths(store) == []
    store.remove_tree("a")
    assert paths(store) == [LOST]


def test_nothing_goes_while_a_sweep_has_no_record(store: Store) -> None:
    make(store, LOST)
    record_references(store, "a", [], searches=False)
    store.write("old/sweep.json", b"{}")
    assert read_references(store).unrecorded == ("old",)
    assert delete_unreferenced(store, 0).deleted == ()
    assert store.has(LOST)
    store.write("old/stages.json", b'{"stages": ')
    assert read_references(store).unrecorded == ("old",), "a damaged record is none"
    record_references(store, "old", [], searches=False)
    assert [entry.path for entry in delete_unreferenced(store, 0).deleted] == [LOST]


@pytest.mark.parametrize("stages", ['"abc"', "[5]", "{}", "null", "[" * 100_000])
def test_a_record_of_something_else_is_none(store: Store, stages: str) -> None:
    store.write("sweep/stages.json", f'{{"stages": {stages}, "search": false}}'.encode())
    store.write("sweep/sweep.json", b"{}")
    wait_until(lambda: store.names("sweep"), 30)
    assert read_references(store).unrecorded == ("sweep",)


@pytest.mark.parametrize("directory", ["stages", "work", "train"])
def test_nothing_goes_where_a_link_leads_out_of_the_storage(tmp_path: Path, directory: str) -> None:
    elsewhere = tmp_path / "home" / "photos" / "2024"
    elsewhere.mkdir(parents=True)
    (elsewhere / "thesis.txt").write_text("mine")
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / directory).symlink_to(tmp_path / "home")
    store = Store(str(tmp_path / "storage"))
    with pytest.raises(StoreError, match=f"{directory} is a link"):
        find_unreferenced(store, read_references(store))
    assert links_left_alone(store) == [directory]
    (tmp_path / "storage" / directory).unlink()
    (tmp_path / "storage" / directory / "point").mkdir(parents=True)
    (tmp_path / "storage" / directory / "point" / "2024").symlink_to(elsewhere)
    assert find_unreferenced(store, read_references(store)) == []
    assert links_left_alone(store) == [f"{directory}/point/2024"]
    assert delete_unreferenced(store, 0).deleted == ()
    assert (elsewhere / "thesis.txt").read_text() == "mine"


def test_a_directory_that_is_no_sweep_keeps_nothing(store: Store) -> None:
    make(store, LOST)
    record_references(store, "a", [], searches=False)
    store.write("notes/ideas.txt", b"try smaller lambdas")
    assert read_references(store).unrecorded == ()
    with only_driver(store, "notes"):
        assert read_references(store).unrecorded == ("notes",), "a driver that starts"
    assert [entry.path for entry in delete_unreferenced(store, 0).deleted] == [LOST]
    assert store.read("notes/ideas.txt")


@pytest.mark.parametrize("file", ["sweep_id", "sweep.json", "points.parquet", "search.json"])
def test_a_sweep_without_a_record_is_told_by_its_files(store: Store, file: str) -> None:
    store.write(f"old/{file}", b"content")
    assert read_references(store).unrecorded == ("old",)


def test_a_link_to_a_directory_elsewhere_is_a_sweep_without_a_record(
    tmp_path: Path,
) -> None:
    store, elsewhere = Store(str(tmp_path / "storage")), Store(str(tmp_path / "elsewhere"))
    make(store, LOST)
    make(store, KEPT)
    record_references(elsewhere, "moved", [KEPT], searches=False)
    (tmp_path / "storage" / "moved").symlink_to(tmp_path / "elsewhere" / "moved")
    assert read_references(store).unrecorded == ("moved",)
    assert delete_unreferenced(store, 0).deleted == (), "it may refer to every stage"
    assert store.has(LOST)


def test_nothing_goes_while_a_driver_starts_or_searches(open_store: OpenStore) -> None:
    store, other = open_store("node1"), open_store("node2")
    make(store, LOST)
    record_references(store, "a", [], searches=True)
    time.sleep(SEEN_S)  # until the other client sees it
    for sweep in ("starting", "a"):
        with only_driver(store, sweep):
            assert delete_unreferenced(other, 0).deleted == ()
    assert delete_unreferenced(other, 0).deleted == (), "a search that was stopped goes on"
    assert other.has(LOST)
    store.write("a/search.json", b"{}")
    time.sleep(SEEN_S)
    assert [entry.path for entry in delete_unreferenced(other, 0).deleted] == [LOST]


def test_young_stages_stay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make(store, LOST)
    record_references(store, "a", [], searches=False)
    assert delete_unreferenced(store, 3600).deleted == ()
    assert store.has(LOST)
    later = time.time() + 3700
    monkeypatch.setattr("time.time", lambda: later)
    assert [entry.path for entry in delete_unreferenced(store, 3600).deleted] == [LOST]


@pytest.mark.parametrize("lease", ["job-dead", "evaluation-dead"])
def test_what_a_living_process_holds_stays(open_store: OpenStore, lease: str) -> None:
    store, other = open_store("node1"), open_store("node2")
    make(store, LOST)
    make(store, "stages/point/a150dead")
    record_references(store, "a", [], searches=False)
    with hold(other, lease):
        deletion = delete_unreferenced(store, 0)
    assert [entry.path for entry in deletion.held] == [LOST]
    assert [entry.path for entry in deletion.deleted] == ["stages/point/a150dead"]
    assert (store.fetch(LOST) / "info.json").read_text() == "1234"


def test_a_sweep_that_starts_before_the_records_are_read_keeps_its_stages(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, driver = open_store("node1"), open_store("node2")
    make(store, LOST)
    record_references(store, "a", [], searches=False)

    def read_late(storage: Store, pace: object) -> object:
        assert is_held(storage, DELETION)
        record_references(driver, "new", [LOST], searches=False)
        time.sleep(SEEN_S)  # longer than a disk of these tests hides a file
        return read_references(storage)

    monkeypatch.setattr(unreferenced, "read_references", read_late)
    assert delete_unreferenced(store, 0).deleted == ()
    assert store.has(LOST)


def test_a_sweep_that_starts_after_the_records_are_read_waits_for_the_deletion(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, driver = open_store("node1"), open_store("node2")
    make(store, LOST)
    record_references(store, "a", [], searches=False)
    complete: list[bool] = []
    time.sleep(SEEN_S)

    def start() -> None:
        record_references(driver, "new", [LOST], searches=False)
        wait_for_deletion(driver)
        complete.append(driver.has(LOST))

    thread = threading.Thread(target=start)

    def list_slowly(storage: Store, references: object) -> object:
        thread.start()
        thread.join(1.0)
        assert not complete, "it must not plan with a stage that is about to go"
        return find_unreferenced(storage, references)  # type: ignore[arg-type]

    monkeypatch.setattr(unreferenced, "find_unreferenced", list_slowly)
    deletion = delete_unreferenced(store, 0)
    thread.join(30)
    assert [entry.path for entry in deletion.deleted] == [LOST]
    assert complete == [False]


def test_a_stage_that_was_made_again_meanwhile_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(store, LOST)
    record_references(store, "a", [], searches=False)
    later = time.time() + 3700
    monkeypatch.setattr("time.time", lambda: later)

    def make_then_hold(storage: Store, names: Iterable[str], pace: None) -> Any:
        store.remove_stage(LOST, store.below(LOST))
        make(store, LOST, "again")
        monkeypatch.undo()  # the new stage was written now
        return hold_available(storage, names, pace)

    monkeypatch.setattr(unreferenced, "hold_available", make_then_hold)
    deletion = delete_unreferenced(store, 3600)
    assert deletion.deleted == ()
    assert [entry.path for entry in deletion.held] == [LOST]
    assert (store.fetch(LOST) / "info.json").read_text() == "again"


def test_a_deletion_that_is_killed_leaves_no_stage_that_looks_complete(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(store, LOST)
    files = store.below(LOST)
    with monkeypatch.context() as killed:
        if store.remote:
            remove = store.remove
            killed.setattr(store, "remove", lambda names: remove(_or_die(list(names))))
        else:
            killed.setattr("shutil.rmtree", lambda path: _or_die(["info.json"]))
        with pytest.raises(KeyboardInterrupt):
            store.remove_stage(LOST, files)
    assert not store.has(LOST)
    make(store, LOST, "again")
    assert (store.fetch(LOST) / "info.json").read_text() == "again"


def _or_die(names: list[str]) -> list[str]:
    if any("info.json" in name for name in names):
        raise KeyboardInterrupt
    return names


def test_a_deleted_stage_is_fetched_by_nobody(store: Store) -> None:
    make(store, LOST)
    store.remove_stage(LOST, store.below(LOST))
    with pytest.raises(StoreError):
        store.fetch(LOST)
