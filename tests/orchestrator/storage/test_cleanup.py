"""What is left of killed machines and finished sweeps goes; what is in use stays."""

from __future__ import annotations

import contextlib
import errno
import json
import time
from typing import Any

import pytest

from orchestrator.storage import cleanup
from orchestrator.storage.cleanup import remove_leases, remove_lost_uploads
from orchestrator.storage.lease import hold
from orchestrator.storage.store import MANIFEST, Store

REMOTE = pytest.mark.parametrize("open_store", ["memory", "s3"], indirect=True)


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


def test_old_numbers_go_and_the_first_and_the_last_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        with hold(store, "sweep-demo"):
            pass
    remove_leases(store, [])
    assert len(store.names("leases/sweep-demo")) == 4, "they are not old"
    later = time.time() + 2 * cleanup.OLD_S
    monkeypatch.setattr("time.time", lambda: later)
    remove_leases(store, [])
    assert store.names("leases/sweep-demo") == ["000001.json", "000004.json"]


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
    later = time.time() + 2 * cleanup.OLD_S
    monkeypatch.setattr("time.time", lambda: later)
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
