"""The recorder in a process of its own: what it records, and what ends it."""

import errno
import logging
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import Pipe
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from orchestrator.execution.environment import is_disk_full
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Job, Plan
from orchestrator.recording import recorder_child, recorder_process
from orchestrator.recording.growing_points import SweepLease
from orchestrator.recording.recorder_child import DriverLink, _log_without_secrets, _portable
from orchestrator.recording.recorder_process import (
    MODULE,
    MOST_STARTS,
    RecorderLostError,
    RecorderProcess,
)
from orchestrator.recording.request import JobResults, Request
from orchestrator.storage.provenance import fingerprints
from orchestrator.storage.store import Store
from search_spaces import OperatingPoint, load_space, operating_points
from tests.orchestrator.recording.test_growing_points import Lease
from tests.orchestrator.recording.test_point_log import METRICS, commit_point, runs
from tests.orchestrator.recording.test_recorder import HELD
from tests.orchestrator.waiting import wait_until

soon = partial(wait_until, timeout=60.0)
SETTINGS = ["tasks=[vqa]", "scenarios=[]"]


@pytest.fixture
def plan(store: Store) -> Plan:
    space = load_space("smoke", SETTINGS)
    return Plan(space, operating_points(space), fingerprints(space), store)


def request_of(plan: Plan, store: Store) -> Request:
    return Request(plan.space, plan.points, store, "smoke", None, False, 0.0, "the command")


@contextmanager
def recorded(
    plan: Plan, store: Store, lease: SweepLease = HELD
) -> Iterator[tuple[RecorderProcess, list[str]]]:
    notes: list[str] = []
    with RecorderProcess(request_of(plan, store), plan, notes.append, lease) as recorder:
        yield recorder, notes


def child() -> psutil.Process:
    """The process that records."""
    (found,) = (
        process
        for process in psutil.Process().children()
        if process.status() != psutil.STATUS_ZOMBIE and MODULE in process.cmdline()
    )
    return found


def job_of(plan: Plan, point: OperatingPoint) -> Job:
    return plan.jobs[plan.key(point)]


def finish(plan: Plan, store: Store, recorder: RecorderProcess, point: OperatingPoint) -> None:
    """Let a point's job finish, as the driver does."""
    commit_point(store, plan, point)
    job = job_of(plan, point)
    plan.job_done(job.key)
    recorder.listen(JobEvent("finished", job.key))


def written(tmp_path: Path) -> set[str]:
    """The points that the points file has."""
    file = tmp_path / "smoke" / "points.csv"
    return set(pd.read_csv(file)["point_key"]) if file.exists() else set()


def statuses(tmp_path: Path) -> dict[str, str | None]:
    return {key: run.data.tags.get("bridgesweep.status") for key, run in runs(tmp_path).items()}


def complete_points(tmp_path: Path) -> int:
    return list(statuses(tmp_path).values()).count("complete")


def test_a_sweep_is_recorded_from_its_first_step_to_its_report(
    tmp_path: Path, store: Store, plan: Plan
) -> None:
    first, second, *others = plan.points
    with recorded(plan, store) as (recorder, notes):
        recorder.listen(JobEvent("started", job_of(plan, first).key))
        step = JobEvent("progressed", job_of(plan, first).key, step=1, steps=8, metrics=METRICS)
        recorder.listen(step)
        soon(lambda: statuses(tmp_path).get(plan.key(first)) == "running")
        finish(plan, store, recorder, first)
        soon(lambda: written(tmp_path) == {plan.key(first)})
        recorder.listen(JobEvent("failed", job_of(plan, second).key, "it diverged"))
        for point in others:
            finish(plan, store, recorder, point)
        done = frozenset(job_of(plan, point).key for point in (first, *others))
        outcome = recorder.report(JobResults(done, lanes=2), {})
    assert not notes
    assert outcome.error is None
    assert outcome.report is not None
    assert Path(outcome.report.html).exists()
    assert outcome.timing["lanes"] == 2
    assert written(tmp_path) == {plan.key(point) for point in (first, *others)}
    found = statuses(tmp_path)
    assert found[plan.key(first)] == "complete"
    assert found[plan.key(second)] == "failed"
    loss = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_metric_history(
        runs(tmp_path)[plan.key(first)].info.run_id, "train/loss"
    )
    # The history is by time, and this training took no time.
    assert sorted(row.step for row in loss) == list(range(1, 9))


