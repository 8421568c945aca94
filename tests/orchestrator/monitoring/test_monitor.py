"""The state that a driver writes, with a real storage and real leases."""

import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from orchestrator.monitoring import monitor as monitor_module
from orchestrator.monitoring.job_states import JobStates
from orchestrator.monitoring.monitor import Monitor
from orchestrator.monitoring.state_file import SweepState, read_state, write_state
from orchestrator.monitoring.time_left import TimeLeft
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Job, Plan
from orchestrator.storage import lease as lease_module
from orchestrator.storage.lease import Lease, LeaseLapsedError, LeaseLostError, only_driver
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points
from tests.orchestrator.waiting import wait_until


class Silent:
    """A view that nobody sees."""

    def plan(self, jobs: Mapping[str, Job], lanes: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def job_event(self, event: JobEvent) -> None:
        pass

    def keep_up(self) -> None:
        pass


@pytest.fixture
def plan() -> Plan:
    space = load_space("smoke")
    return Plan(space, operating_points(space), {}, None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "storage"))


@pytest.fixture
def lease(store: Store) -> Iterator[Lease]:
    with only_driver(store, "smoke") as lease:
        yield lease


def monitor_of(plan: Plan, store: Store, lease: Lease, notify: str | None = None) -> Monitor:
    states = JobStates()
    left = TimeLeft(states)
    return Monitor(
        plan, store, "smoke", "the command", Silent(), states, left, lease, notify, tick_s=0.02
    )


def state_in(store: Store) -> SweepState:
    state = read_state(store, "smoke")
    assert state is not None
    return state


def points_of(plan: Plan) -> list[str]:
    return [key for key, job in plan.jobs.items() if job.kind == "point"]


