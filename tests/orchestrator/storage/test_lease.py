"""A lease has one holder, on a disk and on S3; a dead holder's is taken, a living one's is not."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from orchestrator.execution.environment import FULL_DISK, environment_in
from orchestrator.storage import lease
from orchestrator.storage.cleanup import remove_leases
from orchestrator.storage.lease import (
    LeaseHeldError,
    LeaseLostError,
    SweepHeldError,
    hold,
    hold_all,
    hold_available,
    only_driver,
)
from orchestrator.storage.lease_files import REMOTE, SHARED_DISK, LeaseState, Pace, lease_file
from orchestrator.storage.process import Process
from orchestrator.storage.store import Store
from tests.orchestrator.storage.conftest import OpenStore
from tests.orchestrator.waiting import wait_until

FAST = Pace(beat=0.05, stale=0.6, look=0.02)
ELSEWHERE = replace(Process.current(), host="node7", boot="0" * 12)


def write_lease(store: Store, number: int, holder: Process, beat: int = 3) -> None:
    state = {"holder": asdict(holder), "beat": beat, "released": False}
    store.write(f"leases/x/{number:06}.json", json.dumps(state).encode())


def test_one_of_many_racing_writers_holds_it_at_a_time(open_store: OpenStore) -> None:
    holders, most, turns = 0, 0, []
    lock = threading.Lock()

    def take_turn(node: int) -> None:
        nonlocal holders, most
        store = open_store(f"node{node}")
        for _ in range(3):
            with hold(store, "x", pace=FAST):
                with lock:
                    holders += 1
                    most = max(most, holders)
                time.sleep(0.01)
                with lock:
                    holders -= 1
                    turns.append(node)

    threads = [threading.Thread(target=take_turn, args=(node,)) for node in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert sorted(turns) == [node for node in range(4) for _ in range(3)]


def test_of_two_writers_of_a_file_one_wins(open_store: OpenStore) -> None:
    one, two = open_store("node1"), open_store("node2")
    assert one.create("a/b.json", b"first")
    assert not two.create("a/b.json", b"second")
    wait_until(lambda: two.names("a") == ["b.json"], 5)
    assert two.read("a/b.json") == b"first"


def test_a_holder_is_taken_for_dead_only_after_two_beats_that_a_shared_disk_may_hide() -> None:
    # Linux, nfs(5): acdirmax and acregmax are 60 s.
    assert SHARED_DISK.stale > 60 + 2 * SHARED_DISK.beat
    assert REMOTE.stale > 2 * REMOTE.beat


def test_a_beating_holder_on_another_machine_keeps_it(store: Store) -> None:
    over = threading.Event()

    def beat() -> None:
        number = 0
        while not over.wait(0.05):
            number += 1
            write_lease(store, 1, ELSEWHERE, number)

    write_lease(store, 1, ELSEWHERE, 0)
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(LeaseHeldError) as error, hold(store, "x", wait=False, pace=FAST):
            pass
        assert error.value.holder == ELSEWHERE
    finally:
        over.set()
        thread.join()
    start = time.monotonic()
    with hold(store, "x", pace=FAST):
        assert time.monotonic() - start > FAST.stale


def test_clocks_of_other_machines_do_not_count(store: Store) -> None:
    """Only that the beat stands still counts, not when it was written."""
    write_lease(store, 1, replace(ELSEWHERE, started_ms=10**15))
    with hold(store, "x", wait=False, pace=FAST):
        assert store.names("leases/x") == ["000001.json", "000002.json"]


def test_a_lease_that_cannot_be_read_is_waited_for_and_taken(store: Store) -> None:
    store.write("leases/x/000001.json", b"garbage")
    start = time.monotonic()
    with hold(store, "x", pace=FAST):
        assert time.monotonic() - start > FAST.stale
        assert store.names("leases/x")[-1] == "000002.json"


@pytest.mark.parametrize("change", [{"pid": 2**22 + 1}, {"started_ms": 1}])
def test_a_dead_process_of_this_machine_holds_nothing(
    tmp_path: Path, change: dict[str, int]
) -> None:
    """Also not where a restarted container has the same host name and process id."""
    store = Store(str(tmp_path))
    write_lease(store, 1, replace(Process.current(), **change))
    start = time.monotonic()
    with hold(store, "x", wait=False):
        assert time.monotonic() - start < Pace().stale / 2


@contextlib.contextmanager
def holder(directory: Path, pace: Pace) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease of x, and prints why it lost it."""
    code = f"""
import time
from orchestrator.storage.lease import LeaseLostError, hold
from orchestrator.storage.lease_files import Pace
from orchestrator.storage.store import Store
with hold(Store({str(directory)!r}), "x", pace={pace}) as lease:
    print("held", flush=True)
    try:
        while True:
            lease.check()
            time.sleep(0.01)
    except LeaseLostError as error:
        print(error, flush=True)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_killed_holder_is_followed_at_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with holder(tmp_path, SHARED_DISK) as process:
        named = pytest.raises(LeaseHeldError, match=f"process {process.pid}")
        with named, hold(store, "x", wait=False):
            pass
    start = time.monotonic()
    with hold(store, "x"):
        assert time.monotonic() - start < Pace().stale / 2


def test_a_process_that_the_system_has_stopped_holds_for_a_time_and_learns_of_its_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "WAIT_IS_SAID_S", 0.1)
    said: list[str] = []
    with holder(tmp_path, FAST) as process:
        process.send_signal(signal.SIGSTOP)
        began, patient = time.monotonic(), replace(FAST, stopped=2.0)
        with hold(Store(str(tmp_path)), "x", pace=patient, waits=said.append):
            assert time.monotonic() - began > 2.0
            process.send_signal(signal.SIGCONT)
            assert "lost" in process.communicate(timeout=20)[0]
    name = f"waiting for process {process.pid} on {Process.current().host}, which works on it"
    assert said == [name, f"{name} but has not said so for 0.6 s: 2 s at most", ""]


def test_a_holder_learns_that_another_one_has_taken_it(store: Store) -> None:
    with hold(store, "x", pace=FAST) as held:
        held.check()
        write_lease(store, 2, ELSEWHERE)
        deadline = time.monotonic() + 5
        while not held.is_lost:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(LeaseLostError, match="x"):
            held.check()
    state = json.loads(store.read("leases/x/000002.json") or b"")
    assert not state["released"], "a holder that lost its lease does not release the next one's"


def test_an_outage_makes_it_doubtful_and_the_next_beat_mends_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store.write
    with hold(store, "x", pace=FAST) as held:

        def refuse(name: str, data: bytes) -> str:
            raise OSError("no answer")

        monkeypatch.setattr(store, "write", refuse)
        time.sleep(2 * FAST.stale)
        assert held.is_lost
        back = threading.Timer(FAST.stale, monkeypatch.setattr, (store, "write", write))
        back.start()
        held.check()  # it waits until the storage is back
        assert not back.is_alive()
        assert not held.is_lost


@pytest.mark.parametrize("moment", ["before", "behind"])
def test_a_beat_whose_answer_is_late_renews_from_its_begin(
    store: Store, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A waiter counts from the beat that it saw."""
    write, slow = store.write, threading.Event()
    with hold(store, "x", pace=FAST) as held:

        def write_slowly(name: str, data: bytes) -> str:
            slow.set()
            if moment == "before":
                time.sleep(FAST.stale)
            path = write(name, data)
            if moment == "behind":
                time.sleep(FAST.stale)
            monkeypatch.setattr(store, "write", refuse)
            return path

        def refuse(name: str, data: bytes) -> str:
            raise OSError("no answer")

        monkeypatch.setattr(store, "write", write_slowly)
        assert slow.wait(5)
        wait_until(lambda: store.write is refuse, 5)
        assert held.is_lost
        monkeypatch.setattr(store, "write", write)


