"""Runs that grow while a training runs, are refused, are deleted, or have a namesake."""

import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests
from mlflow import MlflowClient

from analysis.io.mlflow_source import read_mlflow
from analysis.io.schema import AnalysisError
from orchestrator.storage.store import Store
from orchestrator.tracking import log_queue
from orchestrator.tracking.curves import CurveRow
from orchestrator.tracking.log_queue import LogQueue
from orchestrator.tracking.mlflow_client import (
    AwayError,
    Client,
    RefusedError,
    answering,
    storage_answering,
)
from orchestrator.tracking.mlflow_runs import Tracker
from orchestrator.tracking.run_content import RunSubject
from orchestrator.tracking.sweep_identity import EXPERIMENT, sweep_id
from tests.orchestrator.tracking.test_mlflow_runs import children, live_rows, point, subject
from tests.orchestrator.tracking.trackers import manifest, open_tracker, uri

CODEC = RunSubject("codec", "c1", {"mlflow.runName": "elic codec lambda=0.01"}, {"codec": "elic"})


def runs(tmp_path: Path, kind: str) -> list[Any]:
    found = MlflowClient(uri(tmp_path)).search_runs(["1"], f"tags.`bridgesweep.kind` = '{kind}'")
    return list(found)


def history(tmp_path: Path, run_id: str, name: str = "train/loss") -> list[tuple[int, float]]:
    metrics = MlflowClient(uri(tmp_path)).get_metric_history(run_id, name)
    return sorted((metric.step, metric.value) for metric in metrics)


