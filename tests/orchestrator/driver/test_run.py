"""The end of a sweep."""

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator.driver import report as report_module
from orchestrator.driver import run as run_module
from orchestrator.driver.line_view import LineView
from orchestrator.driver.point_log import PointLog
from orchestrator.driver.request import Request
from orchestrator.driver.run import _run, _with_added, run
from orchestrator.driver.view import libraries_to
from orchestrator.monitoring.job_states import JobStates
from orchestrator.monitoring.monitor import Monitor
from orchestrator.monitoring.time_left import TimeLeft
from orchestrator.plan.jobs import Plan
from orchestrator.storage.lease import Lease, LeaseLostError, only_driver
from orchestrator.storage.store import Store
from orchestrator.storage.sweep_requests import Inbox
from orchestrator.tracking.mlflow_client import AwayError
from orchestrator.tracking.mlflow_runs import Tracker
from orchestrator.tracking.parent_run import ParentRun
from search_spaces import OperatingPoint, load_space, operating_points


def line_monitor(plan: Plan, store: Store, lease: Lease) -> Monitor:
    """A monitor that prints lines."""
    states = JobStates()
    left = TimeLeft(states)
    view = LineView(states, left)
    return Monitor(plan, store, "smoke", "the command", view, states, left, lease)


@pytest.mark.parametrize("call", [(Tracker, "mark_stale"), (ParentRun, "finish")])
def test_a_server_that_goes_away_at_the_end_is_only_noted(
    call: tuple[type, str],
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def raise_away(*arguments: object) -> None:
        raise AwayError("gone")

    shutil.copy(empty_database, tmp_path)
    monkeypatch.setattr(*call, raise_away)
    space, store = load_space("smoke"), Store(str(tmp_path))
    names = {"experiment": "compression", "owner": "ada"}
    request = Request(space, (), store, "smoke", None, False, 0.0, "the command", **names)
    plan = Plan(space, (), {}, store)
    with only_driver(store, "smoke") as lease, line_monitor(plan, store, lease) as monitor:
        assert not _run(request, plan, monitor, lease).missing
        monitor.finish(0)
    content = json.loads(store.read("smoke/sweep.json") or b"")
    assert {name: content[name] for name in names} == names
    assert "gone" in capsys.readouterr().out


def test_a_full_disk_is_one_line_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "points.parquet")

    monkeypatch.setattr(report_module, "write_sweep", refuse)
    space, store = load_space("smoke"), Store(str(tmp_path))
    request = Request(space, (), store, "smoke", None, True, 0.0, "the command")
    assert not run(request)
    err = capfd.readouterr().err
    assert "the disk is full" in err
    assert "points.parquet" in err
    assert "the command" in err
    assert "Traceback" not in err


def test_what_was_added_to_a_driver_that_died_is_taken_over(tmp_path: Path) -> None:
    small, large = (load_space("smoke", [f"seeds={seeds}"]) for seeds in ("[0]", "[0, 1]"))
    store = Store(str(tmp_path))
    request = Request(
        small, operating_points(small)[:1], store, "smoke", None, False, 0.0, "the command"
    )
    inbox = Inbox(store, "smoke", 2)
    assert _with_added(request, inbox) == (request, "")
    points = [point.fields for point in operating_points(large)]
    added = {"space": large.model_dump(mode="json"), "points": points, "command": "the larger"}
    inbox.keep_added(added)
    larger, line = _with_added(request, inbox)
    assert (larger.space, larger.command) == (large, "the larger")
    assert set(larger.points) == set(operating_points(large))
    assert f"{len(points) - 1} operating points taken over" in line
    other = replace(request, space=load_space("smoke", ["d1.steps=9"]))
    same, line = _with_added(replace(other, points=operating_points(other.space)), inbox)
    assert same.space == other.space
    assert "not taken over" in line
    assert "the larger" in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_log_on_a_full_disk_stops_nobody_who_prints(tmp_path: Path) -> None:
    log = tmp_path / "driver.log"
    log.symlink_to("/dev/full")
    with libraries_to(log):
        print("what a library says", flush=True)


def test_a_driver_whose_sweep_was_taken_stops_with_a_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(lease: Lease) -> None:
        raise LeaseLostError("the lease of sweep-smoke is lost")

    monkeypatch.setattr(Lease, "check", refuse)
    space, store = load_space("smoke"), Store(str(tmp_path))
    request = Request(space, (), store, "smoke", None, True, 0.0, "the command")
    assert not run(request)
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert "another driver" in line
    assert store.read("smoke/sweep.json") is None


def test_a_clean_up_that_fails_is_logged_and_the_summary_follows(
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError("AccessDenied: s3:DeleteObject")

    shutil.copy(empty_database, tmp_path)
    monkeypatch.setattr(run_module, "remove_work_of", refuse)
    store = Store(str(tmp_path))
    request = Request(load_space("smoke"), (), store, "smoke", None, False, 0.0, "the command")
    assert run(request)
    assert "MLflow  mlflow ui" in capsys.readouterr().out
    assert "AccessDenied: s3:DeleteObject" in caplog.text


def test_a_report_that_fails_costs_neither_the_summary_nor_the_end_in_mlflow(
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(empty_database, tmp_path)
    space, store = load_space("smoke"), Store(str(tmp_path))
    points = operating_points(space)

    def fail(directory: str) -> None:
        raise RuntimeError("no glyph")

    def write(plan: Plan, store: Store, name: str, *rest: object) -> str:
        store.write(f"{name}/sweep.json", b"{}")
        return f"{store.uri}/{name}"

    def complete_points(plan: Plan) -> tuple[OperatingPoint, ...]:
        return points[:1]

    monkeypatch.setattr(Plan, "complete_points", complete_points)
    monkeypatch.setattr(PointLog, "add", lambda log, point: None)
    monkeypatch.setattr(PointLog, "measured", lambda log, point: None)
    monkeypatch.setattr("orchestrator.driver.report.write_sweep", write)
    monkeypatch.setattr("orchestrator.driver.report._sliced", lambda *arguments: ())
    monkeypatch.setattr("analysis.report.build.write_report", fail)
    request = Request(space, (), store, "smoke", None, False, 0.0, "the command")
    with pytest.raises(RuntimeError, match="no glyph"):
        run(request)
    assert "MLflow  mlflow ui" in capsys.readouterr().out
    (parent,) = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert parent.info.status == "FINISHED"