def test_a_lease_whose_making_took_long_counts_from_its_begin(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = store.create

    def create_slowly(name: str, data: bytes) -> bool:
        is_made = create(name, data)
        time.sleep(FAST.stale)
        return is_made

    with monkeypatch.context() as late:
        late.setattr(store, "create", create_slowly)
        late.setattr(lease.Lease, "_renew", lambda lease: None)
        with hold(store, "x", pace=FAST) as held:
            assert held.is_lost


def test_a_second_driver_of_a_sweep_is_told_who_runs_it(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with only_driver(store, "demo"):
        with pytest.raises(SweepHeldError) as error, only_driver(store, "demo"):
            pass
        message = str(error.value)
        assert all(text in message for text in ("'demo'", str(os.getpid()), "--name", "--storage"))
        with only_driver(store, "other"):
            pass
    with only_driver(store, "demo"):
        pass


def test_a_release_that_did_not_get_through_is_made_up_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process lives on, so that nobody here would ever take it for dead."""
    write = store.write
    with hold(store, "x", pace=FAST):

        def refuse(name: str, data: bytes) -> str:
            raise OSError("no answer")

        monkeypatch.setattr(store, "write", refuse)
    monkeypatch.setattr(store, "write", write)
    taken = threading.Event()

    def take() -> None:
        with hold(store, "x", pace=FAST):
            taken.set()

    threading.Thread(target=take, daemon=True).start()
    assert taken.wait(10)


def test_a_lease_that_was_made_though_the_storage_failed_is_given_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process lives on and tries again: it must not wait for its own first try for ever."""
    create = store.create

    def fail_afterwards(name: str, data: bytes) -> bool:
        if not create(name, data):
            return False
        raise OSError("the answer is lost, and so are those to all repetitions")

    for _ in range(2):  # the first number, and one that follows
        monkeypatch.setattr(store, "create", fail_afterwards)
        with pytest.raises(OSError, match="lost"), hold(store, "x", pace=FAST):
            pass
        monkeypatch.setattr(store, "create", create)
        taken = threading.Event()

        def take(taken: threading.Event = taken) -> None:
            with hold(store, "x", pace=FAST):
                taken.set()

        threading.Thread(target=take, daemon=True).start()
        assert taken.wait(10)


def test_a_storage_that_does_not_answer_keeps_no_holder_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RELEASE_S", 0.2)
    store, answers = Store(str(tmp_path)), threading.Event()
    write = store.write

    def hang(name: str, data: bytes) -> str:
        answers.wait(30)
        return write(name, data)

    with hold(store, "x", pace=FAST):
        monkeypatch.setattr(store, "write", hang)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    answers.set()
    wait_until(lambda: b'"released": true' in (store.read("leases/x/000001.json") or b""), 10)


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", DEEP, f'{{"holder": {DEEP}', '{"holder": 5}'),
        '{"holder": {"host": "h", "boot": "b", "pid": 1, "started_ms": 1}, "beat": 1}',
        *(
            json.dumps({"holder": asdict(Process.current()) | change, "beat": 1, "released": False})
            for change in ({"pid": "5"}, {"pid": 0}, {"pid": -1}, {"pid": 2**64}, {"host": 5})
        ),
        json.dumps({"holder": asdict(ELSEWHERE), "beat": "1", "released": False}),
        json.dumps({"holder": asdict(ELSEWHERE), "beat": 1, "released": "yes"}),
    ],
)
def test_a_lease_of_another_shape_is_held_until_it_is_stale(store: Store, text: str) -> None:
    store.write("leases/job-x/000001.json", text.encode())
    start = time.monotonic()
    with hold_available(store, ["job-x"], pace=FAST) as held:
        assert held == {"job-x"}
        assert FAST.stale < time.monotonic() - start < 20
    store.write("leases/job-y/000001.json", text.encode())
    remove_leases(store, ["y"])
    assert store.names("leases/job-y") == ["000001.json"], "nobody gave it back"


