"""A sweep logged to a real SQLite store reads back as it was."""

from __future__ import annotations

import dataclasses
import math
import socket
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.curves.assemble import missing_points
from analysis.curves.missing import in_words
from analysis.io.mlflow_store import Run, open_store
from analysis.io.names import metric_to_mlflow
from analysis.io.read import read_sweep
from analysis.io.scenarios import Scenarios
from analysis.io.schema import AnalysisError
from analysis.stats.compare import compare
from tests.analysis.messages import naming

COMMON = ["point_key", "codec", "lmbda", "scenario", "seed", "run_id", "psnr", "bpp_estimated"]


def log_sweep(client: Any, experiment: str, directory: Path, name: str, artifacts: bool) -> None:
    """As the orchestrator logs it."""
    sweep = read_sweep(str(directory))
    tags = {"bridgesweep.kind": "sweep", "bridgesweep.sweep": name}
    parent = client.create_run(experiment, tags=tags).info.run_id
    for key, rows in sweep.points.groupby("point_key", sort=False):
        first = rows.iloc[0]
        run = client.create_run(
            experiment,
            tags={
                "mlflow.parentRunId": parent,
                "bridgesweep.kind": "point",
                "bridgesweep.point_key": key,
                "bridgesweep.status": "complete",
                "bridgesweep.mllm": first["mllm"],
                "bridgesweep.dataset": first["dataset"],
                "bridgesweep.split": first["split"],
            },
        ).info.run_id
        for param in ("codec", "lmbda", "scenario", "seed"):
            client.log_param(run, param, None if pd.isna(first[param]) else first[param])
        values = {"bpp": first["bpp"], "bpp_estimated": first["bpp_estimated"], "train/loss": 0.5}
        if not pd.isna(first["psnr"]):
            values["psnr"] = first["psnr"]
        for row in rows.itertuples():
            base = f"{row.task}/{metric_to_mlflow(row.metric)}"
            values |= {
                base: row.value,
                f"{base}/low": row.value_low,
                f"{base}/high": row.value_high,
                f"{row.task}/n_samples": row.n_samples,
                f"{row.task}/bpp": row.bpp,
            }
        from mlflow.entities import Metric

        client.log_batch(run, [Metric(k, float(v), 0, 0) for k, v in values.items()])
    for gone in sweep.manifest["missing"]:
        run = client.create_run(
            experiment,
            tags={
                "mlflow.parentRunId": parent,
                "bridgesweep.kind": "point",
                "bridgesweep.point_key": gone["point_key"],
                "bridgesweep.status": "failed",
                "bridgesweep.reason": gone["reason"],
            },
        ).info.run_id
        for param in ("codec", "lmbda", "scenario", "seed"):
            client.log_param(run, param, gone[param])
    if artifacts:
        client.log_artifact(parent, str(directory / "samples.parquet"))
        client.log_artifact(parent, str(directory / "sweep.json"))


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory, holey_dir: Path) -> str:
    from mlflow.tracking import MlflowClient

    home = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{home / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    for experiment in ("bridgesweep", "twice", "empty"):
        client.create_experiment(experiment, artifact_location=str(home / "artifacts"))
    first, twice = (
        client.get_experiment_by_name(n).experiment_id for n in ("bridgesweep", "twice")
    )
    log_sweep(client, first, holey_dir, "demo", artifacts=True)
    for name in ("one", "two"):
        client.create_run(twice, tags={"bridgesweep.kind": "sweep", "bridgesweep.sweep": name})
    return uri


def test_points_samples_and_comparison_are_those_of_the_files(
    tracking: str, holey_dir: Path
) -> None:
    files, mlflow = read_sweep(str(holey_dir)), read_sweep(tracking)
    order = ["point_key", "task", "metric"]
    ours, theirs = (
        s.points.drop(columns="run_id").sort_values(order, ignore_index=True)
        for s in (mlflow, files)
    )
    pd.testing.assert_frame_equal(ours, theirs)
    assert mlflow.points["run_id"].nunique() == 19
    assert "accuracy@0.5" in set(mlflow.points["metric"])
    assert mlflow.samples is not None
    assert mlflow.manifest == files.manifest
    pd.testing.assert_frame_equal(compare(mlflow), compare(files))


def test_a_variant_is_read_from_its_tag(tracking: str) -> None:
    from mlflow.tracking import MlflowClient

    points = read_sweep(tracking).points
    key, run_id = points.loc[points["scenario"] == "d1", ["point_key", "run_id"]].iloc[0]
    client = MlflowClient(tracking_uri=tracking)
    client.set_tag(run_id, "bridgesweep.variant", "k1")
    try:
        again = read_sweep(tracking).points
    finally:
        client.delete_tag(run_id, "bridgesweep.variant")
    assert set(again.loc[again["point_key"] == key, "variant"]) == {"k1"}
    assert set(again.loc[again["point_key"] != key, "variant"]) == {""}


def test_experiment_and_sweep_can_be_named(tracking: str) -> None:
    assert read_sweep(f"mlflow:{tracking}#bridgesweep/demo").name == "demo"


def test_without_artifacts_failed_children_say_what_is_missing(tracking: str) -> None:
    from analysis.io.mlflow_source import _described

    store = open_store(tracking)
    runs = store.runs(store.experiments()["bridgesweep"], "point")
    complete = [r for r in runs if r.tags["bridgesweep.status"] == "complete"]
    sweep = read_sweep(tracking)
    bare = dataclasses.replace(sweep, samples=None, manifest=_described(runs, complete))
    assert set(in_words(missing_points(bare), Scenarios())) == {
        "d2 lambda 0.004: diverged",
        "post-processing lambda 0.012: killed",
    }
    key = complete[0].tags["bridgesweep.point_key"]
    assert bare.manifest["points"][key]["spec"]["scenario"] == complete[0].params["scenario"]


def test_of_a_metric_the_latest_value_counts_and_deleted_runs_do_not(tracking: str) -> None:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    client, store = MlflowClient(tracking_uri=tracking), open_store(tracking)
    number = store.experiments()["bridgesweep"]
    (parent,) = store.runs(number, "sweep")
    tags = {"mlflow.parentRunId": parent.run_id, "bridgesweep.kind": "point"}
    odd, gone = (client.create_run(number, tags=tags).info.run_id for _ in range(2))
    client.delete_run(gone)
    steps = [("loss", 3.0, 0), ("loss", 1.0, 2), ("loss", 2.0, 1), ("broken", float("nan"), 0)]
    client.log_batch(odd, [Metric(name, value, 0, step) for name, value, step in steps])
    client.log_param(odd, "odd", "a 'quoted' ; value")
    try:
        runs = {run.run_id: run for run in store.runs(number, "point", parent.run_id)}
        assert runs[odd].metrics == pytest.approx({"loss": 1.0, "broken": math.nan}, nan_ok=True)
        assert runs[odd].params == {"odd": "a 'quoted' ; value"}
        assert gone not in runs
        assert store.runs(number, "point", "nobody") == []
        assert store.artifact(parent.run_id, "nothing.json") is None
    finally:
        client.delete_run(odd)


def test_a_server_that_accepts_and_stays_silent_is_said_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("analysis.io.mlflow_store.TIMEOUT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(AnalysisError, match=naming("MLflow", "timed out")):
            read_sweep(f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("#empty", ["empty"]),
        ("#twice", ["one", "two"]),
        ("#twice/one", ["twice/one", "0 runs"]),
        ("#bridgesweep/other", ["'other'", "demo"]),
        ("#nothing", ["'nothing'", "bridgesweep"]),
    ],
)
def test_what_is_not_there_is_said(tracking: str, wanted: str, words: list[str]) -> None:
    with pytest.raises(AnalysisError, match=naming(*words)):
        read_sweep(f"mlflow:{tracking}{wanted}")


def test_an_mlflow_child_of_several_mllms_keeps_them_apart() -> None:
    from analysis.io.mlflow_source import _points

    metrics = {"bpp": 0.5}
    for name, value in (("a", 0.25), ("b", 0.75)):
        metrics |= {f"{name}/vqa/accuracy": value, f"{name}/vqa/n_samples": 8.0}
    tags = {"bridgesweep.mllm": "org/a,org/b", "bridgesweep.point_key": "k"}
    run = Run("r", tags, {"scenario": "d1", "seed": "3"}, metrics)
    rows = {row["mllm"]: row for row in _points(run, "s")}
    assert {name: row["value"] for name, row in rows.items()} == {"org/a": 0.25, "org/b": 0.75}
    assert rows["org/a"]["task"] == "vqa"
    assert rows["org/a"]["bpp"] == 0.5
