"""The end of a sweep."""

import contextlib
import errno
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from orchestrator.driver import run as run_module
from orchestrator.driver.line_view import LineView
from orchestrator.driver.run import _run, _with_added, run
from orchestrator.driver.view import libraries_to
from orchestrator.monitoring.job_states import JobStates
from orchestrator.monitoring.monitor import Monitor
from orchestrator.monitoring.status import main
from orchestrator.monitoring.time_left import TimeLeft
from orchestrator.plan.jobs import Plan
from orchestrator.recording import report as report_module
from orchestrator.recording.point_log import PointLog
from orchestrator.recording.request import Request, SearchResult
from orchestrator.storage import outage
from orchestrator.storage.lease import Lease, LeaseLapsedError, LeaseLostError, only_driver
from orchestrator.storage.provenance import fingerprints
from orchestrator.storage.store import Store
from orchestrator.storage.sweep_requests import Inbox
from orchestrator.tracking.mlflow_client import AwayError
from orchestrator.tracking.mlflow_copy import MlflowCopy
from orchestrator.tracking.mlflow_runs import Tracker
from orchestrator.tracking.parent_run import ParentRun
from search_spaces import OperatingPoint, load_space, operating_points, point_stage
from tests.orchestrator.recording.test_point_log import commit, commit_point
from trainables.evaluation.finished_points import finished


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
        inbox = Inbox(store, "smoke", lease.number)
        assert not _run(request, plan, monitor, lease, inbox).missing
        monitor.finish(0)
    content = json.loads(store.read("smoke/sweep.json") or b"")
    assert {name: content[name] for name in names} == names
    said = capsys.readouterr().out
    assert "gone" in said
    assert "nothing has to be made: 0 operating points stored" in said


def test_a_storage_that_fails_while_mlflow_gets_the_report_is_only_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("SlowDown")

    def get(sources: list[str], targets: list[str]) -> None:
        if sources:  # none of a new database
            raise RuntimeError("SlowDown")

    monkeypatch.setattr(outage, "OUTAGE_S", 0.0)
    monkeypatch.setattr(MlflowCopy, "save", fail)
    store = Store(f"file://{tmp_path}/storage", cache=tmp_path / "cache", remote=True)
    monkeypatch.setattr(store.fs, "get", get)
    request = Request(load_space("smoke"), (), store, "smoke", None, False, 0.0, "the command")
    assert run(request)
    out = capsys.readouterr().out
    assert "the same command logs the report again" in out
    assert "the same command copies its database again" in out
    assert "mlflow ui --backend-store-uri" in out


@pytest.mark.parametrize("has_best", [True, False])
def test_the_status_and_the_notification_wait_for_the_end_of_the_search(
    tmp_path: Path, empty_database: Path, capsys: pytest.CaptureFixture[str], has_best: bool
) -> None:
    shutil.copy(empty_database, tmp_path)
    store, told = Store(str(tmp_path)), tmp_path / "told"
    command = f'echo "$BRIDGESWEEP_EVENT" >> {told}'
    request = Request(
        load_space("smoke"), (), store, "smoke", None, False, 0.0, "the command", notify=command
    )

    def search(request: Request, monitor: Monitor) -> SearchResult:
        monitor.note("search: trial 1 of 2")
        monitor.write_status()
        with contextlib.redirect_stdout(io.StringIO()) as status:
            assert main(["smoke", "--storage", store.uri]) == 0
        assert "running (process" in status.getvalue()
        assert "  search: trial 1 of 2" in status.getvalue()
        assert not told.exists()
        return SearchResult(has_best, "what was found")

    assert run(request, search) is has_best
    assert capsys.readouterr().out.endswith("what was found\n")
    end = "complete" if has_best else "incomplete"
    assert told.read_text().split() == [end]
    assert main(["smoke", "--storage", store.uri]) == 0
    status_after = capsys.readouterr().out
    assert status_after.splitlines()[1].partition(":")[0] == end
    assert "writing the report" not in status_after