@pytest.mark.parametrize("kind", ["pipe", "link", "directory"])
def test_what_is_no_file_in_the_place_of_a_lease_is_held_until_it_is_stale(
    tmp_path: Path, kind: str
) -> None:
    """A test that hangs fails by its time-out."""
    store = Store(str(tmp_path / "storage"))
    write_lease(store, 2, ELSEWHERE)
    place = Path(store.path("leases/x/000001.json"))
    make = {"pipe": os.mkfifo, "directory": os.mkdir, "link": lambda p: p.symlink_to(tmp_path)}
    make[kind](place)
    place.rename(place.with_name("000003.json"))
    make[kind](place)
    start = time.monotonic()
    with hold(store, "x", wait=False, pace=FAST):
        assert time.monotonic() - start > FAST.stale


def test_a_holder_from_a_file_steers_no_terminal() -> None:
    assert "\x1b" not in str(replace(ELSEWHERE, host="\x1b[2Jnode"))


def test_a_step_of_the_clock_makes_no_process_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux tells the time of its boot by the clock of the moment."""
    this = Process.current()
    boot_time = psutil.boot_time()
    monkeypatch.setattr("psutil._psplatform.boot_time", lambda: boot_time + 1)
    assert not this.is_gone


def test_a_hidden_process_of_another_user_is_not_taken_for_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = replace(Process.current(), pid=2**22 + 1)

    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr("os.kill", refuse)
    assert not other.is_gone
    assert not other.is_here


def test_a_holder_that_slept_learns_of_a_later_lease_whose_predecessor_is_removed(
    store: Store,
) -> None:
    with hold(store, "x", pace=FAST) as held:
        write_lease(store, 3, ELSEWHERE)
        wait_until(lambda: held.is_lost, 5)
        beat = store.read("leases/x/000001.json")
    assert store.read("leases/x/000001.json") == beat, "and beats no more"


def test_a_holder_whose_lease_was_removed_learns_of_it(store: Store) -> None:
    def is_lost() -> bool:
        store.remove(["leases/x/000001.json"])  # again: a beat may just be on its way
        return held.is_lost

    with hold(store, "x", pace=FAST) as held:
        wait_until(is_lost, 5)
        store.remove(["leases/x/000001.json"])
    assert store.names("leases/x") == [], "it is not written again"


def test_the_numbers_before_a_lease_that_all_have_noticed_are_removed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        with hold(store, "x", pace=FAST):
            pass
    with hold(store, "x", pace=FAST):
        time.sleep(3 * FAST.beat)
        assert "000003.json" in store.names("leases/x"), "not before"
    monkeypatch.setattr(lease, "SETTLED_S", 0.1)
    with hold(store, "x", pace=FAST):
        wait_until(lambda: store.names("leases/x") == ["000001.json", "000005.json"], 5)
        with pytest.raises(LeaseHeldError), hold(store, "x", wait=False, pace=FAST):
            pass


def test_a_waiter_that_slept_after_its_look_takes_no_number_that_was_given_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SETTLED_S", lease.VISIBLE_S)
    write_lease(store, 1, replace(Process.current(), started_ms=1))
    create, slept = store.create, []

    def sleep_before_the_second(name: str, data: bytes) -> bool:
        if name.endswith("2.json") and not slept:
            slept.append(name)
            write_lease(store, 4, replace(Process.current(), started_ms=1))
        return create(name, data)

    monkeypatch.setattr(store, "create", sleep_before_the_second)
    with hold(store, "x", pace=FAST):
        assert slept
        assert store.names("leases/x") == ["000001.json", "000004.json", "000005.json"]


def test_a_holder_whose_first_number_was_cleaned_up_puts_it_back(store: Store) -> None:
    """Whoever tried number 1 next would hold the lease, too."""
    with hold(store, "x", pace=FAST):
        pass
    with hold(store, "x", pace=FAST) as held:
        store.remove(["leases/x/000001.json"])
        wait_until(lambda: "000001.json" in store.names("leases/x"), 5)
        with pytest.raises(LeaseHeldError), hold(store, "x", wait=False, pace=FAST):
            pass
        assert not held.is_lost


def test_files_that_are_no_leases_are_skipped(store: Store) -> None:
    store.write("leases/x/.DS_Store", b"")
    store.write("leases/x/000001 (copy).json", b"")
    store.write(f"leases/x/{'9' * 200}.json", b"{}")
    store.write(f"leases/x/{'9' * 12}.json", b"{}")
    store.write("leases/x/\u0661\u0661\u0661\u0661\u0661\u0661.json", b"{}")
    with hold(store, "x", wait=False, pace=FAST):
        assert "000001.json" in store.names("leases/x")
    with hold(store, "x", wait=False, pace=FAST) as held:
        assert held.number == 2


def test_a_forked_child_releases_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    with hold(store, "x", pace=FAST) as held:
        parent = replace(held._process, pid=os.getpid() + 1)
        with monkeypatch.context() as in_child:
            in_child.setattr(held, "_process", parent)
            held.release()
        assert b'"released": true' not in (store.read("leases/x/000001.json") or b"")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_has_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = Store(str(tmp_path))

    def refuse(source: Path, target: Path) -> None:
        raise OSError(number, "no links")

    monkeypatch.setattr("os.link", refuse)
    assert store.create("a/b.json", b"first")
    assert not store.create("a/b.json", b"second")
    assert store.names("a") == ["b.json"]
    with hold(store, "x", wait=False, pace=FAST):
        pass


@pytest.mark.parametrize(
    ("call", "method"),
    [
        *[("os.fsync", "write"), ("os.mkdir", "write"), ("io.open", "write")],
        *[("os.fsync", "create"), ("os.mkdir", "create"), ("io.open", "create")],
        ("os.link", "create"),
    ],
)
def test_a_disk_without_room_or_inodes_is_a_full_disk_and_not_filled_further(
    call: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes end where a file is written, inodes where a file, directory or link is made."""
    store = Store(str(tmp_path))
    store.write("a/b.json", b"old")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    name = "a/b.json" if method == "write" else "a/c.json"
    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        with pytest.raises(OSError, match="No space left") as error:
            getattr(store, method)("new/d.json" if call == "os.mkdir" else name, b"new")
    assert environment_in(error.value) == FULL_DISK
    assert [path.name for path in tmp_path.rglob("*.*")] == ["b.json"]
    assert store.read("a/b.json") == b"old"