def test_points_of_a_sweep_that_grew_are_recorded(tmp_path: Path, store: Store, plan: Plan) -> None:
    small = Plan(plan.space, plan.points[:1], plan.fingerprints, store)
    commit_point(store, small, plan.points[1])
    larger = Plan(plan.space, plan.points, plan.fingerprints, store)
    with recorded(small, store) as (recorder, _):
        small.grow(larger, small.jobs_added_by(larger))
        recorder.grow()
        recorder.add_complete(plan.key(plan.points[1]))
        finish(small, store, recorder, plan.points[2])
        keys = {plan.key(point) for point in plan.points[1:3]}
        soon(lambda: written(tmp_path) == keys)
        soon(lambda: keys <= statuses(tmp_path).keys())
        total = runs(tmp_path)["sweep"].data.metrics
        assert total["points_total"] == len(plan.points)


def test_a_recorder_that_the_system_kills_is_replaced_and_nothing_is_lost(
    tmp_path: Path, store: Store, plan: Plan
) -> None:
    first, second, *_ = plan.points
    with recorded(plan, store) as (recorder, notes):
        finish(plan, store, recorder, first)
        soon(lambda: written(tmp_path) == {plan.key(first)})
        killed = child()
        killed.kill()
        soon(lambda: not killed.is_running() or killed.status() == psutil.STATUS_ZOMBIE)
        soon(lambda: recorder._child.how_it_ended is not None)
        finish(plan, store, recorder, second)
        keys = {plan.key(first), plan.key(second)}
        soon(lambda: written(tmp_path) == keys)
        outcome = recorder.report(JobResults(), {})
    assert notes == [
        "the process that records this sweep ended (SIGKILL); another one goes on",
    ]
    assert outcome.report is not None
    assert {key for key, status in statuses(tmp_path).items() if status == "complete"} == keys | {
        "sweep"
    }


def test_a_recorder_that_is_killed_while_it_reports_reports_again(
    tmp_path: Path, store: Store, plan: Plan
) -> None:
    with recorded(plan, store) as (recorder, notes):
        finish(plan, store, recorder, plan.points[0])
        soon(lambda: written(tmp_path) == {plan.key(plan.points[0])})
        killed = child()
        killed.suspend()  # it is asked, and does not answer
        timer = threading.Timer(2.0, killed.kill)
        timer.start()
        outcome = recorder.report(JobResults(), {})
        timer.join()
    assert outcome.report is not None
    (note,) = notes
    assert "another one goes on" in note


def test_another_recorder_hears_of_jobs_of_which_the_storage_has_nothing(
    tmp_path: Path, store: Store, plan: Plan
) -> None:
    first, second, third, fourth, *_ = plan.points
    with recorded(plan, store) as (recorder, _):
        killed = child()
        killed.suspend()  # it has heard of nothing
        again = job_of(plan, fourth).key
        recorder.listen(JobEvent("cancelled", again))
        recorder.listen(JobEvent("progressed", again, step=1, steps=8, metrics=METRICS))
        recorder.listen(JobEvent("failed", job_of(plan, first).key, "it diverged"))
        recorder.listen(JobEvent("cancelled", job_of(plan, second).key))
        recorder.listen(JobEvent("failed", job_of(plan, third).key, "was lent to others"))
        finish(plan, store, recorder, third)
        killed.kill()
        soon(lambda: recorder._child.how_it_ended is not None)
        outcome = recorder.report(JobResults(), {})
    assert outcome.error is None
    found = runs(tmp_path)
    assert found[plan.key(first)].data.tags["bridgesweep.reason"] == "it diverged"
    assert statuses(tmp_path)[plan.key(first)] == "failed"
    assert statuses(tmp_path)[plan.key(second)] == "cancelled"
    assert statuses(tmp_path)[plan.key(third)] == "complete"
    assert statuses(tmp_path).get(plan.key(fourth)) != "cancelled"


