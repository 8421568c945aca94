"""Requests to a running driver reach it from another machine, on every storage; none is lost."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.storage import outage, sweep_requests
from orchestrator.storage.files import StoreError
from orchestrator.storage.lease import Lease, only_driver
from orchestrator.storage.store import Store
from orchestrator.storage.sweep_requests import Answer, Inbox, SweepRequest, ask
from tests.orchestrator.storage.conftest import OpenStore
from tests.orchestrator.waiting import wait_until

ADDED = {"space": {}, "points": [], "added": [], "command": "larger"}


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_requests, "LOOK_S", 0.05)


@pytest.fixture
def lease(store: Store) -> Iterator[Lease]:
    with only_driver(store, "smoke") as lease:
        yield lease


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def another_machine(open_store: OpenStore) -> Store:
    """The storage as another machine sees it, by now with the driver's lease."""
    store = open_store("elsewhere")
    wait_until(lambda: store.names("leases/sweep-smoke"), 10)
    return store


def one_request(inbox: Inbox) -> SweepRequest:
    (request,) = wait_until(inbox.pending, 30)
    return request


def test_a_driver_answers_the_request_of_another_machine_once(
    open_store: OpenStore, store: Store, lease: Lease, threads: ThreadPoolExecutor
) -> None:
    is_waiting = threading.Event()
    asked: Future[Answer | None] = threads.submit(
        ask, another_machine(open_store), "smoke", "cancel", {"points": ["a"]}, is_waiting.set
    )
    inbox = Inbox(store, "smoke", lease.number)
    request = one_request(inbox)
    assert is_waiting.wait(10)
    assert (request.kind, request.content) == ("cancel", {"points": ["a"]})
    inbox.answer(request, Answer(True, ("cancelled a",)))
    assert inbox.pending() == [], "a listing may show the answer late"
    assert asked.result(30) == Answer(True, ("cancelled a",))
    wait_until(lambda: not open_store("third").names("requests/smoke"), 10)


def test_requests_come_in_the_order_in_which_they_were_made(
    open_store: OpenStore, store: Store, lease: Lease, threads: ThreadPoolExecutor
) -> None:
    inbox, asked = Inbox(store, "smoke", lease.number), []
    for number in (1, 2):
        content = {"number": number}
        asked.append(threads.submit(ask, another_machine(open_store), "smoke", "add", content))
        wait_until(lambda count=number: len(inbox.pending()) == count, 30)  # type: ignore[misc]
    assert [request.content["number"] for request in inbox.pending()] == [1, 2]
    for request in inbox.pending():
        inbox.answer(request, Answer(False, ("no",)))
    assert [future.result(30) for future in asked] == [Answer(False, ("no",))] * 2


def test_nobody_is_asked_where_no_driver_runs(store: Store) -> None:
    assert ask(store, "smoke", "cancel", {}) is None
    assert store.names("requests/smoke") == []


def test_a_storage_that_is_away_for_a_moment_ends_no_request(
    open_store: OpenStore,
    store: Store,
    lease: Lease,
    threads: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outage, "LOOK_S", 0.05)
    elsewhere, is_away = another_machine(open_store), threading.Event()
    looks, read = [], elsewhere.read

    def fail_at_first(name: str) -> bytes | None:
        if is_away.is_set() and len(looks) < 2:
            looks.append(name)
            raise OSError("no route to the storage")
        return read(name)

    monkeypatch.setattr(elsewhere, "read", fail_at_first)
    asked = threads.submit(ask, elsewhere, "smoke", "cancel", {}, is_away.set)
    inbox = Inbox(store, "smoke", lease.number)
    inbox.answer(one_request(inbox), Answer(True, ("done",)))
    assert asked.result(30) == Answer(True, ("done",))
    assert len(looks) == 2