def lose_answers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each conditional write succeed, be sent again as its answer is lost, and be refused."""
    pipe_file = store.fs.pipe_file

    def write_twice(path: str, data: bytes, mode: str = "overwrite") -> None:
        pipe_file(path, data, mode=mode)
        if mode == "create":
            pipe_file(path, data, mode=mode)

    monkeypatch.setattr(store.fs, "pipe_file", write_twice)


@pytest.mark.parametrize("open_store", ["memory", "s3"], indirect=True)
def test_a_write_whose_answer_is_lost_is_known_as_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_answers(store, monkeypatch)
    with hold(store, "x", wait=False, pace=FAST):
        assert store.names("leases/x") == ["000001.json"]
    out = store.new("stages/point/k1")
    (out / "info.json").write_text("{}")
    assert store.commit("stages/point/k1", out, {})
    assert (store.fetch("stages/point/k1") / "info.json").read_text() == "{}"


@pytest.mark.parametrize("open_store", ["memory", "s3"], indirect=True)
def test_a_conflict_of_two_conditional_writes_is_sent_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe_file = store.fs.pipe_file
    answers = ["An error occurred (ConditionalRequestConflict) when calling PutObject"]

    def conflict(path: str, data: bytes, mode: str = "overwrite") -> None:
        if answers:
            raise OSError(errno.EIO, answers.pop())
        pipe_file(path, data, mode=mode)

    monkeypatch.setattr(store.fs, "pipe_file", conflict)
    assert store.create("a/b.json", b"first")


def test_several_dead_holders_are_waited_for_at_the_same_time(store: Store) -> None:
    for name in ("x", "y", "z"):
        state = {"holder": asdict(ELSEWHERE), "beat": 3, "released": False}
        store.write(f"leases/{name}/000001.json", json.dumps(state).encode())
    pace = replace(FAST, stale=4.0)
    start = time.monotonic()
    with hold_all(store, ["z", "x", "y", "x"], pace=pace):
        assert time.monotonic() - start < 2 * pace.stale, "3 if one after the other"
        with pytest.raises(LeaseHeldError), hold(store, "y", wait=False, pace=FAST):
            pass
    with hold(store, "z", wait=False, pace=FAST):
        pass


def test_a_waiter_says_once_what_it_waits_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "WAIT_IS_SAID_S", 0.1)
    said: list[str] = []
    with hold(store, "free", pace=FAST, waits=said.append):
        assert said == []
    write_lease(store, 1, ELSEWHERE)
    with hold(store, "x", wait=False, pace=FAST, waits=said.append):
        assert said == [f"looking whether {ELSEWHERE} still lives: 0.6 s at most", ""]


def test_who_waits_for_a_living_holder_says_so_until_it_is_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "WAIT_IS_SAID_S", 0.1)
    said: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with hold_all(store, ["x"], pace=FAST, waits=said.append):
            entered.set()

    with hold(store, "x", pace=FAST):
        thread = threading.Thread(target=second)
        thread.start()
        wait_until(lambda: bool(said), 10)
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()
    assert said == [f"waiting for {Process.current()}, which works on it", ""]


def test_of_several_leases_those_of_living_holders_are_left_out(store: Store) -> None:
    """All holders are told apart at the same time, whether they are here or elsewhere."""
    over = threading.Event()

    def beat_elsewhere() -> None:
        beat = 0
        while not over.wait(FAST.beat):
            beat += 1
            for name in ("a", "b", "c", "d"):
                state = LeaseState(ELSEWHERE, beat)
                store.write(lease_file(name, 1), state.dump())

    store.write(lease_file("dead", 1), LeaseState(ELSEWHERE, 3).dump())
    thread = threading.Thread(target=beat_elsewhere)
    thread.start()
    wait_until(lambda: bool(store.names("leases/d")), 5)
    try:
        names = ["a", "b", "c", "d", "dead", "free", "here"]
        with hold(store, "here", pace=FAST), hold_available(store, names, FAST) as held:
            assert held == {"dead", "free"}
            with pytest.raises(LeaseHeldError), hold(store, "free", wait=False, pace=FAST):
                pass
    finally:
        over.set()
        thread.join()
    with hold(store, "free", wait=False, pace=FAST):
        pass