def test_an_error_of_a_message_is_told_with_the_outcome(store: Store, plan: Plan) -> None:
    with recorded(plan, store) as (recorder, _):
        recorder.listen(JobEvent("finished", "no such job"))
        finish(plan, store, recorder, plan.points[0])
        outcome = recorder.report(JobResults(), {})
    assert isinstance(outcome.error, KeyError)
    assert "no such job" in str(outcome.error)
    assert outcome.report is not None


def test_a_terminal_that_is_gone_costs_no_recorder(
    tmp_path: Path, store: Store, plan: Plan
) -> None:
    lines: list[str] = []

    def note(line: str) -> None:
        lines.append(line)
        raise BrokenPipeError

    with RecorderProcess(request_of(plan, store), plan, note, HELD) as recorder:
        recorder._child._take("note", "a line")
        finish(plan, store, recorder, plan.points[0])
        outcome = recorder.report(JobResults(), {})
        assert recorder._child.how_it_ended is None
    assert lines == ["a line"]
    assert outcome.report is not None


@pytest.fixture
def restored_logging() -> Iterator[None]:
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers


def test_no_secret_stands_in_what_it_logs(
    restored_logging: None, capsys: pytest.CaptureFixture[str]
) -> None:
    _log_without_secrets()
    try:
        raise OSError("no answer of https://ada:pass-of-ada@mlflow.example")
    except OSError:
        logging.getLogger("orchestrator.recording.recorder_child").exception("the recorder")
    said = capsys.readouterr().err
    assert "no answer of https://" in said
    assert "pass-of-ada" not in said


def test_a_driver_that_does_not_answer_has_lost_the_lease_and_late_answers_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder_child, "ANSWER_S", 0.2)
    mine, theirs = Pipe()
    with mine, theirs:
        link = DriverLink(mine)
        assert (link.is_lost, link.is_taken) == (True, False)
        link.put_lease(False, True)  # of the questions before
        assert link.is_lost
        answer = threading.Timer(0.05, link.put_lease, (False, True))
        monkeypatch.setattr(recorder_child, "ANSWER_S", 30.0)
        answer.start()
        assert link.is_taken
        answer.join()


def test_a_signal_without_a_name_ends_a_recorder_like_any_other(store: Store, plan: Plan) -> None:
    with recorded(plan, store) as (recorder, notes):
        child().send_signal(signal.SIGRTMIN + 6)
        soon(lambda: recorder._child.how_it_ended is not None)
        finish(plan, store, recorder, plan.points[0])
        outcome = recorder.report(JobResults(), {})
    assert outcome.report is not None
    (note,) = notes
    assert f"(signal {signal.SIGRTMIN + 6})" in note


def interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def test_who_is_stopped_while_it_reports_does_not_wait(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_process, "END_S", 600.0)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with recorded(plan, store) as (recorder, _):
            stuck = child()
            stuck.suspend()
            signal.alarm(2)
            with pytest.raises(KeyboardInterrupt):
                recorder.report(JobResults(), {})
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert is_over(stuck)


def test_recorders_that_end_again_and_again_end_the_sweep_with_a_line(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_process, "MODULE", "tests.no_such_module")
    with recorded(plan, store) as (recorder, notes):
        with pytest.raises(RecorderLostError, match=r"ended 3 times, the last time with exit code"):
            recorder.report(JobResults(), {})
        recorder.listen(JobEvent("finished", next(iter(plan.jobs))))  # nobody is there
    *replaced, lost = notes
    assert len(replaced) == MOST_STARTS - 1
    assert "MLflow, the points file and the report wait for the next run of the same" in lost