def test_the_view_is_told_to_keep_up_though_nothing_happens(
    plan: Plan, store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()
    monkeypatch.setattr(Silent, "keep_up", lambda _: told.set())
    with monitor_of(plan, store, lease) as monitor:
        assert told.wait(10)
        monitor.finish(0)


def test_the_file_says_what_runs_where_with_loss_what_failed_and_what_was_tried_again(
    plan: Plan, store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor_module, "WRITE_EVERY_S", 0.05)
    first, second, third, *_ = points_of(plan)
    with monitor_of(plan, store, lease) as monitor:
        monitor.plan(plan.jobs, 2)
        for key in (first, second, third):
            monitor.job_event(JobEvent("started", key))
        monitor.job_event(JobEvent("finished", first))
        monitor.job_event(JobEvent("retried", second, "a lost machine (log: /logs/2.log)"))
        monitor.job_event(JobEvent("started", second))
        values = {"loss": 0.5, "images_per_s": 32.0}
        progress = JobEvent(
            "progressed", second, phase="train", step=40, steps=100, metrics=values, host="node-7"
        )
        monitor.job_event(progress)
        monitor.job_event(JobEvent("failed", third, "out of memory (log: /logs/3.log)"))
        wait_until(lambda: state_in(store)["points"]["failed"] == 1, 30)
        state = state_in(store)
        monitor.finish(10)
    assert state["end"] is None
    assert state["points"] == {"total": len(plan.points), "done": 1, "failed": 1, "cancelled": 0}
    assert state["jobs"] == {"total": len(plan.jobs), "done": 1, "failed": 1, "cancelled": 0}
    assert state["images_per_s"] == 32.0
    (running,) = state["running"]
    assert running["label"] == plan.jobs[second].label
    assert running["host"] == "node-7"
    assert (running["phase"], running["step"], running["steps"]) == ("train", 40, 100)
    assert running["loss"] == 0.5
    cause = {"cause": "out of memory", "count": 1, "log": "/logs/3.log"}
    assert state["failed"] == [{**cause, "labels": [plan.jobs[third].label]}]
    cause = {"cause": "a lost machine", "count": 1, "log": "/logs/2.log"}
    assert state["retried"] == [{**cause, "labels": [plan.jobs[second].label]}]
    assert state_in(store)["end"] == "incomplete"
    assert state_in(store)["running"] == []


def test_no_time_is_left_once_every_job_is_over_the_cancelled_ones_too(
    plan: Plan, store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TimeLeft, "seconds", lambda left: 5.0)
    *others, last = plan.jobs
    with monitor_of(plan, store, lease) as monitor:
        monitor.plan(plan.jobs, 2)
        for key in others:
            monitor.job_event(JobEvent("finished", key))
        assert monitor.state()["seconds_left"] == 5.0
        monitor.job_event(JobEvent("cancelled", last))
        assert monitor.state()["seconds_left"] is None
        monitor.finish(0)


def test_a_write_that_the_storage_takes_late_does_not_hide_the_end(
    plan: Plan, store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor_module, "WRITE_EVERY_S", 0.05)
    started, released = threading.Event(), threading.Event()

    def write(store: Store, state: SweepState) -> None:
        if threading.current_thread().name == "monitor":
            started.set()
            assert released.wait(60)
        write_state(store, state)

    monkeypatch.setattr(monitor_module, "write_state", write)
    with monitor_of(plan, store, lease) as monitor:
        assert started.wait(60)
        monitor.finish(0)
        timer = threading.Timer(1.0, released.set)
        timer.start()
    timer.join()
    monitor._thread.join(60)
    assert not monitor._thread.is_alive()
    assert state_in(store)["end"] == "complete"


@pytest.mark.parametrize(
    ("error", "end", "reason"),
    [
        (None, "complete", ""),
        (KeyboardInterrupt(), "stopped", "signal"),
        (RuntimeError("at http://me:hunter2@host"), "error", "RuntimeError: at http://***@host"),
    ],
)
def test_the_end_stands_in_the_file_and_is_told(
    error: BaseException | None, end: str, reason: str, plan: Plan, store: Store, lease: Lease,
    tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "told"
    notify = f'printf "%s|" "$BRIDGESWEEP_EVENT" "$BRIDGESWEEP_TEXT" > {out}'
    with ExitStack() as stack:
        if error is not None:
            stack.enter_context(pytest.raises(type(error)))
        monitor = stack.enter_context(monitor_of(plan, store, lease, notify))
        if error is not None:
            raise error
        monitor.finish(0)
    assert state_in(store)["end"] == end
    assert reason in state_in(store)["reason"]
    event, text, _ = out.read_text().split("|")
    assert event == end
    assert f"0 of {len(plan.points)} points" in text
    assert reason in text


def test_a_notification_that_did_not_arrive_is_a_note_and_changes_no_end(
    plan: Plan, store: Store, lease: Lease
) -> None:
    with monitor_of(plan, store, lease, "exit 3") as monitor:
        monitor.finish(0)
    state = state_in(store)
    assert state["end"] == "complete"
    assert state["notes"] == ["the notification was not sent: the command ended with exit code 3"]


def test_a_driver_that_lost_its_sweep_leaves_the_file_to_the_other_one(
    plan: Plan, store: Store, lease: Lease
) -> None:
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(LeaseLostError))
        stack.enter_context(monitor_of(plan, store, lease))
        store.write("status/smoke.json", b"of the other one")
        raise LeaseLostError
    assert store.read("status/smoke.json") == b"of the other one"


def test_a_driver_whose_storage_was_away_for_too_long_tells_that_it_ends(
    plan: Plan, store: Store, lease: Lease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has taken the sweep: nobody else will tell."""
    told = tmp_path / "told"
    monkeypatch.setattr(lease_module, "OUTAGE_S", 0.0)
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(LeaseLapsedError, match="the storage has not taken"))
        stack.enter_context(monitor_of(plan, store, lease, f"echo $BRIDGESWEEP_EVENT > {told}"))
        monkeypatch.setattr(lease, "_renewed", -math.inf)
        lease.check()
    assert told.read_text().strip() == "error"


@pytest.mark.parametrize("hours", [math.nan, math.inf, "x", None])
def test_hours_that_are_no_number_are_not_added_to(
    plan: Plan, store: Store, lease: Lease, hours: Any
) -> None:
    with monitor_of(plan, store, lease) as monitor:
        monitor.finish(0)
    state = state_in(store)
    for written, expected in ((7.5, 7.5), (hours, 0)):
        store.write("status/smoke.json", json.dumps({**state, "gpu_hours": written}).encode())
        assert monitor_of(plan, store, lease)._gpu_hours == expected


def test_gpu_hours_add_up_over_drivers(plan: Plan, store: Store, lease: Lease) -> None:
    hours = [0.0]
    for _ in range(2):
        with monitor_of(plan, store, lease) as monitor:
            monitor._gauges, monitor._gpus_in_use = None, lambda: 3600.0 * 1000.0
            before = monitor._gpu_hours
            assert before == hours[-1]
            # A thousand GPU-hours a second.
            wait_until(lambda before=before, m=monitor: m._gpu_hours > before + 100, 30)
            monitor._gpus_in_use = None
            monitor.finish(0)
        hours.append(state_in(store)["gpu_hours"])
    assert hours[2] > hours[1] + 100


def test_a_shared_cause_and_a_storage_that_is_away_are_told_once(
    plan: Plan, store: Store, lease: Lease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(store: Store, state: SweepState) -> None:
        raise OSError("no route to host")

    out = tmp_path / "told"
    keys = points_of(plan)
    with monitor_of(plan, store, lease, f'echo "$BRIDGESWEEP_EVENT" >> {out}') as monitor:
        monitor.plan(plan.jobs, 2)
        for _ in range(2):
            monitor.job_event(JobEvent("withdrawn", keys[0], "a full disk", others=(keys[1],)))
        monkeypatch.setattr(monitor_module, "write_state", refuse)
        monkeypatch.setattr(monitor_module, "AWAY_S", 0.0)
        monitor.write_status()
        monitor.write_status()
        monkeypatch.undo()
        monitor.finish(1)
    assert sorted(out.read_text().split()) == ["incomplete", "shared_cause", "storage_away"]


def test_the_file_is_json_of_a_few_kilobytes_for_thousands_of_failures(
    store: Store, lease: Lease
) -> None:
    space = load_space("smoke", (f"seeds={[*range(300)]}",))
    plan = Plan(space, operating_points(space), {}, None)
    keys = points_of(plan)
    assert len(keys) > 2000
    with monitor_of(plan, store, lease) as monitor:
        monitor.plan(plan.jobs, 2)
        for key in keys:
            monitor.job_event(JobEvent("failed", key, f"out of memory (log: /logs/{key}.log)"))
        monitor.finish(len(keys))
    data = store.read("status/smoke.json")
    assert data is not None
    assert len(data) < 10_000
    assert json.loads(data)["failed"][0]["count"] == len(keys)


LOST_HEAD = """
import sys, threading
from orchestrator.monitoring import monitor as module
module.END_S = 1.0

class Hung(module.Monitor):
    def __init__(self):
        self.command, self._view = "c", self
        self.leave_ray = lambda: None
        self.note = lambda text: None
        self._over = threading.Event()
        self._thread = threading.Thread(target=threading.Event().wait, daemon=True)
        self._thread.start()

threading.Thread(target=Hung().end_without_head, args=("the head is lost",)).start()
"""


def test_a_driver_without_its_head_ends_even_where_its_storage_hangs() -> None:
    done = subprocess.run([sys.executable, "-c", LOST_HEAD], timeout=60, check=False)
    assert done.returncode == 1
