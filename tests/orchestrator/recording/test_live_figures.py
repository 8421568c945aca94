"""The parent run while a sweep runs, in a real MLflow on SQLite; no Ray."""

import io
import math
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from PIL import Image

from analysis.figures.common.render import Plot
from analysis.io.scenarios import Scenarios
from orchestrator.plan.jobs import Plan
from orchestrator.recording.live_figures import EVERY_S, SHARE, LiveFigures
from orchestrator.storage.provenance import fingerprints
from orchestrator.tracking.log_queue import LogQueue
from orchestrator.tracking.measured import Measured, point_spec
from orchestrator.tracking.mlflow_client import AwayError
from orchestrator.tracking.mlflow_runs import Tracker
from search_spaces import OperatingPoint, load_space, operating_points
from tests.orchestrator.tracking.trackers import manifest, open_tracker, row, uri

TASKS = {"captioning": "exact_match", "vqa": "accuracy"}
RATE = {None: 24.0, 0.002: 0.25, 0.02: 1.0}


@pytest.fixture(scope="module")
def plan() -> Plan:
    space = load_space("smoke")
    return Plan(space, operating_points(space), fingerprints(space), None)


def measured(plan: Plan, point: OperatingPoint) -> Measured:
    key, bpp = plan.key(point), RATE[point.lmbda]
    mllm, dataset = plan.space.mllms[0].label, plan.space.data.label
    names = {"point_key": key, **point.fields, "mllm": mllm, "dataset": dataset}
    rows = [
        row(
            **names, bpp=bpp, bpp_estimated=bpp, task=task, metric=metric, value=0.25 + 0.5 * number
        )
        for number, (task, metric) in enumerate(TASKS.items())
    ]
    made = manifest(f"stages/point/{key}")
    spec = point_spec(plan.space, point)
    return Measured(key, point, spec, rows, lambda: pa.table({}), [], {}, list, {}, [made, made])


def some(plan: Plan, scenario: str) -> list[Measured]:
    return [measured(plan, one) for one in plan.points if one.scenario == scenario]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    return open_tracker(tmp_path, "smoke")


def artifact(tmp_path: Path, tracker: Tracker, name: str) -> bytes:
    folder = MlflowClient(uri(tmp_path)).get_run(tracker.parent).info.artifact_uri
    assert folder is not None
    return (Path(folder.removeprefix("file://")) / name).read_bytes()


def test_figures_and_table_of_the_parent_grow_with_the_points(
    tmp_path: Path, tracker: Tracker, plan: Plan
) -> None:
    clock, said = Clock(), list[str]()
    live = LiveFigures(plan, "smoke", said.append, clock)
    live.refresh(tracker)  # no point yet: nothing to show
    client = MlflowClient(uri(tmp_path))
    assert client.list_artifacts(tracker.parent) == []

    pictures = []
    steps = [some(plan, "uncompressed") + some(plan, "d1")[:1], some(plan, "d1")[1:]]
    count = 0
    for arrived in steps:
        for one in arrived:
            tracker.log_point(one)
            live.add(one)
        count += len(arrived)
        live.refresh(tracker)
        table = pd.read_csv(io.BytesIO(artifact(tmp_path, tracker, "points.csv")))
        assert table["point_key"].nunique() == count
        assert set(table["run_id"]) == set(tracker.run_ids().values())
        pictures.append(artifact(tmp_path, tracker, "plots/mean.png"))
        assert Image.open(io.BytesIO(pictures[-1])).size[0] > 500
        run = client.get_run(tracker.parent)
        assert run.info.status == "RUNNING"
        assert f"{count} of {len(plan.points)} operating points" in str(
            run.data.tags["mlflow.note.content"]
        )
        clock.now += EVERY_S
    assert pictures[0] != pictures[1]
    assert said == []