def test_whoever_lost_the_lease_writes_no_points(tmp_path: Path, store: Store, plan: Plan) -> None:
    lease = Lease(is_taken=False, is_lost=True)
    with recorded(plan, store, lease) as (recorder, _):
        finish(plan, store, recorder, plan.points[0])
        soon(lambda: lease.was_asked)
        soon(lambda: statuses(tmp_path).get(plan.key(plan.points[0])) == "complete")
        assert written(tmp_path) == set()
        lease.doubt = False
        soon(lambda: written(tmp_path) == {plan.key(plan.points[0])})


def test_signals_of_a_terminal_do_not_end_it(tmp_path: Path, store: Store, plan: Plan) -> None:
    with recorded(plan, store) as (recorder, notes):
        finish(plan, store, recorder, plan.points[0])
        soon(lambda: written(tmp_path) == {plan.key(plan.points[0])})
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            child().send_signal(number)
        finish(plan, store, recorder, plan.points[1])
        outcome = recorder.report(JobResults(), {})
    assert outcome.report is not None
    assert not notes


DRIVER = """
import sys, time
from pathlib import Path
from orchestrator.plan.jobs import Plan
from orchestrator.recording.recorder_process import RecorderProcess
from orchestrator.storage.provenance import fingerprints
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points
from tests.orchestrator.recording import test_recorder_process as module

store, space = Store(sys.argv[1]), load_space("smoke", module.SETTINGS)
plan = Plan(space, operating_points(space), fingerprints(space), store)
with RecorderProcess(module.request_of(plan, store), plan, print, module.HELD) as recorder:
    module.finish(plan, store, recorder, plan.points[0])
    while not Path(sys.argv[1], "go").exists():
        time.sleep(0.1)
    module.finish(plan, store, recorder, plan.points[1])
    Path(sys.argv[1], "sent").touch()
    time.sleep(600)
"""


@contextmanager
def driver_of(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """A driver that has recorded a point, and its recorder."""
    with subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)]) as driver:
        try:
            soon(lambda: len(written(tmp_path)) == 1)
            (recorder,) = psutil.Process(driver.pid).children()
            yield driver, recorder
        finally:
            driver.send_signal(signal.SIGCONT)
            driver.kill()


def is_over(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_recorder_ends_with_a_driver_that_is_killed(tmp_path: Path, store: Store) -> None:
    with driver_of(tmp_path) as (driver, recorder):
        driver.kill()
        soon(lambda: is_over(recorder))


def test_while_its_driver_is_stopped_a_recorder_writes_nothing(
    tmp_path: Path, store: Store
) -> None:
    """Another driver may have taken the sweep over when the stopped one wakes."""
    with driver_of(tmp_path) as (driver, recorder):
        soon(lambda: complete_points(tmp_path) == 1)
        recorder.suspend()
        (tmp_path / "go").touch()
        soon((tmp_path / "sent").exists)
        driver.send_signal(signal.SIGSTOP)
        # On a busy machine it runs on for a while.
        soon(lambda: psutil.Process(driver.pid).status() == psutil.STATUS_STOPPED)
        recorder.resume()
        end = time.monotonic() + 15.0
        while time.monotonic() < end:
            assert (complete_points(tmp_path), len(written(tmp_path))) == (1, 1)
            time.sleep(0.2)
        driver.send_signal(signal.SIGCONT)
        soon(lambda: len(written(tmp_path)) == 2)
        soon(lambda: complete_points(tmp_path) == 2)


class UnreadError(Exception):
    """An error that pickle cannot make again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", "points.parquet")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (full_disk, OSError, "points.parquet"),
        (lambda: caused(RuntimeError("no table"), full_disk()), OSError, "no table"),
        (lambda: UnreadError("this", "that"), RuntimeError, "UnreadError: this and that"),
        (lambda: KeyError("a"), KeyError, "a"),
    ],
)
def test_an_error_means_the_same_to_the_driver(
    make: Callable[[], Exception], kind: type[Exception], text: str
) -> None:
    error = make()
    sent = pickle.loads(pickle.dumps(_portable(error)))
    assert type(sent) is kind
    assert text in str(sent)
    assert is_disk_full(sent) == is_disk_full(error)
