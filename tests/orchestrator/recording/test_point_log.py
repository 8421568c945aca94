"""Trainings and points on their way to a real MLflow on SQLite; no Ray."""

import json
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from orchestrator.plan.jobs import Job, Plan
from orchestrator.recording.point_log import PointLog
from orchestrator.recording.request import Request
from orchestrator.storage.files import StoreError
from orchestrator.storage.provenance import fingerprints
from orchestrator.storage.store import Store
from orchestrator.tracking import log_queue
from orchestrator.tracking.measured import LOSSES, read_measured
from search_spaces import OperatingPoint, load_space, operating_points, point_stage
from tests.orchestrator.tracking.trackers import manifest, uri
from tests.orchestrator.waiting import wait_until

ABOUT = {name: manifest("")[name] for name in ("seconds", "inputs", "code", "hardware")}
METRICS = {"loss": 2.0, "val_loss": 1.5, "images_per_s": 40.0, "lr": 1e-4}


@pytest.fixture
def point_log(store: Store, plan: Plan) -> PointLog:
    owner, name = "ada", plan.space.name
    request = Request(
        *(plan.space, plan.points, store, name, None, False, 0.0, "the command"), owner=owner
    )
    return PointLog(request, plan, print)


def commit(store: Store, path: str, files: dict[str, Any]) -> None:
    out = store.new(path)
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pd.DataFrame):
            content.to_parquet(out / name)
        else:
            (out / name).write_text(content)
    store.commit(path, out, ABOUT)


def curve(steps: int) -> str:
    rows = [{"step": s, "steps": steps, **METRICS} for s in range(1, steps + 1)]
    return "".join(json.dumps(row) + "\n" for row in rows)


