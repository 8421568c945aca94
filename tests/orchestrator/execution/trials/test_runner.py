"""What becomes of jobs whose trials fail; without Ray."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import cloudpickle
from ray.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError

from orchestrator.execution import failures
from orchestrator.execution.environment import FULL_DISK
from orchestrator.execution.failures import Cause, JobFailure
from orchestrator.execution.features import passes as passes_module
from orchestrator.execution.job_steps import Settings, accumulation_factor, training_report
from orchestrator.execution.trials import runner as runner_module
from orchestrator.execution.trials.runner import Runner
from orchestrator.execution.trials.shared_causes import SharedCauses
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Job, Plan
from orchestrator.plan.room import Cluster
from orchestrator.scheduling.schedule import Schedule
from orchestrator.storage.lease import Lease, LeaseLostError, only_driver
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points
from tests.orchestrator.plan.demands import alike, one_node
from tests.orchestrator.waiting import wait_until

NODES = frozenset({"head", "node"})


class Sweep:
    """A runner without Ray, and the events that it reported."""

    def __init__(self, directory: Path, *overrides: str, lanes: int = 1) -> None:
        space = load_space("smoke", overrides)
        plan = Plan(space, operating_points(space), {}, Store(str(directory)))
        self.settings = Settings(space, str(directory), plan.jobs, {})
        self.schedule = Schedule(plan.jobs, alike(), one_node(lanes))
        self.events: list[JobEvent] = []
        self.runner = Runner(
            self.settings,
            self.schedule,
            self.events.append,
            lambda groups: self.schedule.cluster,
            lambda limit, running: None,
        )

    def start(self, trial_id: str) -> str:
        key = self.runner.next_trial(trial_id)
        assert key is not None
        return key

    def last(self, kind: str) -> JobEvent | None:
        return next((event for event in self.events[::-1] if event.kind == kind), None)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.setattr(runner_module, "node_ids", lambda: NODES)
    monkeypatch.setattr(failures, "node_ids", lambda: NODES)
    return Sweep(tmp_path)


def test_the_metrics_of_a_training_step_reach_the_listener_without_what_tune_adds(
    sweep: Sweep,
) -> None:
    key = sweep.start("a")
    report = training_report({"step": 3.0, "steps": 9.0, "loss": 0.5, "val_loss": 0.25})
    sweep.runner.trial_reported("a", {**report, "hostname": "node", "time_total_s": 7.0})
    event = sweep.last("progressed")
    assert event == JobEvent(
        "progressed",
        *(key, "", "train", 3, 9),
        metrics={"loss": 0.5, "val_loss": 0.25},
        host=socket.gethostname(),
    )


def test_tunes_thread_does_not_wait_for_the_cause_of_a_failure(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_dead = threading.Event()

    def look() -> frozenset[str]:
        return NODES - {"node"} if is_dead.is_set() else NODES

    monkeypatch.setattr(failures, "node_ids", look)
    key = sweep.start("first")
    sweep.runner.trial_failed("first", ActorUnavailableError("no answer", None))
    assert key in sweep.schedule.running
    assert sweep.last("retried") is None
    is_dead.set()
    event = wait_until(lambda: sweep.last("retried"), 30)
    assert event.reason.startswith(str(failures.Cause.MACHINE_LOST))
    sweep.runner.join()
    assert key not in sweep.schedule.running


def test_a_silent_process_costs_a_try_and_its_reason_is_what_it_waited_for(sweep: Sweep) -> None:
    kinds = []
    for trial in ("first", "second"):
        key = sweep.start(trial)
        line = f"no progress for 2 s: train step 3 of {trial}"
        sweep.settings.store.write(f"work/{key}/silent-{key}.txt", line.encode())
        sweep.runner.trial_failed(trial, ActorDiedError())
        sweep.runner.join()
        event = next(e for e in sweep.events[::-1] if e.key == key)
        assert event.reason.startswith(line)
        kinds.append(event.kind)
    assert kinds == ["retried", "failed"]


def fail(sweep: Sweep, trial: str, error: Exception) -> str:
    """Let the next job fail; returns its key."""
    key = sweep.start(trial)
    sweep.runner.trial_failed(trial, error)
    sweep.runner.join()
    return key


@pytest.fixture
def codecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Three base codecs are ready to be trained; a failure is not tried again."""
    monkeypatch.setattr(runner_module, "node_ids", lambda: NODES)
    monkeypatch.setattr(failures, "node_ids", lambda: NODES)
    overrides = ("resources.max_failures=0", "codecs.0.lambdas=[0.001, 0.002, 0.003]")
    sweep = Sweep(tmp_path, *overrides, lanes=9)
    for job in sweep.settings.jobs.values():
        if job.kind == "scenes":
            sweep.schedule.finish(job.key)
    return sweep