def test_a_space_that_takes_the_place_of_another_one_says_so(
    tmp_path: Path, empty_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(empty_database, tmp_path)
    store = Store(str(tmp_path))
    for space, is_said in (("smoke", False), ("smoke", False), ("demo", True), ("demo", False)):
        request = Request(load_space(space), (), store, "mine", None, False, 0.0, "the command")
        assert run(request, None)
        said = "mine was a sweep of the space smoke: " in capsys.readouterr().out
        assert said is is_said


def test_what_a_killed_driver_left_is_no_artifact(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path)
    store = Store(str(tmp_path))
    for name in ("points.csv.0123456789abcdef0123456789abcdef.tmp", "plots/rate.png"):
        store.write(f"smoke/{name}", b"content")
    assert run(Request(load_space("smoke"), (), store, "smoke", None, False, 0.0, "the command"))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (parent,) = client.search_runs(["1"])
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert artifacts == {"sweep.json", "stages.json", "plots"}


def test_what_was_left_out_is_shown_in_summary_status_and_report(
    tmp_path: Path, empty_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(empty_database, tmp_path)
    store, space = Store(str(tmp_path)), load_space("smoke", ["tasks=[vqa]"])
    plan = Plan(space, operating_points(space), fingerprints(space), store)
    (point,) = [point for point in plan.points if point.scenario == "uncompressed"]
    refused = [{"image_id": f"image-{n}", "reason": "cut"} for n in range(2)]
    unanswered = [{"sample_id": "a-0", "reason": "out of memory"}]
    commit_point(store, plan, point, lost={"undecodable": refused, "failed": unanswered})
    images = plan.stages.test_images().path
    out = store.new(images)
    (out / "unreadable.json").write_text("[]")
    store.commit(images, out, {"images": 97, "unreadable": 3})
    assert run(Request(space, (point,), store, "smoke", None, False, 0.0, "the command"))
    lines = [
        f"{space.data.label}: 3 of 100 test images are unreadable ({images}/unreadable.json)",
        f"{point.label}: 2 streams of test images do not decode, 1 samples have no answer",
    ]
    assert json.loads(store.read("smoke/sweep.json") or b"")["skipped"] == lines
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if line.startswith("left out: ")] == [
        f"left out: {line}" for line in lines
    ]
    assert main(["smoke", "--storage", store.uri]) == 0
    status = capsys.readouterr().out
    report = (store.read("smoke/report.html") or b"").decode()
    for line in lines:
        assert f"  left out: {line}" in status
        assert line in report


@pytest.mark.parametrize("kind", ["training", "evaluation"])
@pytest.mark.parametrize(
    "damage",
    ["samples.parquet is empty", "a number is changed", "its manifest is cut", "it fits, but []"],
)
def test_a_point_of_which_a_stage_is_damaged_is_missing_and_the_rest_is_reported(
    tmp_path: Path,
    empty_database: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    damage: str,
) -> None:
    shutil.copy(empty_database, tmp_path)
    settings = ["tasks=[vqa]", "scenarios=[]", "baselines=[uncompressed, reconstruction]"]
    store, space = Store(str(tmp_path)), load_space("smoke", settings)
    plan = Plan(space, operating_points(space), fingerprints(space), store)
    intact, damaged = plan.points[:2]
    for point in (intact, damaged):
        commit_point(store, plan, point)
    stages = {"evaluation": plan.evaluations(damaged)[0][1].path}
    stages["training"] = point_stage(plan.stages, damaged).path
    directory = tmp_path / stages[kind]
    changed = "curve.jsonl" if kind == "training" else "summary.json"
    if damage == "samples.parquet is empty":
        (directory / ("info.json" if kind == "training" else "samples.parquet")).write_text("")
    elif damage == "a number is changed":
        text = (directory / changed).read_text()
        (directory / changed).write_text(text.replace("0.5", "9.5").replace("1.5", "9.5"))
        assert (directory / changed).read_text() != text
    elif damage == "its manifest is cut":
        content = (directory / "manifest.json").read_bytes()
        (directory / "manifest.json").write_bytes(content[: len(content) // 2])
    else:
        store.remove_tree(stages[kind])
        names = ("info.json", "summary.json", "curve.jsonl")
        commit(store, stages[kind], dict.fromkeys(names, "[]") | {"samples.parquet": "[]"})
    request = Request(space, (intact, damaged), store, "smoke", None, False, 0.0, "the command")
    assert not run(request), "exit code 1"
    shown = capsys.readouterr()
    assert "1 of 2 points are missing" in shown.err
    (line,) = [line for line in shown.err.splitlines() if "damaged: " in line]
    assert "delete" in line
    assert f"{store.uri}/{stages[kind]}" in line
    rows = pd.read_parquet(tmp_path / "smoke" / "points.parquet")
    assert set(rows["point_key"]) == {plan.key(intact)}
    assert set(rows["bpp"]) == {0.5}
    (absent,) = json.loads(store.read("smoke/sweep.json") or b"")["missing"]
    assert absent["point_key"] == plan.key(damaged)
    assert stages[kind] in absent["reason"]
    assert main(["smoke", "--storage", store.uri]) == 0
    assert "damaged: " in capsys.readouterr().out
    # The way that the message names.
    store.remove_tree(stages[kind])
    assert not store.has(stages[kind])
    commit_point(store, plan, damaged)
    assert run(request)
    assert len(set(pd.read_parquet(tmp_path / "smoke" / "points.parquet")["point_key"])) == 2


def test_points_that_share_a_training_have_rows_and_runs_of_their_measurements(
    tmp_path: Path, empty_database: Path
) -> None:
    shutil.copy(empty_database, tmp_path)
    settings = ["tasks=[vqa]", "scenarios=[]", "baselines=[uncompressed]"]
    variants = "variants={plain: {}, double: {surrogate.double_norm: true}}"
    store, space = Store(str(tmp_path)), load_space("smoke", [*settings, variants])
    points = operating_points(space)
    plan = Plan(space, points, fingerprints(space), store)
    for point in points:
        commit_point(store, plan, point)
    assert run(Request(space, points, store, "smoke", None, False, 0.0, "the command"))
    rows = pd.read_parquet(tmp_path / "smoke" / "points.parquet")
    keys = [plan.key(point) for point in points]
    assert [*zip(rows["point_key"], rows["variant"], strict=True)] == [
        (keys[0], "plain"),
        (keys[1], "double"),
    ]
    children = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(
        ["1"], "tags.`bridgesweep.kind` = 'point'"
    )
    assert {
        (run.data.tags["bridgesweep.point_key"], run.data.tags["bridgesweep.status"])
        for run in children
    } == {(key, "complete") for key in keys}
    found = list(finished(tmp_path / "smoke", {}))
    assert [(point.key, point.point.variant) for point in found] == list(
        zip(keys, ("plain", "double"), strict=True)
    )
    assert len({point.point_dir for point in found}) == 1


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
    theirs = "python -m orchestrator.sweep smoke; python -m orchestrator.sweep larger.yaml"
    content = {"space": large.model_dump(mode="json"), "command": theirs}
    inbox.keep_added({**content, "points": points, "added": points})
    larger, line = _with_added(request, inbox)
    assert (larger.space, larger.command) == (large, theirs)
    assert set(larger.points) == set(operating_points(large))
    assert f"{len(points) - 1} operating points taken over" in line
    assert "added by" not in line, "the sweep's own command is one of them"
    assert line.endswith(f"the command that continues all: {theirs}")
    other = replace(request, space=load_space("smoke", ["d1.steps=9"]))
    same, line = _with_added(replace(other, points=operating_points(other.space)), inbox)
    assert same.space == other.space
    assert "not taken over" in line
    assert theirs in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_log_on_a_full_disk_stops_nobody_who_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr("orchestrator.driver.view.os.open", lambda *arguments: full)
    with libraries_to(tmp_path / "driver.log"):
        print("what a library says", flush=True)


def test_a_log_that_is_a_link_changes_no_file_elsewhere(tmp_path: Path) -> None:
    log, elsewhere = tmp_path / "driver.log", tmp_path / "profile"
    elsewhere.write_text("mine")
    log.symlink_to(elsewhere)
    with libraries_to(log):
        print("what a library says", flush=True)
    assert elsewhere.read_text() == "mine"
    assert "what a library says" in log.read_text()


def test_the_log_of_a_driver_has_the_error_that_ended_it(tmp_path: Path) -> None:
    log = tmp_path / "driver.log"
    with pytest.raises(RuntimeError), libraries_to(log):
        raise RuntimeError("no answer of s3://me:hunter2@bucket")
    text = log.read_text()
    assert "Traceback" in text
    assert "RuntimeError: no answer of s3://***@bucket" in text


def test_a_log_that_is_a_pipe_is_replaced(tmp_path: Path) -> None:
    log = tmp_path / "driver.log"
    os.mkfifo(log)
    with libraries_to(log):
        print("what a library says", flush=True)
    assert "what a library says" in log.read_text()


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


def test_a_driver_whose_storage_stays_away_says_so_and_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def give_up(lease: Lease) -> None:
        raise LeaseLapsedError("the storage has not taken the lease of sweep-smoke for 685 s")

    monkeypatch.setattr(Lease, "check", give_up)
    request = Request(load_space("smoke"), (), Store(str(tmp_path)), "smoke", None, True, 0.0, "it")
    assert not run(request)
    said = capfd.readouterr().err
    assert "the storage has not taken the lease" in said
    assert "the same command continues:\n  it" in said
    assert "another driver" not in said


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
    assert "mlflow ui --backend-store-uri" in capsys.readouterr().out
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
    monkeypatch.setattr("orchestrator.recording.report.write_sweep", write)
    monkeypatch.setattr("orchestrator.recording.report._sliced", lambda *arguments: ())
    monkeypatch.setattr("orchestrator.recording.report.skipped", lambda *arguments: [])
    monkeypatch.setattr("analysis.report.build.write_report", fail)
    request = Request(space, (), store, "smoke", None, False, 0.0, "the command")
    with pytest.raises(RuntimeError, match="no glyph"):
        run(request)
    assert "mlflow ui --backend-store-uri" in capsys.readouterr().out
    (parent,) = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert parent.info.status == "FINISHED"