def commit_point(
    store: Store,
    plan: Plan,
    point: OperatingPoint,
    steps: int = 8,
    samples: int = 4,
    lost: Mapping[str, list[dict[str, str]]] | None = None,
) -> None:
    """The stages of a complete point, with weights, a curve, and evaluations of one task."""
    trained = {"info.json": "{}", "model.safetensors": "w" * 100_000, "curve.jsonl": curve(steps)}
    commit(store, point_stage(plan.stages, point).path, trained)
    values = pd.DataFrame(
        {"task": "vqa", "metric": "accuracy", "value": [0.0, 1.0] * (samples // 2)}
    )
    values.insert(0, "mllm", "m")
    values["bpp"] = 0.5
    values["sample_id"] = [f"sample {number}" for number in range(samples)]
    values["image_id"] = [f"image {number}" for number in range(samples)]
    means = {"bpp": 0.5, "bpp_estimated": 0.5, "psnr": 30.0, "pooled": 0.1, "tokens": 0.1}
    task = {**means, "n_samples": samples, "metrics": {"accuracy": 0.5}, "set_metrics": {}}
    for _, evaluation in plan.evaluations(point):
        measured = {"samples.parquet": values, "summary.json": json.dumps({"vqa": task})}
        measured |= {"info.json": json.dumps({loss: (lost or {}).get(loss, []) for loss in LOSSES})}
        commit(store, evaluation.path, {**measured, "examples/examples.json": "[]"})


def job_of(plan: Plan, test: Callable[[Job], bool]) -> Job:
    return next(job for job in plan.jobs.values() if test(job))


def is_d1(job: Job) -> bool:
    return job.subject.point is not None and job.subject.point.scenario == "d1"


def runs(tmp_path: Path) -> dict[str, Any]:
    """Key of a stage, or `sweep` -> run."""
    client = MlflowClient(uri(tmp_path))
    experiment = client.get_experiment_by_name("bridgesweep")
    if experiment is None:
        return {}
    found = client.search_runs([experiment.experiment_id])
    tags = [run.data.tags for run in found]
    names = (t.get("bridgesweep.point_key", t.get("bridgesweep.codec_key", "sweep")) for t in tags)
    return dict(zip(names, found, strict=True))


def test_a_cancelled_variant_ends_its_run_and_no_other(tmp_path: Path, store: Store) -> None:
    variants = "variants={plain: {}, other: {surrogate.double_norm: true}}"
    space = load_space("smoke", ["scenarios=[]", "baselines=[reconstruction]", variants])
    plan = Plan(space, operating_points(space), fingerprints(space), store)
    request = Request(space, plan.points, store, space.name, None, False, 0.0, "the command")
    point_log = PointLog(request, plan, print)
    other = job_of(plan, lambda job: job.key != job.stage.key)
    point_log.add_cancelled(other)
    assert point_log.close({}) is not None
    found = runs(tmp_path)
    assert found.keys() == {"sweep", other.key}, "the variant `plain` shares the stage"
    assert found[other.key].data.tags["bridgesweep.status"] == "cancelled"


def test_what_was_not_logged_by_one_sweep_is_logged_by_the_next(
    tmp_path: Path, store: Store, plan: Plan
) -> None:
    """The server was away for the whole of the first."""
    point = next(p for p in plan.points if p.scenario == "d1")
    commit_point(store, plan, point)
    codec = next(stage for stage in point_stage(plan.stages, point).inputs if stage.kind == "codec")
    commit(store, codec.path, {"info.json": "{}", "curve.jsonl": curve(8)})
    name = plan.space.name
    later = Plan(plan.space, plan.points, plan.fingerprints, store)
    request = Request(plan.space, plan.points, store, name, None, False, 0.0, "the command")
    for _ in range(2):
        log = PointLog(request, later, print)
        log.add_stored(later.complete_points())
        tracker = log.close({})
        assert tracker is not None
    found = runs(tmp_path)
    assert set(found) == {"sweep", codec.key, plan.key(point)}
    assert {run.data.tags.get("bridgesweep.status") for run in found.values()} == {None, "complete"}
    # To open the sweep, and nothing else: all is there.
    assert tracker.calls == {"get_experiment_by_name": 1, "search_runs": 1}


@pytest.mark.parametrize("failures", [2, 1000])
def test_a_storage_that_fails_while_mlflow_is_written_ends_no_sweep(
    tmp_path: Path,
    store: Store,
    plan: Plan,
    point_log: PointLog,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failures: int,
) -> None:
    monkeypatch.setattr(log_queue, "RETRY_S", 0.01)
    first, second = [point for point in plan.points if point.scenario == "d1"]
    for point in (first, second):
        commit_point(store, plan, point)
    broken, remaining = plan.key(first), iter(range(failures))
    read_file = Store.stage_file

    def stage_file(store: Store, manifest: dict[str, Any], name: str) -> bytes:
        if broken in manifest["stage"] and next(remaining, None) is not None:
            raise RuntimeError("SlowDown: reduce your request rate")
        return read_file(store, manifest, name)

    monkeypatch.setattr(Store, "stage_file", stage_file)
    for point in (first, second):
        point_log.add(point)
    logged = {plan.key(second)} if failures == 1000 else {plan.key(first), plan.key(second)}
    wait_until(lambda: logged <= runs(tmp_path).keys(), 60)
    assert point_log.close({}) is not None
    assert point_log.error is None
    assert "SlowDown" in capsys.readouterr().out
    assert set(runs(tmp_path)) == {"sweep", *logged}


def test_a_measured_point_is_small_and_read_without_its_weights(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Store(f"file://{tmp_path}/remote", cache=tmp_path / "cache", remote=True)
    point = next(p for p in plan.points if p.scenario == "d1")
    commit_point(remote, plan, point, steps=20_000, samples=20_000)
    read_measured(plan, remote, point)  # imports
    tracemalloc.start()
    measured = read_measured(plan, remote, point)
    kept, _ = tracemalloc.get_traced_memory()
    assert len(measured.curve()) == 20_000
    assert len(measured.samples()) == 20_000 * len(plan.evaluations(point))
    tracemalloc.stop()
    assert kept < 200_000
    assert measured.rows[0]["value"] == 0.5
    assert list((tmp_path / "cache").rglob("samples.parquet"))
    assert not list((tmp_path / "cache").rglob("model.safetensors"))


def test_thousands_of_points_keep_what_is_equal_once_and_no_lists_of_pictures(
    store: Store, plan: Plan
) -> None:
    points = [p for p in plan.points if p.scenario == "d1"]
    for point in points:
        commit_point(store, plan, point)
    one, other = (read_measured(plan, store, point) for point in points)
    everything = [*one.manifests, *other.manifests]
    for name in ("code", "hardware"):
        assert len({id(kept[name]) for kept in everything}) == 1
    stages = one.provenance["stages"]
    assert len(stages) == len(one.manifests) == 1 + len(plan.evaluations(points[0]))
    for stage, files in stages.items():
        stored = store.manifest(stage)
        assert any(name.startswith("examples/") for name in stored["files"]) or "point" in stage
        assert files == {
            name: about["sha256"]
            for name, about in stored["files"].items()
            if not name.startswith("examples/")
        }
    assert not any("examples" in name for kept in everything for name in kept["files"])


def test_an_evaluation_without_its_code_is_the_stage_to_be_made_again(
    store: Store, plan: Plan
) -> None:
    point = next(p for p in plan.points if p.scenario == "d1")
    commit_point(store, plan, point)
    (_, evaluation), *_ = plan.evaluations(point)
    file = Path(store.path(evaluation.path)) / "manifest.json"
    content = json.loads(file.read_text())
    del content["code"]
    file.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=rf"{evaluation.path} cannot be read \(KeyError\)"):
        read_measured(plan, store, point)