def kinds_of(sweep: Sweep, keys: Iterable[str]) -> set[str]:
    return {sweep.settings.jobs[key].kind for key in keys}


def test_one_cause_of_two_failures_stops_the_jobs_of_that_kind(codecs: Sweep) -> None:
    lacking = FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/tic_1.pth.tar")
    first = fail(codecs, "1", lacking)
    assert codecs.last("withdrawn") is None
    second = fail(codecs, "2", lacking)
    assert kinds_of(codecs, (first, second)) == {"codec"}
    event = codecs.last("withdrawn")
    assert event is not None
    assert "/data/tic_1.pth.tar" in event.reason
    third = {j.key for j in codecs.settings.jobs.values() if j.kind == "codec"} - {first, second}
    assert third <= set(event.others)
    assert {codecs.schedule.failed[key] for key in event.others} == {event.reason}
    # What reads no codec goes on.
    open_job = codecs.schedule.peek()
    assert open_job is not None
    assert open_job.kind != "codec"
    assert not codecs.schedule.over


def test_what_points_of_one_scenario_lack_stops_that_one_and_of_two_scenarios_all(
    tmp_path: Path,
) -> None:
    sweep = Sweep(tmp_path, "codecs.0.lambdas=[0.001, 0.002, 0.003]", lanes=9)
    schedule = sweep.schedule
    causes = SharedCauses(schedule)
    jobs = {job.label: job for job in sweep.settings.jobs.values()}
    for job in jobs.values():
        if job.subject.point is None:
            schedule.finish(job.key)

    def fail_of(label: str) -> set[str]:
        """Labels of the jobs that are withdrawn after this one failed."""
        job = jobs[f"hyperprior {label} seed=0"]
        schedule.give_up(job.key, "no module lpips")
        failure = JobFailure(Cause.ERROR, "no module lpips", "no module lpips")
        keys = causes.add(job, failure, 2)
        return {job.label.removeprefix("hyperprior ") for job in jobs.values() if job.key in keys}

    other = jobs["hyperprior reconstruction lambda=0.003 seed=0"]
    assert fail_of("post_processing lambda=0.001") == set()
    assert fail_of("post_processing lambda=0.002") == {"post_processing lambda=0.003 seed=0"}
    assert not causes.is_stopped(other, "no module lpips")
    left = fail_of("reconstruction lambda=0.001")
    assert {label.split()[0] for label in left} == {
        *("uncompressed", "reconstruction", "d1", "d2", "d3")
    }
    assert causes.is_stopped(other, "no module lpips")
    assert not causes.is_stopped(other, "no module other")


