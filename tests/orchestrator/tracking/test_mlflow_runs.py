import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pyarrow as pa
import pytest
from mlflow import MlflowClient

from orchestrator.storage.store import Store
from orchestrator.tracking import log_queue
from orchestrator.tracking.curves import CurveRow
from orchestrator.tracking.log_queue import LogQueue
from orchestrator.tracking.measured import Measured
from orchestrator.tracking.mlflow_client import (
    AwayError,
    Client,
    answering,
    open_command,
    page_address,
    take_login,
)
from orchestrator.tracking.mlflow_runs import Tracker
from orchestrator.tracking.open_tracker import default_uri
from orchestrator.tracking.run_content import RunSubject, point_subject
from orchestrator.tracking.sweep_identity import EXPERIMENT
from search_spaces import OperatingPoint
from tests.orchestrator.tracking.trackers import identity, manifest, open_tracker, row, uri

PAGE = Path(__file__).parents[3] / "docs" / "demo.png"


def point(key: str = "k1", value: float = 0.5) -> Measured:
    measured = row(
        point_key=key,
        codec="elic",
        lmbda=0.01,
        scenario="d1",
        seed=0,
        mllm="m",
        task="rec",
        dataset="scenes",
        metric="accuracy@0.5",
        value=value,
        value_low=value - 0.1,
        bpp=0.25,
        bpp_estimated=0.24,
        distill_tokens=0.5,
    )
    other = {**measured, "task": "vqa", "metric": "accuracy", "bpp": 0.35}
    return Measured(
        key,
        OperatingPoint(None, None, "d1", 0),
        {
            "codec": "elic",
            "scenario": "d1",
            "seed": 0,
            "dataset": "scenes",
            "train": {"lr": 0.1},
            "mllms": ["m"],
            "tasks": ["rec"],
        },
        [measured, other],
        lambda: pa.table({"point_key": [key], "value": [value]}),
        [{"page": "examples/k1/x.png"}],
        {"examples/k1/x.png": PAGE},
        lambda: [{"step": s, "steps": 300, "loss": 1.0 / s} for s in range(1, 301)],
        {},
        [manifest(f"stages/point/{key}"), manifest("stages/evaluation/e1")],
    )


def subject(key: str = "k1") -> RunSubject:
    one = point(key)
    return point_subject(key, one.point, one.spec)


def live_rows(steps: Iterable[int], total: int = 300) -> list[CurveRow]:
    return [CurveRow(s, total, {"loss": 1.0 / s}, 1_600_000_000_000 + s) for s in steps]


def children(tmp_path: Path) -> list[Any]:
    client = MlflowClient(uri(tmp_path))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`bridgesweep.kind` = 'point'")
    return list(found)


def test_a_child_says_its_variant_and_follows_its_name(tmp_path: Path) -> None:
    def called(variant: str) -> Measured:
        one = point()
        spec = {**one.spec, "variant": variant}
        return replace(one, point=replace(one.point, variant=variant), spec=spec)

    tracker = open_tracker(tmp_path)
    run_id = tracker.log_point(called("k1"))
    (run,) = children(tmp_path)
    assert run.data.tags["bridgesweep.variant"] == "k1"
    assert run.data.tags["mlflow.runName"] == "d1 k1"
    for variant in ("k1+k2", ""):
        assert open_tracker(tmp_path).log_point(called(variant)) == run_id
        (run,) = children(tmp_path)
        assert run.data.tags["bridgesweep.variant"] == variant
        assert run.data.tags["mlflow.runName"] == f"d1 {variant}".strip()
        assert "variant" not in run.data.params


def test_a_child_holds_what_was_measured_and_logging_twice_changes_nothing(tmp_path: Path) -> None:
    first = open_tracker(tmp_path)
    run_id = first.log_point(point())
    assert first.log_point(point()) == run_id
    later = open_tracker(tmp_path)
    assert later.parent == first.parent
    assert later.log_point(point()) == run_id
    (run,) = children(tmp_path)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == first.parent
    assert run.data.tags["bridgesweep.point_key"] == "k1"
    assert run.data.tags["bridgesweep.status"] == "complete"
    metrics = run.data.metrics
    assert metrics["rec/accuracy_at_0.5"] == 0.5
    assert metrics["rec/accuracy_at_0.5/low"] == 0.4
    assert "rec/accuracy_at_0.5/high" not in metrics
    assert metrics["bpp"] == pytest.approx(0.3)
    assert "psnr" not in metrics
    assert run.data.params["train.lr"] == "0.1"
    client = MlflowClient(uri(tmp_path))
    history = client.get_metric_history(run_id, "train/loss")
    assert [m.step for m in history] == list(range(1, 301))
    top = {item.path for item in client.list_artifacts(run_id)}
    assert top == {"spec.json", "provenance.json", "samples.parquet", "examples"}
    (page,) = client.list_artifacts(run_id, "examples/k1")
    assert (page.path, page.file_size) == ("examples/k1/x.png", PAGE.stat().st_size)


