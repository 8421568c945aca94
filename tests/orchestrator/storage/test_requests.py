"""How many requests the storage of a sweep costs, counted where they leave for S3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.httpsession import AIOHTTPSession

from orchestrator.plan.jobs import Plan
from orchestrator.storage.cleanup import remove_leases, remove_work_of
from orchestrator.storage.lease import hold
from orchestrator.storage.store import MANIFEST, Store, StoreError
from search_spaces import load_space, operating_points

STAGE = "stages/point/0123456789abcdef"
pytestmark = pytest.mark.parametrize("open_store", ["s3"], indirect=True)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch, store: Store) -> list[str]:
    """The requests from now on, each as its method and URL."""
    store.exists("the bucket is there")
    sent: list[str] = []
    send = AIOHTTPSession.send

    async def send_and_count(session: AIOHTTPSession, request: Any) -> Any:
        sent.append(f"{request.method} {request.url}")
        return await send(session, request)

    monkeypatch.setattr(AIOHTTPSession, "send", send_and_count)
    return sent


def test_a_lease_that_nobody_had_before_costs_two(store: Store, requests: list[str]) -> None:
    with hold(store, "x"):
        pass
    assert [request.split()[0] for request in requests] == ["PUT", "PUT"]


def test_one_that_was_held_before_costs_six(store: Store, requests: list[str]) -> None:
    with hold(store, "x"):
        requests.clear()
    requests.clear()
    with hold(store, "x"):
        pass
    assert len(requests) == 6


def test_a_job_costs_at_most_half_of_the_22_of_before(store: Store, requests: list[str]) -> None:
    """When each write asked for its bucket, and each question for a directory too."""
    with store.work("0123456789abcdef"):
        assert not store.has(STAGE)
        out = store.new(STAGE)
        for name in ("model.safetensors", "info.json", "curve.jsonl"):
            (out / name).write_text("{}")
        store.commit(STAGE, out, {})
        store.remove_work("0123456789abcdef")
    assert len(requests) <= 11


def test_whether_a_stage_is_there_costs_one(store: Store, requests: list[str]) -> None:
    assert not store.has(STAGE)
    assert len(requests) == 1


def test_the_finished_jobs_of_a_rerun_cost_nothing_each(store: Store, requests: list[str]) -> None:
    keys = [f"key{number}" for number in range(100)]
    store.write("work/other/x", b"1")
    requests.clear()
    remove_work_of(store, keys)
    remove_leases(store, keys)
    assert len(requests) <= 4, "a list of work, of train and of leases; one is looked for twice"
    store.write("train/key7/x", b"1")
    requests.clear()
    remove_work_of(store, keys)
    assert len(requests) <= 9
    assert not store.exists("train/key7")
    assert store.read("work/other/x") == b"1"


def test_a_plan_of_hundreds_of_points_lists_the_kinds(
    store: Store, requests: list[str], tmp_path: Path
) -> None:
    space = load_space("smoke", [f"seeds={list(range(60))}"])
    points = operating_points(space)
    plan = Plan(space, points, {}, None)
    some = [*points[::40], points[-1]]
    for point in some:
        for stage in plan._stages(point):
            store.write(f"{stage.path}/{MANIFEST}", b"{}")
    half_done = plan._stages(points[1])[0]
    store.write(f"{half_done.path}/{MANIFEST}", b"{}")
    requests.clear()
    rerun = Plan(space, points, {}, store)
    assert set(rerun.complete_points()) == set(some)
    assert half_done.key in rerun.jobs
    assert len(points) > 200
    assert len(requests) < 100
    for evaluation in plan._stages(points[1])[1:]:
        store.write(f"{evaluation.path}/{MANIFEST}", b"{}")
    assert rerun.is_complete(points[1]), "what was absent when it was listed may be there later"


def manifest(stage: str, seconds: int) -> bytes:
    content = {"stage": stage, "created": 0.0, "files": {}, "seconds": seconds}
    return json.dumps(content).encode()


def test_the_manifests_of_many_stages_cost_one_each_and_are_read_side_by_side(
    store: Store, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.storage.store._MANIFESTS_AT_ONCE", 7)
    stages = [f"stages/point/key{number}" for number in range(20)]
    for number, stage in enumerate(stages):
        store.write(f"{stage}/{MANIFEST}", manifest(stage, number))
    requests.clear()
    assert [manifest["seconds"] for manifest in store.manifests(stages)] == list(range(20))
    assert len(requests) == 20
    read_alone: list[str] = []
    monkeypatch.setattr(store, "read", read_alone.append)
    assert len(list(store.manifests(stages))) == 20
    assert read_alone == [], "one after the other, each would wait for the one before"


def test_a_stage_without_a_manifest_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.storage.outage.VISIBLE_S", 0.1)
    store.write(f"stages/point/a/{MANIFEST}", manifest("stages/point/a", 1))
    with pytest.raises(StoreError, match="stages/point/b is not in"):
        list(store.manifests(["stages/point/a", "stages/point/b"]))