def test_an_answer_counts_although_the_request_cannot_be_removed(
    open_store: OpenStore,
    store: Store,
    lease: Lease,
    threads: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(names: object) -> None:
        raise OSError("no route to s3://me:hunter2@host")

    elsewhere = another_machine(open_store)
    monkeypatch.setattr(elsewhere, "remove", fail)
    asked = threads.submit(ask, elsewhere, "smoke", "cancel", {})
    inbox = Inbox(store, "smoke", lease.number)
    inbox.answer(one_request(inbox), Answer(True, ("done",)))
    assert asked.result(30) == Answer(True, ("done",))
    assert "stays in the storage" in caplog.text
    assert "hunter2" not in caplog.text


def test_who_asks_notices_that_the_driver_ended_without_an_answer(
    open_store: OpenStore, store: Store, threads: ThreadPoolExecutor
) -> None:
    with only_driver(store, "smoke") as lease:
        asked = threads.submit(ask, another_machine(open_store), "smoke", "add", {})
        one_request(Inbox(store, "smoke", lease.number))
    assert asked.result(30) is None
    assert store.names("requests/smoke") == []


def test_a_later_driver_does_nothing_for_who_asked_an_earlier_one_and_removes_it(
    store: Store, lease: Lease
) -> None:
    for number, kind in enumerate(("cancel", "prioritise", "add"), 1):
        text = f'{{"kind": "{kind}", "content": {{}}, "lease": {lease.number - 1}}}'
        store.write(f"requests/smoke/{number}.json", text.encode())
    text = f'{{"kind": "cancel", "content": {{}}, "lease": {lease.number + 1}}}'
    store.write("requests/smoke/4.json", text.encode())
    wait_until(lambda: len(store.names("requests/smoke")) == 4, 30)
    inbox = Inbox(store, "smoke", lease.number)
    wait_until(lambda: inbox.pending() or len(store.names("requests/smoke")) == 1, 30)
    assert inbox.pending() == []
    assert store.names("requests/smoke") == ["4.json"], "it is to a driver that took over"


def test_a_damaged_request_does_not_keep_the_driver_from_others(store: Store, lease: Lease) -> None:
    store.write("requests/smoke/1.json", b"{")
    store.write("requests/smoke/2.json", b'{"kind": "add"}')
    text = f'{{"kind": "cancel", "content": {{}}, "lease": {lease.number}}}'
    store.write("requests/smoke/3.json", text.encode())
    store.write("requests/smoke/4.json", b'{"kind": "add", "content": {}, "lease": "1"}')
    store.write("requests/smoke/5.json", b"[" * 100_000)
    store.write("requests/smoke/6.json/x", b"a directory")
    inbox = Inbox(store, "smoke", lease.number)
    wait_until(lambda: "6.json" in store.names("requests/smoke") or store.remote, 30)
    assert [request.id for request in inbox.pending()] == ["3"]


def test_a_pipe_and_a_link_keep_the_driver_from_no_request(tmp_path: Path) -> None:
    """A test that hangs fails by its time-out."""
    store = Store(str(tmp_path / "storage"))
    with only_driver(store, "smoke") as lease:
        text = f'{{"kind": "cancel", "content": {{}}, "lease": {lease.number}}}'
        (tmp_path / "request.json").write_text(text)
        store.write("requests/smoke/3.json", text.encode())
        os.mkfifo(store.path("requests/smoke/1.json"))
        Path(store.path("requests/smoke/2.json")).symlink_to(tmp_path / "request.json")
        os.mkfifo(store.path("requests/smoke/added.json"))
        inbox = Inbox(store, "smoke", lease.number)
        assert [request.id for request in inbox.pending()] == ["3"]
        assert inbox.read_added() is None


def test_a_driver_that_lives_and_does_not_answer_is_not_waited_for(
    store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_requests, "ANSWER_S", 0.2)
    with pytest.raises(StoreError, match="has not answered"):
        ask(store, "smoke", "cancel", {})
    wait_until(lambda: store.names("requests/smoke") == [], 30)


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"is_accepted": 1, "lines": []}', '{"is_accepted": true, "lines": "x"}']
)
def test_a_damaged_answer_is_an_error_in_one_line(
    store: Store, lease: Lease, threads: ThreadPoolExecutor, text: str
) -> None:
    asked = threads.submit(ask, store, "smoke", "cancel", {})
    request = one_request(Inbox(store, "smoke", lease.number))
    store.write(f"requests/smoke/{request.id}.answer.json", text.encode())
    with pytest.raises(StoreError, match="answer is damaged") as error:
        asked.result(30)
    assert len(str(error.value).splitlines()) == 1