def test_a_child_that_was_being_logged_when_the_driver_died_is_completed(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    tracker.log_live(subject(), live_rows(range(1, 101)))
    client = MlflowClient(uri(tmp_path))
    (half,) = children(tmp_path)
    assert (half.info.status, half.data.tags["bridgesweep.status"]) == ("RUNNING", "running")
    open_tracker(tmp_path).log_point(point())
    (run,) = children(tmp_path)
    assert run.info.run_id == half.info.run_id
    assert run.data.tags["bridgesweep.status"] == "complete"
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 300


def test_a_new_evaluation_of_a_known_point_updates_its_child(tmp_path: Path) -> None:
    open_tracker(tmp_path).log_point(point(value=0.5))
    again = point(value=0.75)
    again = replace(
        again,
        manifests=[
            again.manifests[0],
            {**again.manifests[1], "stage": "stages/evaluation/e2", "created": 1.8e9},
        ],
    )
    open_tracker(tmp_path).log_point(again)
    (run,) = children(tmp_path)
    assert run.data.metrics["rec/accuracy_at_0.5"] == 0.75


def test_a_point_that_failed_and_then_succeeds_has_one_run(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    tracker.log_failed(subject(), "it diverged")
    (run,) = children(tmp_path)
    assert (run.info.status, run.data.tags["bridgesweep.status"]) == ("FAILED", "failed")
    assert run.data.tags["bridgesweep.reason"] == "it diverged"
    open_tracker(tmp_path).log_point(point())
    (run,) = children(tmp_path)
    assert (run.info.status, run.data.tags["bridgesweep.status"]) == ("FINISHED", "complete")


def test_a_second_run_of_a_key_is_removed(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    other = open_tracker(tmp_path)
    tracker.log_point(point())
    other.log_point(point())
    assert len(children(tmp_path)) == 2
    open_tracker(tmp_path).log_point(point())
    assert len(children(tmp_path)) == 1


def test_a_child_lasts_from_the_start_of_its_training_to_the_end_of_its_evaluation(
    tmp_path: Path,
) -> None:
    one = point()
    trained, evaluated = ({**manifest} for manifest in one.manifests)
    trained |= {"created": 1000.0, "seconds": 400.0}
    evaluated |= {"created": 1030.5, "seconds": 20.0}
    open_tracker(tmp_path).log_point(replace(one, manifests=[trained, evaluated]))
    (run,) = children(tmp_path)
    assert (run.info.start_time, run.info.end_time) == (600_000, 1_030_500)


def test_children_of_other_settings_are_marked_stale(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    tracker.log_point(point("old"))
    tracker.log_point(point("new"))
    tracker.mark_stale({"new"})
    status = {r.data.tags["bridgesweep.point_key"]: r for r in children(tmp_path)}
    assert status["old"].data.tags["bridgesweep.status"] == "stale"
    assert status["new"].data.tags["bridgesweep.status"] == "complete"
    open_tracker(tmp_path).log_point(point("old"))
    assert {r.data.tags["bridgesweep.status"] for r in children(tmp_path)} == {"complete"}


def test_the_parent_gets_points_report_and_plots(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    (sweep / "plots").mkdir(parents=True)
    (sweep / "report.html").write_text("x")
    shutil.copy(PAGE, sweep / "plots" / "vqa.png")
    tracker = open_tracker(tmp_path)
    for sentence in ("d1 needs 1 % fewer bits.", "d1 needs 20 % fewer bits."):
        tracker.sweep_run.log_done(3, 3)
        tracker.sweep_run.finish(sweep, "smoke", complete=True, sentence=sentence)
    client = MlflowClient(uri(tmp_path))
    assert {a.path for a in client.list_artifacts(tracker.parent)} == {"report.html", "plots"}
    parent = client.get_run(tracker.parent)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mlflow.note.content"] == sentence
    assert parent.data.metrics["points_complete"] == 3


def dead_server() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return f"http://me:hunter2@127.0.0.1:{port}"


@pytest.mark.timeout(120)  # MLflow alone would wait for minutes
def test_a_server_that_is_away_is_said_quickly_and_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(AwayError) as caught:
        Tracker(dead_server(), None, identity())
    assert "hunter2" not in str(caught.value)


def test_what_could_not_be_logged_is_logged_when_the_server_is_back(tmp_path: Path) -> None:
    away, said = threading.Event(), list[str]()
    away.set()

    def open_it() -> Tracker:
        if away.is_set():
            raise AwayError("nobody there")
        return open_tracker(tmp_path)

    queue = LogQueue(open_it, said.append)
    queue.put(lambda tracker: _log(tracker))
    time.sleep(0.2)
    assert len(said) == 1
    assert "(nobody there)" in said[0]
    away.clear()
    assert queue.close() is not None
    assert len(children(tmp_path)) == 1


def _log(tracker: Tracker) -> None:
    tracker.log_point(point())


def test_a_server_that_comes_back_is_used_again_while_the_sweep_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "RETRY_S", 0.1)
    answers, logged = iter([AwayError("gone"), AwayError("gone"), None]), threading.Event()

    def open_it() -> Tracker:
        if (error := next(answers)) is not None:
            raise error
        return open_tracker(tmp_path)

    said = list[str]()
    queue = LogQueue(open_it, said.append)
    queue.put(lambda tracker: logged.set())
    assert logged.wait(60)
    assert len(said) == 1
    assert queue.close() is not None


def test_what_the_server_refuses_costs_that_alone(tmp_path: Path) -> None:
    """A parameter cannot change, and a run that was deleted by hand cannot be written."""
    said = list[str]()
    queue = LogQueue(lambda: open_tracker(tmp_path), said.append)

    def change_a_parameter(tracker: Tracker) -> None:
        _log(tracker)
        client = MlflowClient(uri(tmp_path))
        (run,) = children(tmp_path)
        with answering(uri(tmp_path)):
            client.log_param(run.info.run_id, next(iter(run.data.params)), "another")

    queue.put(change_a_parameter)
    queue.put(change_a_parameter)
    queue.put(_log)
    assert queue.close() is not None
    assert queue.error is None
    (line,) = said
    assert "another" in line
    assert len(children(tmp_path)) == 1


def test_a_bug_in_the_background_is_kept_and_stops_nothing(tmp_path: Path) -> None:
    queue = LogQueue(lambda: open_tracker(tmp_path), print)
    queue.put(lambda tracker: tracker.no_such_method())  # type: ignore[attr-defined]
    queue.put(_log)
    assert queue.close() is not None
    assert isinstance(queue.error, AttributeError)
    assert len(children(tmp_path)) == 1


def test_the_command_that_opens_the_ui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "a b"))
    assert default_uri(store, "sweep") == f"sqlite:///{tmp_path}/a b/mlflow.db"
    monkeypatch.setenv("PATH", "")
    command = shlex.split(open_command(default_uri(store, "sweep")))
    assert command[1:] == ["ui", "--backend-store-uri", f"sqlite:///{tmp_path}/a b/mlflow.db"]
    version = subprocess.run([command[0], "--version"], capture_output=True, check=True)
    assert b"mlflow" in version.stdout
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert open_command("sqlite:///m.db") == "mlflow ui --backend-store-uri sqlite:///m.db"
    assert open_command("http://host:5000") == "open http://host:5000"


def test_the_page_of_the_points_names_this_sweep_s_runs(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path, "sweep", "0123")
    address = page_address("http://host:5000/", tracker.page)
    assert address.startswith("http://host:5000/#/experiments/1/runs?")
    query = parse_qs(address.partition("?")[2])
    (condition,) = query["searchFilter"]
    tracker.log_point(point())
    other = open_tracker(tmp_path, "sweep", "4567")
    other.log_point(point("k2"))
    found = MlflowClient(uri(tmp_path)).search_runs(["1"], condition)
    assert [run.data.tags["bridgesweep.point_key"] for run in found] == ["k1"]
    assert page_address("sqlite:///mlflow.db", "#/x") == "http://127.0.0.1:5000/#/x"


def test_a_login_reaches_the_server_and_nothing_that_is_printed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    logins = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            logins.append(self.headers["Authorization"])
            self.send_error(403)

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
    shown = take_login(f"http://me:hunter%402@127.0.0.1:{server.server_port}")
    assert shown == f"http://127.0.0.1:{server.server_port}"
    with pytest.raises(AwayError):
        Client(shown).experiment_id(EXPERIMENT, None)
    server.shutdown()
    # RFC 7617, by coreutils: printf 'me:hunter@2' | base64
    assert logins[0] == "Basic bWU6aHVudGVyQDI="
    printed = capfd.readouterr()
    assert "hunter" not in printed.out + printed.err


@pytest.mark.parametrize(
    "uri", ["http://host:5000", "postgresql://me:pw@db/x", "http://token@host"]
)
def test_other_uris_stay(uri: str) -> None:
    assert take_login(uri) == uri