def test_a_run_is_there_from_the_first_step_and_ends_with_each_row_once(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    tracker.log_live(subject(), live_rows([1]))
    (run,) = children(tmp_path)
    assert (run.info.status, run.data.tags["bridgesweep.status"]) == ("RUNNING", "running")
    assert run.data.metrics == {"train/loss": 1.0}
    assert run.data.params["train.lr"] == "0.1"
    assert run.data.tags["mlflow.user"] == "ada"
    assert run.data.tags["mlflow.parentRunId"] == tracker.parent
    tracker.log_live(subject(), live_rows(range(2, 61)))
    # The driver dies; the training goes on from an earlier checkpoint under another driver.
    later = open_tracker(tmp_path)
    later.log_live(subject(), live_rows(range(41, 101)))
    steps = [step for step, _ in history(tmp_path, run.info.run_id)]
    assert len(steps) == len(set(steps)) >= 75
    assert max(steps) >= 99
    assert later.log_point(point()) == run.info.run_id
    assert history(tmp_path, run.info.run_id) == [(s, 1.0 / s) for s in range(1, 301)]
    (run,) = children(tmp_path)
    assert (run.info.status, run.data.tags["bridgesweep.status"]) == ("FINISHED", "complete")
    later.log_live(subject(), live_rows([300]))  # a report that comes late
    assert len(history(tmp_path, run.info.run_id)) == 300


def test_a_tag_that_a_run_has_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = open_tracker(tmp_path)
    log_batch, sent = MlflowClient.log_batch, []

    def watched(client: MlflowClient, run_id: str, *rest: Any) -> None:
        sent.extend(tag.key for tag in rest[2])
        log_batch(client, run_id, *rest)

    monkeypatch.setattr(MlflowClient, "log_batch", watched)
    tracker.log_point(point())
    (run,) = children(tmp_path)
    assert "mlflow.runName" in run.data.tags
    assert "mlflow.runName" not in sent
    assert "bridgesweep.status" in sent, "running first, then complete"
    assert run.data.tags["bridgesweep.status"] == "complete"


def test_rows_have_the_time_of_their_steps(tmp_path: Path) -> None:
    run_id = open_tracker(tmp_path).log_point(point())
    metrics = MlflowClient(uri(tmp_path)).get_metric_history(run_id, "train/loss")
    times = {metric.step: metric.timestamp for metric in metrics}
    # Trained in 3 s, stored at 1,700,000,000.25 s (`trackers.manifest`), of 300 steps.
    assert times[300] == 1_700_000_000_250
    assert times[100] == pytest.approx(1_700_000_000_250 - 2_000, abs=1)


def test_a_point_that_failed_runs_again_in_its_run(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    tracker.log_live(subject(), live_rows([1]))
    tracker.log_failed(subject(), "a machine was lost")
    tracker.log_live(subject(), live_rows([2]))
    (run,) = children(tmp_path)
    assert (run.info.status, run.data.tags["bridgesweep.status"]) == ("RUNNING", "running")
    open_tracker(tmp_path).log_point(point())
    (run,) = children(tmp_path)
    assert "bridgesweep.reason" not in run.data.tags


def test_a_base_codec_has_a_run_and_is_no_point(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    tracker.log_live(CODEC, live_rows([1, 2], 4))
    assert tracker.run_ids() == {}
    assert not tracker.is_trained("c1")
    curve = [{"step": s, "steps": 4, "loss": 1.0 / s, "val_loss": 0.5} for s in range(1, 5)]
    tracker.log_trained(CODEC, manifest("stages/codec/c1"), curve)
    tracker.log_point(point())
    later = open_tracker(tmp_path)
    assert later.is_trained("c1")
    assert set(later.run_ids()) == {"k1"}
    (run,) = runs(tmp_path, "codec")
    assert run.info.status == "FINISHED"
    assert run.data.tags["bridgesweep.codec_key"] == "c1"
    assert run.data.tags["mlflow.parentRunId"] == tracker.parent
    assert run.data.tags["bridgesweep.commit"] == "abc"
    assert run.data.metrics["seconds/train"] == 3.0
    assert history(tmp_path, run.info.run_id) == [(s, 1.0 / s) for s in range(1, 5)]
    assert set(read_mlflow(uri(tmp_path)).points["point_key"]) == {"k1"}


def test_two_sweeps_of_one_name_on_one_database_never_touch_each_other(tmp_path: Path) -> None:
    first, second = (open_tracker(tmp_path, "sweep", number) for number in ("one", "two"))
    assert first.parent != second.parent
    run_id = first.log_point(point(value=0.5))
    assert second.run_ids() == {}
    other_id = second.log_point(point(value=0.75))
    assert other_id != run_id
    second.log_live(CODEC, live_rows([1]))
    second.mark_stale(set())
    second.sweep_run.log_done(0, 1)
    again = open_tracker(tmp_path, "sweep", "one")
    assert again.parent == first.parent
    assert again.run_ids() == {"k1": run_id}
    client = MlflowClient(uri(tmp_path))
    run = client.get_run(run_id)
    assert run.data.tags["bridgesweep.status"] == "complete"
    assert run.data.metrics["rec/accuracy_at_0.5"] == 0.5
    assert client.get_run(first.parent).data.metrics == {}
    assert client.get_run(other_id).data.tags["bridgesweep.status"] == "stale"

    with pytest.raises(AnalysisError, match=r"2 sweeps 'sweep'") as caught:
        read_mlflow(f"{uri(tmp_path)}#{EXPERIMENT}/sweep")
    assert first.parent in str(caught.value)
    assert second.parent in str(caught.value)
    read = read_mlflow(f"{uri(tmp_path)}#{EXPERIMENT}/{first.parent}")
    assert set(read.points["run_id"]) == {run_id}


def test_a_sweep_of_an_earlier_version_stays_as_it_is(tmp_path: Path) -> None:
    client = MlflowClient(uri(tmp_path))
    open_tracker(tmp_path, "another")
    tags = {"bridgesweep.kind": "sweep", "bridgesweep.sweep": "sweep"}
    old = client.create_run("1", tags=tags).info.run_id
    tracker = open_tracker(tmp_path)
    assert tracker.parent != old
    assert client.get_run(old).data.tags["bridgesweep.sweep"] == "sweep"
    assert "bridgesweep.sweep_id" not in client.get_run(old).data.tags


def test_a_sweep_s_id_is_written_once_whoever_comes_first(tmp_path: Path) -> None:
    stores = [Store(str(tmp_path / "storage")) for _ in range(8)]
    found: list[str] = []
    threads = [threading.Thread(target=lambda s=s: found.append(sweep_id(s, "x"))) for s in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert sweep_id(stores[0], "x") == found[0]
    assert sweep_id(stores[0], "y") != found[0]
    assert sweep_id(Store(str(tmp_path / "other")), "x") != found[0]


def test_changed_and_refused_parameters_are_reported_and_cost_nothing_else(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    early = RunSubject("point", "k1", {"mlflow.runName": "d1"}, {"codec": "elic", "k" * 300: 1})
    tracker.log_live(early, live_rows([1]))
    (run,) = children(tmp_path)
    assert run.data.params == {"codec": "elic"}
    tracker.log_point(point())
    (run,) = children(tmp_path)
    assert run.data.tags["bridgesweep.status"] == "complete"
    assert run.data.metrics["rec/accuracy_at_0.5"] == 0.5
    assert len(tracker.refusals) == 1, "the one that is too long"
    assert "k" * 20 in tracker.refusals[0]

    renamed = open_tracker(tmp_path)
    late = RunSubject("point", "k1", {}, {"codec": "renamed", "train.lr": "0.1"})
    child = renamed._children.get("k1")
    assert child is not None
    renamed._children.log_params(child, late.params)
    (line,) = renamed.refusals
    assert line == "d1 keeps its parameter codec = elic, now renamed"
    (run,) = children(tmp_path)
    assert run.data.params["codec"] == "elic"


def test_a_long_parameter_that_a_server_cut_is_not_changed(tmp_path: Path) -> None:
    long = RunSubject("point", "k1", {}, {"classes": "name, " * 2000})
    open_tracker(tmp_path).log_live(long, live_rows([1]))
    tracker = open_tracker(tmp_path)
    child = tracker._children.get("k1")
    assert child is not None
    assert len(child.params["classes"]) == 6000  # MLflow's limit
    tracker._children.log_params(child, long.params)
    assert tracker.refusals == []


def test_a_deleted_run_is_made_anew_with_all_that_it_had(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    tracker.log_live(subject(), live_rows(range(1, 51)))
    client = MlflowClient(uri(tmp_path))
    (deleted,) = children(tmp_path)
    client.delete_run(deleted.info.run_id)
    tracker.log_live(subject(), live_rows(range(51, 61)))
    (run,) = children(tmp_path)
    assert run.info.run_id != deleted.info.run_id
    client.delete_run(run.info.run_id)
    tracker.log_point(point())
    (run,) = children(tmp_path)
    assert len(history(tmp_path, run.info.run_id)) == 300
    assert run.data.tags["bridgesweep.status"] == "complete"
    assert run.data.params["train.lr"] == "0.1"
    # By the next sweep as well.
    client.delete_run(run.info.run_id)
    later = open_tracker(tmp_path)
    assert later.log_point(point()) not in (run.info.run_id, deleted.info.run_id)


def test_a_deleted_parent_is_made_anew_and_keeps_its_children(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    run_id, gone = tracker.log_point(point()), tracker.parent
    client = MlflowClient(uri(tmp_path))
    client.delete_run(gone)
    tracker.sweep_run.log_done(1, 3)
    assert tracker.parent != gone
    assert client.get_run(tracker.parent).data.metrics["points_complete"] == 1
    client.delete_run(tracker.parent)
    later = open_tracker(tmp_path)
    assert later.parent not in (gone, tracker.parent)
    assert later.run_ids() == {"k1": run_id}
    assert client.get_run(run_id).data.tags["mlflow.parentRunId"] == later.parent


def test_runs_that_were_deleted_together_are_no_hindrance(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    run_id, kept_id = tracker.log_point(point()), tracker.log_point(point("k2"))
    client = MlflowClient(uri(tmp_path))
    for deleted in (tracker.parent, run_id):
        client.delete_run(deleted)
    tracker.sweep_run.log_done(2, 2)
    assert tracker.run_ids() == {"k2": kept_id}
    assert client.get_run(kept_id).data.tags["mlflow.parentRunId"] == tracker.parent
    tracker.log_live(CODEC, live_rows([1]))
    codec = runs(tmp_path, "codec")[0].info.run_id
    client.delete_run(kept_id)
    tracker.mark_stale(set())
    assert tracker.run_ids() == {}
    run = client.get_run(codec)
    assert (run.info.status, run.data.tags["bridgesweep.status"]) == ("KILLED", "stale")
    assert tracker.refusals == []
    again = open_tracker(tmp_path)
    assert again.log_point(point()) != run_id


def test_points_complete_reaches_its_total_and_is_not_repeated(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    for done in (1, 2, 2, 3):
        tracker.sweep_run.log_done(done, 3)
    open_tracker(tmp_path).sweep_run.log_done(3, 3)
    counted = history(tmp_path, tracker.parent, "points_complete")
    assert counted == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert history(tmp_path, tracker.parent, "points_total") == [(1, 3.0)]


def test_the_calls_for_a_point_are_counted_and_bounded(tmp_path: Path) -> None:
    names = [f"term{number}" for number in range(11)]

    def long_curve() -> list[dict[str, float]]:
        terms = dict.fromkeys((*names, "loss"), 0.5)
        return [{"step": s, "steps": 9000, **terms} for s in range(10, 9001, 10)]

    measured = point()
    object.__setattr__(measured, "curve", long_curve)
    tracker = open_tracker(tmp_path)
    before = tracker.calls.total()
    run_id = tracker.log_point(measured)
    assert len(history(tmp_path, run_id)) <= 500
    # run, 3 for parameters, 242 rows, values and tags, 4 files of artifacts, end
    assert tracker.calls.total() - before <= 9
    before = tracker.calls.total()
    tracker.log_point(measured)
    assert tracker.calls.total() == before
    again = open_tracker(tmp_path)
    assert again.calls["search_runs"] == 1
    assert again.calls.total() == 2


class Limited(BaseHTTPRequestHandler):
    """Refuses the first request with 429 and names an experiment from then on."""

    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.paths.append(self.path)
        if len(self.paths) == 1:
            self.send_response(429)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b'{"experiment": {"experiment_id": "7", "name": "x", "lifecycle_stage": "active"}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_server_that_limits_requests_is_asked_again() -> None:
    server = HTTPServer(("127.0.0.1", 0), Limited)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        client = Client(f"http://127.0.0.1:{server.server_port}")
        assert client.experiment_id("x", None) == "7"
    finally:
        server.shutdown()
        server.server_close()
    assert len(Limited.paths) == 2
    assert client.calls == {"get_experiment_by_name": 1}


def test_a_server_that_comes_back_gets_the_rest_in_the_same_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "RETRY_S", 0.05)
    notes, done = list[str](), threading.Event()
    queue = LogQueue(lambda: open_tracker(tmp_path), notes.append)
    opened = threading.Event()
    trackers: list[Tracker] = []

    def begin(tracker: Tracker) -> None:
        trackers.append(tracker)
        tracker.log_live(subject(), live_rows([1]))
        opened.set()

    queue.put(begin)
    assert opened.wait(60)
    (before,) = children(tmp_path)
    real = Client.call
    outages = iter(range(3))

    def call(client: Client, method: Any, *arguments: Any, **options: Any) -> Any:
        if next(outages, None) is not None:
            raise AwayError("connection refused")
        return real(client, method, *arguments, **options)

    monkeypatch.setattr(Client, "call", call)
    queue.put(lambda tracker: tracker.log_point(point()))
    queue.put(lambda tracker: done.set())
    assert done.wait(60)
    assert queue.close() is trackers[0]
    (run,) = children(tmp_path)
    assert run.info.run_id == before.info.run_id
    assert len(history(tmp_path, run.info.run_id)) == 300
    assert len(runs(tmp_path, "sweep")) == 1
    assert len(notes) == 1
    assert "connection refused" in notes[0]


def test_a_request_at_which_a_server_always_fails_is_reported_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "RETRY_S", 0.01)
    notes, logged = list[str](), threading.Event()
    queue = LogQueue(lambda: open_tracker(tmp_path), notes.append)

    def fail(tracker: Tracker) -> None:
        raise AwayError("500: a bug of the server")

    queue.put(fail)
    queue.put(lambda tracker: logged.set())
    assert logged.wait(60)
    assert queue.close() is not None
    assert queue.error is None
    assert "refuses something (500: a bug of the server)" in notes[-1]


def test_a_server_that_answers_too_late_does_not_keep_a_sweep_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "CLOSE_S", 0.2)
    notes, released, began = list[str](), threading.Event(), threading.Event()
    queue = LogQueue(lambda: open_tracker(tmp_path), notes.append)

    def hang(tracker: Tracker) -> None:
        began.set()
        released.wait(60)

    queue.put(hang)
    assert began.wait(60)
    assert queue.close() is None
    released.set()
    assert "too long" in notes[-1]


def test_a_server_that_refuses_the_sweep_at_first_gets_everything_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "RETRY_S", 0.05)
    answers, notes = iter([RefusedError("no room"), RefusedError("no room"), None]), list[str]()

    def open_it() -> Tracker:
        if (error := next(answers)) is not None:
            raise error
        return open_tracker(tmp_path)

    queue = LogQueue(open_it, notes.append)
    logged = threading.Event()
    queue.put(lambda tracker: tracker.log_point(point()))
    queue.put(lambda tracker: logged.set())
    assert logged.wait(60)
    assert queue.close() is not None
    assert len(children(tmp_path)) == 1
    assert len(notes) == 1
    assert "no room" in notes[0]


def test_many_refusals_are_counted(tmp_path: Path) -> None:
    notes: list[str] = []
    queue = LogQueue(lambda: open_tracker(tmp_path), notes.append)

    def refuse(numbers: Iterable[int]) -> None:
        for number in numbers:

            def action(tracker: Tracker, number: int = number) -> None:
                raise RefusedError(f"limit {number}")

            queue.put(action)

    refuse(range(8))
    assert queue.close() is not None
    assert len(notes) == log_queue.MOST_NOTES + 1
    assert "3 more" in notes[-1]


def test_an_error_of_the_store_of_artifacts_is_no_bug_of_this_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EndpointConnectionError(Exception):
        """As of botocore, which MLflow passes on."""

    def fail(*arguments: object) -> None:
        raise EndpointConnectionError("no bucket")

    notes: list[str] = []
    monkeypatch.setattr(MlflowClient, "log_artifacts", fail)
    queue = LogQueue(lambda: open_tracker(tmp_path), notes.append)
    queue.put(lambda tracker: tracker.log_point(point()))
    assert queue.close() is not None
    assert queue.error is None
    assert "no bucket" in notes[0]
    (run,) = children(tmp_path)
    assert run.data.tags["bridgesweep.status"] == "running", "the next sweep logs it again"


@pytest.mark.parametrize("fails", ["point", "figures"])
def test_artifacts_without_a_place_are_refused_and_the_server_is_not_away(
    tmp_path: Path, fails: str
) -> None:
    notes: list[str] = []
    tracker = open_tracker(tmp_path)
    (tmp_path / "mlruns").write_text("a file where the directory of artifacts was")
    plots = tmp_path / "plots"
    plots.mkdir()
    table = plots / "points.csv"
    table.write_text("sweep")
    actions: dict[str, Any] = {
        "point": lambda tracker: tracker.log_point(point()),
        "figures": lambda tracker: tracker.sweep_run.show_progress(table, plots, "Running"),
    }
    with pytest.raises(RefusedError, match="mlruns"):
        actions[fails](tracker)
    queue = LogQueue(lambda: tracker, notes.append)
    queue.put(actions[fails])
    queue.put(lambda tracker: tracker.sweep_run.log_done(0, 1))
    assert queue.close() is tracker
    assert queue.error is None
    assert len(notes) == 1
    (parent,) = runs(tmp_path, "sweep")
    assert parent.data.metrics["points_total"] == 1


@pytest.mark.parametrize(("status", "kind"), [(500, RefusedError), (503, AwayError)])
def test_a_server_of_artifacts_that_answers_is_not_away(status: int, kind: type[Exception]) -> None:
    response = requests.Response()
    response.status_code = status
    with pytest.raises(kind), answering("http://127.0.0.1:1"):
        response.raise_for_status()
    with pytest.raises(AwayError), answering("http://127.0.0.1:1"):
        requests.get("http://127.0.0.1:1", timeout=5)


def test_what_still_fails_at_the_end_does_not_keep_back_the_rest(tmp_path: Path) -> None:
    notes: list[str] = []
    tracker = open_tracker(tmp_path)

    def fail(tracker: Tracker) -> None:
        with storage_answering():
            raise RuntimeError("SlowDown")

    queue = LogQueue(lambda: tracker, notes.append)
    queue.put(fail)
    queue.put(lambda tracker: tracker.log_point(point()))
    assert queue.close() is tracker
    assert queue.error is None
    assert any("SlowDown" in note for note in notes)
    (run,) = children(tmp_path)
    assert run.data.tags["bridgesweep.status"] == "complete"


def test_rows_are_never_split_between_calls(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    sizes: list[int] = []
    real = tracker._client.mlflow.log_batch

    def log_batch(run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> Any:
        sizes.append(len(metrics))
        return real(run_id, metrics, params, tags)

    tracker._client.mlflow.log_batch = log_batch  # type: ignore[method-assign,assignment]
    metrics = dict.fromkeys([f"t{number}" for number in range(6)], 1.0) | {"loss": 1.0}
    rows = [CurveRow(s, 200, metrics, 1_600_000_000_000 + s) for s in range(1, 201)]
    tracker.log_live(subject(), rows)
    assert [size for size in sizes if size] == [994, 406]  # 142 and 58 rows of 7