def test_points_that_failed_so_far_are_named(
    tmp_path: Path, tracker: Tracker, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    live = LiveFigures(plan, "smoke", said.append, Clock())
    (bound,) = some(plan, "uncompressed")
    gone, fine = some(plan, "d1")
    live.add_failed(gone.point, "loss is nan")
    live.refresh(tracker)  # no point yet: nothing to draw
    assert MlflowClient(uri(tmp_path)).list_artifacts(tracker.parent) == []
    for one in (bound, fine):
        tracker.log_point(one)
        live.add(one)
    drawn: dict[str, str] = {}
    real = Plot.png.func  # type: ignore[attr-defined]

    def kept(plot: Plot) -> Any:
        drawn[plot.name] = "\n".join(text.get_text() for text in plot.figure.texts)
        return real(plot)

    monkeypatch.setattr(Plot, "png", property(kept))
    live.refresh(tracker)
    assert said == []
    words = f"d1 lambda {gone.point.lmbda:g}: loss is nan"
    counted = f"2 of {len(plan.points)} operating points so far, 1 failed"
    for name in ("mean", "vqa", "captioning"):
        assert f"missing: {words}" in drawn[name]
        assert drawn[name].count("missing:") == 1  # what is still to come is not listed
        assert counted.replace("operating ", "") in drawn[name]
    tags = MlflowClient(uri(tmp_path)).get_run(tracker.parent).data.tags
    assert f"Failed: {words}." in tags["mlflow.note.content"]
    assert f"Running: {counted}." in tags["mlflow.note.content"]


def test_a_failed_point_from_which_only_others_start_is_named(
    tmp_path: Path, tracker: Tracker, plan: Plan
) -> None:
    notes: list[str] = []
    wanted = [point for point in plan.points if point.scenario != "d1"]
    part = Plan(plan.space, wanted, fingerprints(plan.space), None)
    live = LiveFigures(part, "smoke", notes.append, Clock())
    live.add_failed(some(plan, "d1")[0].point, "loss is nan")
    live.add(some(plan, "uncompressed")[0])
    live.refresh(tracker)
    assert notes == []
    tags = MlflowClient(uri(tmp_path)).get_run(tracker.parent).data.tags
    assert "loss is nan" in tags["mlflow.note.content"]


def test_it_is_refreshed_no_more_often_than_is_said(tracker: Tracker, plan: Plan) -> None:
    clock, drawn = Clock(), list[int]()

    class Counted(LiveFigures):
        def _refresh(self, tracker: Tracker) -> None:
            clock.now += 4.0  # what drawing takes
            drawn.append(len(self._measured))

    live = Counted(plan, "smoke", print, clock)
    points = some(plan, "reconstruction") + some(plan, "d1")
    for one in points[:2]:
        live.add(one)
        live.refresh(tracker)
    assert drawn == [1]  # the second came too soon ...
    clock.now += 4.0 / SHARE - 0.1
    live.refresh(tracker)
    assert drawn == [1]
    clock.now += 0.2
    live.refresh(tracker)
    assert drawn == [1, 2]  # ... and is not forgotten
    clock.now += 1e6
    live.refresh(tracker)
    assert drawn == [1, 2]  # nothing new
    live.add(points[2])
    live.stop()
    live.refresh(tracker)
    assert drawn == [1, 2]


def test_a_figure_that_cannot_be_drawn_is_said_once_and_ends_nothing(
    tmp_path: Path, plan: Plan
) -> None:
    said: list[str] = []
    clock = Clock()
    live = LiveFigures(plan, "smoke", said.append, clock)
    queue = LogQueue(lambda: open_tracker(tmp_path, "smoke"), said.append)
    broken, fine = some(plan, "d1")
    broken.rows[0]["value"] = 7.0  # no fraction: no points file can hold it

    def work(tracker: Tracker) -> None:
        for one in (broken, fine):
            live.add(one)
            clock.now += 1e6
            live.refresh(tracker)
        tracker.log_point(fine)

    queue.put(work)
    assert queue.close() is not None
    (line,) = said
    assert "exact_match" in line
    found = MlflowClient(uri(tmp_path)).search_experiments(filter_string="name = 'bridgesweep'")
    runs = MlflowClient(uri(tmp_path)).search_runs([found[0].experiment_id])
    assert len(runs) == 2  # the parent and the point that came after


def test_the_thread_refreshes_by_itself_and_a_server_that_goes_away_is_only_said(
    tmp_path: Path, tracker: Tracker, plan: Plan
) -> None:
    refreshed = threading.Event()
    said: list[str] = []

    def idle(tracker: Tracker) -> None:
        refreshed.set()
        raise AwayError("gone")

    queue = LogQueue(lambda: tracker, said.append, idle)
    assert refreshed.wait(30)
    queue.put(lambda tracker: tracker.log_point(some(plan, "uncompressed")[0]))
    assert queue.close() is tracker
    assert len(said) == 1
    assert "(gone)" in said[0]
    assert len(tracker.run_ids()) == 1


def test_children_carry_what_scatter_and_parallel_coordinates_need(
    tmp_path: Path, tracker: Tracker, plan: Plan
) -> None:
    (bound,), (d1, _) = some(plan, "uncompressed"), some(plan, "d1")
    for one in (bound, d1):
        tracker.log_point(one)
    client = MlflowClient(uri(tmp_path))
    runs: dict[str, Any] = {key: client.get_run(run).data for key, run in tracker.run_ids().items()}
    for one in (bound, d1):
        metrics = runs[one.key].metrics
        assert metrics["log2_bpp"] == pytest.approx(math.log2(metrics["bpp"]))
        assert metrics["mean_accuracy"] == pytest.approx((0.25 + 0.75) / 2)
        assert runs[one.key].tags["mlflow.runColor"] == Scenarios().look(one.point.scenario).colour
        assert "None" not in runs[one.key].params.values()
    # An axis of lambdas stays one of numbers: who has none says nothing.
    assert "lmbda" not in runs[bound.key].params
    assert float(runs[d1.key].params["lmbda"]) == d1.point.lmbda
