"""What is left of killed machines and finished sweeps goes; what is in use stays."""

from __future__ import annotations

import contextlib
import errno
import json
import time
import types
from collections.abc import Iterable
from typing import Any

import pytest

from orchestrator.storage import cleanup
from orchestrator.storage.cleanup import remove_leases, remove_lost_uploads, remove_work_of
from orchestrator.storage.lease import LeaseHeldError, hold
from orchestrator.storage.lease_files import LeaseState, Pace, lease_file
from orchestrator.storage.process import Process
from orchestrator.storage.store import MANIFEST, Store
from tests.orchestrator.storage.conftest import OpenStore
from tests.orchestrator.waiting import wait_until

SLOW = Pace(beat=60.0, stale=600.0, look=0.02)
"""No beat mends anything during a test."""
REMOTE = pytest.mark.parametrize("open_store", ["memory", "s3"], indirect=True)


def test_a_wrong_clock_of_this_machine_removes_nothing_young(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = LeaseState(Process("node7", "0" * 12, 1, 1), 3)
    for number in (1, 2, 3):
        store.write(lease_file("job-a", number), dead.dump())
    upload = f"stages/point/incomplete/{'0' * 32}/x"
    store.write(upload, b"1")
    # Only its own clock: moto's would follow.
    ahead = time.time() + 25 * 3600
    monkeypatch.setattr(cleanup, "time", types.SimpleNamespace(time=lambda: ahead), raising=False)
    remove_leases(store, ["a"])
    remove_lost_uploads(store, ["point"])
    assert len(store.names("leases/job-a")) == 3
    assert store.exists(upload)


@pytest.mark.parametrize("open_store", ["local", "memory", "s3"], indirect=True)
def test_a_storage_tells_the_time_and_keeps_nothing_of_it(store: Store) -> None:
    before = time.time()
    now = store.now()
    assert now is not None
    assert abs(now - before) < 5
    assert store.below("tmp") == {}


def test_the_leases_of_complete_stages_go_and_others_stay(store: Store) -> None:
    for name in ("job-a", "evaluation-b", "job-c", "sweep-demo"):
        with hold(store, name):
            pass
    with hold(store, "sweep-demo"):
        remove_leases(store, ["a", "b"])
        names = ["000001.json", "000002.json"]
        assert store.names("leases/sweep-demo") == names, "number 1 is what a newcomer tries"
    assert store.names("leases/job-c") == ["000001.json"]
    assert not store.names("leases/job-a")
    assert not store.names("leases/evaluation-b")
    with hold(store, "job-a", wait=False):
        assert store.names("leases/job-a") == ["000001.json"]


def test_a_lease_that_is_taken_while_it_is_cleaned_up_keeps_its_first_number(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hold(store, "job-a"):
        pass
    read_all = store.read_all
    with contextlib.ExitStack() as taken:

        def take_behind_the_look(names: Iterable[str]) -> list[bytes | None]:
            states = list(read_all(names))
            taken.enter_context(hold(store, "job-a"))
            return states

        monkeypatch.setattr(store, "read_all", take_behind_the_look)
        remove_leases(store, ["a"])
        assert store.names("leases/job-a") == ["000001.json", "000002.json"]


def test_a_lease_that_is_taken_during_its_removal_gets_its_first_number_back_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hold(store, "job-a", pace=SLOW):
        pass
    remove = store.remove
    with contextlib.ExitStack() as taken:

        def take_before(names: Iterable[str]) -> None:
            files = list(names)
            taken.enter_context(hold(store, "job-a", pace=SLOW))
            remove(files)

        with monkeypatch.context() as racing:
            racing.setattr(store, "remove", take_before)
            remove_leases(store, ["a"])
        with pytest.raises(LeaseHeldError), hold(store, "job-a", wait=False, pace=SLOW):
            pass


def test_old_numbers_go_and_the_first_and_the_last_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        with hold(store, "sweep-demo"):
            pass
    remove_leases(store, [])
    assert len(store.names("leases/sweep-demo")) == 4, "they are not old"
    later = (store.now() or 0.0) + 2 * cleanup.OLD_S
    monkeypatch.setattr(store, "now", lambda: later)
    remove_leases(store, [])
    assert store.names("leases/sweep-demo") == ["000001.json", "000004.json"]


def test_work_and_leases_in_use_by_another_sweep_stay(open_store: OpenStore) -> None:
    """The point of a finished sweep is evaluated on a further benchmark by another sweep."""
    finished, other = open_store("node1"), open_store("node2")
    for key in ("point", "training", "left"):
        finished.write(f"work/{key}/step.json", b"{}")
    finished.write("train/left/state.json", b"{}")
    with (
        other.work("training"),
        other.evaluation_work("point", "other-benchmark") as (work, lease),
    ):
        work.mkdir(parents=True)
        (work / "answered.json").write_text("{}")
        if other.remote:
            other.save_work("point", work, f"{work.name}/shard-2-00000", lease)
        keys = {"point", "training", "left", "other-benchmark"}
        before = finished.below("work/point")
        remove_work_of(finished, keys)
        remove_leases(finished, keys)
        assert finished.below("work/point") == before
        assert (work / "answered.json").exists()
        assert other.exists("work/training/step.json")
        assert other.names("leases/job-training") == ["000001.json"]
        assert other.names("leases/evaluation-other-benchmark") == ["000001.json"]
        assert not finished.exists("work/left/step.json")
        assert not finished.exists("train/left/state.json")
        assert not finished.names("leases/job-left")

    def is_clean() -> bool:
        remove_work_of(finished, keys)
        remove_leases(finished, keys)
        return not finished.below("work") and not finished.below("leases")

    wait_until(is_clean, 5)


def test_the_lease_of_a_holder_that_died_elsewhere_goes_when_it_is_old(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = LeaseState(Process("node7", "0" * 12, 1, 1), 3)
    store.write(lease_file("job-a", 1), dead.dump())
    remove_leases(store, ["a"])
    assert store.names("leases/job-a") == ["000001.json"], "its holder may be alive"
    later = (store.now() or 0.0) + 2 * cleanup.OLD_S
    monkeypatch.setattr(store, "now", lambda: later)
    remove_leases(store, ["a"])
    assert not store.names("leases/job-a")


@REMOTE
def test_uploads_that_no_manifest_names_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lost, other = "0" * 32, "1" * 32
    out = store.new("stages/point/complete")
    (out / "info.json").write_text("{}")
    store.commit("stages/point/complete", out, {})
    for stage in ("complete", "incomplete", "in-progress"):
        store.write(f"stages/point/{stage}/{lost}/x", b"1")
    store.write("work/in-progress/reports/train-00000.json", b"{}")
    store.write(f"stages/codec/other/{other}/x", b"1")
    remove_lost_uploads(store, ["point"])
    assert (store.fetch("stages/point/complete") / "info.json").read_text() == "{}"
    assert not store.exists(f"stages/point/complete/{lost}/x")
    assert store.exists(f"stages/point/incomplete/{lost}/x"), "it may be growing"
    later = (store.now() or 0.0) + 2 * cleanup.OLD_S
    monkeypatch.setattr(store, "now", lambda: later)
    remove_lost_uploads(store, ["point"])
    assert not store.exists(f"stages/point/incomplete/{lost}/x")
    assert store.exists(f"stages/point/in-progress/{lost}/x"), "a pass goes on from it"
    assert store.exists(f"stages/codec/other/{other}/x"), "another kind"
    assert json.loads(store.read("stages/point/complete/manifest.json") or b"")["files"]


@REMOTE
@pytest.mark.parametrize(
    "refusal", [OSError(errno.EINVAL, "the token must be refreshed"), FileNotFoundError()]
)
def test_no_upload_goes_while_the_manifest_cannot_be_read(
    store: Store, monkeypatch: pytest.MonkeyPatch, refusal: OSError
) -> None:
    out = store.new("stages/point/complete")
    (out / "info.json").write_text("{}")
    store.commit("stages/point/complete", out, {})
    store.write(f"stages/point/complete/{'0' * 32}/x", b"1")
    before = store.below("stages")
    cat_file = store.fs.cat_file

    def refuse_manifest(path: str, **options: Any) -> bytes:
        if path.endswith(MANIFEST):
            raise refusal
        return bytes(cat_file(path, **options))

    with monkeypatch.context() as away:
        away.setattr(store.fs, "cat_file", refuse_manifest)
        with contextlib.suppress(type(refusal)):
            remove_lost_uploads(store, ["point"])
    assert store.below("stages") == before
    assert (store.fetch("stages/point/complete") / "info.json").read_text() == "{}"