def test_no_job_starts_in_the_room_of_the_second_one_that_a_cause_has_ended(
    codecs: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune asks for the next job in another thread, as soon as there is room."""
    started: list[Job | None] = []
    give_up = codecs.schedule.give_up

    def give_up_and_fill(*arguments: Any) -> list[Job]:
        lost = give_up(*arguments)
        started.append(codecs.schedule.peek())
        return lost

    monkeypatch.setattr(codecs.schedule, "give_up", give_up_and_fill)
    lacking = FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/tic_1.pth.tar")
    for trial in ("1", "2"):
        fail(codecs, trial, lacking)
    first, second = started
    assert first is not None
    assert first.kind == "codec"
    assert second is not None
    assert second.kind != "codec"


def test_a_full_disk_stops_jobs_of_every_kind(codecs: Sweep) -> None:
    for trial in ("1", "2"):
        fail(codecs, trial, OSError(errno.ENOSPC, "No space left on device", f"tmp/{trial}"))
    assert codecs.schedule.over
    event = codecs.last("withdrawn")
    assert event is not None
    assert {"codec", "point", "features"} <= kinds_of(codecs, event.others)


def test_points_that_fail_for_themselves_stop_no_other(codecs: Sweep) -> None:
    for trial in ("1", "2"):
        fail(codecs, trial, RuntimeError("the loss is nan"))
    assert codecs.last("withdrawn") is None
    job = codecs.schedule.peek()
    assert job is not None
    assert job.kind == "codec"


def test_what_ran_out_of_memory_is_tried_once_with_half_the_memory(sweep: Sweep) -> None:
    key = fail(sweep, "first", torch.OutOfMemoryError("CUDA out of memory"))
    assert sweep.last("retried") is not None
    store, job = sweep.settings.store, sweep.settings.jobs[key]
    assert accumulation_factor(store, key) == 2
    assert fail(sweep, "second", torch.OutOfMemoryError("CUDA out of memory")) == key
    assert sweep.last("failed") is not None
    assert job.key in sweep.schedule.failed


def test_a_job_that_cannot_be_told_to_take_less_memory_fails_and_does_not_stay_running(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_pass(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def slice_more(*arguments: object) -> None:
        raise RuntimeError("the storage stays away")

    monkeypatch.setattr(passes_module, "run_pass", run_pass)
    monkeypatch.setattr(runner_module, "slice_more", slice_more)
    monkeypatch.setattr(runner_module, "patiently", lambda call: call())  # it is over
    for job in sweep.settings.jobs.values():
        if job.kind in ("scenes", "codec"):
            sweep.schedule.finish(job.key)
    trains = sweep.start("first")  # passes start beside it
    sweep.runner.join()
    assert set(sweep.schedule.running) == {trains}
    failed = wait_until(lambda: sweep.last("failed"), 10)
    assert "the storage stays away" in failed.reason


def test_a_job_is_done_although_the_view_that_is_told_so_breaks(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = sweep.start("first")

    def break_down(event: JobEvent) -> None:
        raise RuntimeError("a bug of the view")

    monkeypatch.setattr(sweep.runner, "_listener", break_down)
    monkeypatch.setattr(Store, "has", lambda store, stage: True)
    with pytest.raises(RuntimeError, match="a bug of the view"):
        sweep.runner.trial_completed("first")
    assert key not in sweep.schedule.running


def test_a_view_that_breaks_in_another_thread_makes_no_job_done_and_failed(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep would never be over."""
    key = sweep.start("first")
    shown = iter([False])

    def break_down(event: JobEvent) -> None:
        raise RuntimeError("a bug of the view")

    monkeypatch.setattr(sweep.runner, "_listener", break_down)
    monkeypatch.setattr(Store, "has", lambda store, stage: next(shown, True))
    sweep.runner.trial_completed("first")
    sweep.runner.join()
    assert key in sweep.schedule.done
    assert key not in sweep.schedule.failed


def test_a_view_that_breaks_when_a_job_is_tried_again_starts_it_once(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = sweep.start("first")
    started: list[str | None] = []

    def start_and_break_down(event: JobEvent) -> None:
        if event.kind == "retried":
            started.append(sweep.runner.next_trial("second"))  # as Tune's thread may at this moment
            raise RuntimeError("a bug of the view")

    monkeypatch.setattr(sweep.runner, "_listener", start_and_break_down)
    sweep.runner.trial_failed("first", OSError("away"))
    sweep.runner.join()
    started += [sweep.runner.next_trial(trial) for trial in ("third", "fourth")]
    assert started.count(key) == 1
    assert key not in sweep.schedule.failed, "it is tried for the second time"


def test_a_job_that_ends_while_the_storage_is_away_holds_up_no_other_and_is_tried_again(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_away(*arguments: object) -> bool:
        raise ConnectionError("the storage is away")

    waits = threading.Event()

    def wait_in_vain(ask: Callable[[], bool]) -> bool:
        assert threading.current_thread() is not threading.main_thread()
        waits.wait(30)
        return ask()

    key = sweep.start("first")
    monkeypatch.setattr(Store, "has", be_away)
    monkeypatch.setattr(runner_module, "patiently", wait_in_vain)
    sweep.runner.trial_completed("first")
    assert key in sweep.schedule.running
    waits.set()
    sweep.runner.join()
    event = sweep.last("retried")
    assert event is not None
    assert "the storage is away" in event.reason
    assert key not in sweep.schedule.running


def test_after_a_lost_machine_the_cluster_is_looked_at_before_anything_starts(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lanes seem to be free, and nobody could cancel what waits for one."""
    looks: list[int] = []

    def look(groups: object) -> Cluster:
        looks.append(len(sweep.schedule.running))
        return Cluster.of([])

    monkeypatch.setattr(sweep.runner, "_look", look)
    sweep.start("first")
    assert looks == []
    monkeypatch.setattr(failures, "node_ids", lambda: NODES - {"node"})
    sweep.runner.trial_failed("first", NodeDiedError("x"))
    sweep.runner.join()
    assert sweep.last("retried") is not None
    assert sweep.runner.next_trial("second") is None
    assert looks == [0]


def test_a_driver_that_lost_its_sweep_starts_nothing_more(
    tmp_path: Path, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lease: Lease) -> None:
        raise LeaseLostError("x")

    with only_driver(sweep.settings.store, "smoke") as lease:
        runner = Runner(
            sweep.settings,
            sweep.schedule,
            sweep.events.append,
            lambda lanes: sweep.schedule.capacity,
            lambda limit, running: None,
            lease,
        )
        monkeypatch.setattr(Lease, "check", refuse)
        with pytest.raises(LeaseLostError):
            runner.next_trial("first")
        monkeypatch.undo()
    assert sweep.events == []


def test_jobs_that_need_what_the_surroundings_failed_have_the_same_reason(codecs: Sweep) -> None:
    """So the summary lists them under one cause."""
    key = fail(codecs, "1", OSError(errno.ENOSPC, "No space left on device"))
    needing = [job.key for job in codecs.settings.jobs.values() if key in job.needs]
    assert needing
    assert {codecs.schedule.failed[need] for need in needing} == {FULL_DISK}


def test_a_full_disk_of_one_node_of_several_does_not_stop_the_others(
    codecs: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "node_ids", lambda: frozenset({"one", "two"}))

    def fail_on(host: str, trial: str) -> None:
        """A worker fails, wherever the process of its trial may be."""
        monkeypatch.setattr(failures.socket, "gethostname", lambda: host)
        with pytest.raises(OSError, match="No space") as raised, failures.host_noted():
            raise OSError(errno.ENOSPC, "No space left on device", "cache")
        monkeypatch.setattr(failures.socket, "gethostname", lambda: "trial")
        fail(codecs, trial, cloudpickle.loads(cloudpickle.dumps(raised.value)))

    fail_on("one", "first")
    fail_on("one", "second")
    assert codecs.last("withdrawn") is None
    fail_on("two", "third")
    assert codecs.last("withdrawn") is not None


def test_a_job_whose_end_cannot_be_examined_fails(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise RuntimeError("no answer")

    monkeypatch.setattr(runner_module, "original", refuse)
    key = sweep.start("first")
    sweep.runner.trial_failed("first", ActorDiedError())
    sweep.runner.join()
    assert "no answer" in sweep.schedule.failed[key]


def test_progress_names_the_machine_that_computes_not_the_one_of_the_trial(sweep: Sweep) -> None:
    sweep.start("a")
    report = training_report({"step": 3.0, "steps": 9.0, "loss": 0.5})
    sweep.runner.trial_reported("a", {**report, "hostname": "of the trial"})
    event = sweep.last("progressed")
    assert event is not None
    assert event.host == socket.gethostname()
    sweep.runner.trial_reported("a", {"phase": "waiting", "step": 0, "steps": 1, "hostname": "x"})
    event = sweep.last("progressed")
    assert event is not None
    assert event.host == ""