def test_the_name_of_a_damaged_request_is_one_line_of_the_log(
    store: Store, lease: Lease, caplog: pytest.LogCaptureFixture
) -> None:
    if store.remote:
        pytest.skip("whoever may write there reaches no file of this machine")
    store.write("requests/smoke/9\ntouch x #.json", b"{")
    assert Inbox(store, "smoke", lease.number).pending() == []
    assert "is damaged" in caplog.text
    assert "\ntouch x" not in caplog.text


def test_what_was_added_stays_until_a_driver_comes_to_its_end(
    open_store: OpenStore, store: Store, lease: Lease
) -> None:
    first = Inbox(store, "smoke", lease.number)
    assert first.read_added() is None
    first.keep_added(ADDED)
    # The successor of a driver that died may run on another machine.
    successor = Inbox(open_store("elsewhere"), "smoke", lease.number + 1)
    wait_until(successor.read_added, 10)
    assert successor.read_added() == ADDED
    assert successor.pending() == []
    store.write("requests/smoke/1.json", b'{"kind": "add", "content": {}, "lease": 1}')
    store.write("requests/smoke/2.json", b'{"kind": "add", "content": {}, "lease": 1}')
    store.write("requests/smoke/1.answer.json", b"{}")
    first.clear()
    assert store.names("requests/smoke") == ["2.json"], "nobody has answered it"


def test_damaged_additions_are_none(store: Store, lease: Lease) -> None:
    inbox = Inbox(store, "smoke", lease.number)
    wrong = [{"added": None}, {"added": [5]}, {"points": "x"}, {"command": 5}]
    contents = [json.dumps({**ADDED, **each}).encode() for each in wrong]
    for text in (b"{", b"[]", b'{"command": "larger"}', b"[" * 100_000, *contents):
        store.write("requests/smoke/added.json", text)
        wait_until(lambda t=text: store.read("requests/smoke/added.json") == t, 30)  # type: ignore[misc]
        assert inbox.read_added() is None


def test_an_answer_that_the_asker_may_not_see_yet_outlasts_the_driver(
    store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox(store, "smoke", lease.number)
    text = f'{{"kind": "cancel", "content": {{}}, "lease": {lease.number}}}'
    store.write("requests/smoke/1.json", text.encode())
    inbox.keep_added(ADDED)
    inbox.answer(one_request(inbox), Answer(True, ("cancelled",)))
    wait_until(lambda: len(store.names("requests/smoke")) == 3, 30)
    inbox.clear()
    wait_until(lambda: "added.json" not in store.names("requests/smoke"), 30)
    assert sorted(store.names("requests/smoke")) == ["1.answer.json", "1.json"]
    monkeypatch.setattr(sweep_requests, "VISIBLE_S", 0.0)
    inbox.clear()
    wait_until(lambda: store.names("requests/smoke") == [], 30)


def test_while_no_job_is_left_every_request_is_refused(store: Store, lease: Lease) -> None:
    inbox = Inbox(store, "smoke", lease.number)
    for number, kind in enumerate(("cancel", "add"), 1):
        text = f'{{"kind": "{kind}", "content": {{}}, "lease": {lease.number}}}'
        store.write(f"requests/smoke/{number}.json", text.encode())
    wait_until(lambda: len(inbox.pending()) == 2, 30)
    inbox.refuse_all("its search runs")
    for number in (1, 2):
        answer = wait_until(lambda n=number: store.read(f"requests/smoke/{n}.answer.json"), 30)  # type: ignore[misc]
        assert json.loads(answer) == {"is_accepted": False, "lines": ["its search runs"]}
