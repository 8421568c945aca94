"""The smoke space through Ray: killed, continued, asked again, and with a point that fails."""

import collections
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from tests.orchestrator.waiting import wait_until

ROOT = Path(__file__).parents[2]
Build = Callable[..., list[str]]
Sweep = Callable[..., subprocess.CompletedProcess[str]]
POINTS = 11  # uncompressed; per lambda reconstruction, post_processing, d1, d2, d3


def manifest(storage: Path, name: str = "smoke") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((storage / name / "sweep.json").read_text())
    return found


def runs(storage: Path) -> list[Any]:
    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    experiment = client.get_experiment_by_name("bridgesweep")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def start(command: list[str], environment: dict[str, str], output: int) -> subprocess.Popen[str]:
    """A sweep in a process group of its own."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def running(process: subprocess.Popen[str]) -> bool:
    return process.poll() is None


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, command: Build, environment: dict[str, str]
) -> Path:
    """A storage whose driver was killed -9 when the first base codec was done."""
    storage = tmp_path_factory.mktemp("storage")
    process = start(command(storage), environment, subprocess.DEVNULL)
    try:
        wait_until(
            lambda: any(storage.glob("stages/codec/*/manifest.json")), 300, lambda: running(process)
        )
    finally:
        process.kill()
        process.wait()
    return storage


@pytest.fixture(scope="module")
def swept(killed: Path, command: Build, execute: Sweep) -> tuple[Path, str]:
    """The same storage after the same command ran again, and what that printed."""
    assert not (killed / "smoke" / "points.parquet").exists()
    before = {p: p.stat().st_mtime_ns for p in killed.glob("stages/*/*/manifest.json")}
    assert before
    done = execute(command(killed))
    assert done.returncode == 0, done.stderr + done.stdout
    for path, modified in before.items():
        assert path.stat().st_mtime_ns == modified, f"{path} was made again"
    return killed, done.stdout


def test_a_killed_sweep_is_finished_by_the_same_command(swept: tuple[Path, str]) -> None:
    storage, _ = swept
    points = pd.read_parquet(storage / "smoke" / "points.parquet")
    assert points.point_key.nunique() == POINTS
    assert not points.duplicated(["point_key", "mllm", "task", "metric"]).any()
    found = manifest(storage)
    assert len(found["expected"]) == POINTS
    assert found["missing"] == []
    assert set(found["points"]) == set(points.point_key)
    assert not list((storage / "tmp").iterdir())
    assert not list((storage / "work").iterdir())


def test_mlflow_has_one_complete_child_per_point_under_one_parent(swept: tuple[Path, str]) -> None:
    storage, _ = swept
    found = runs(storage)
    (parent,) = [run for run in found if run.data.tags["bridgesweep.kind"] == "sweep"]
    codecs = [run for run in found if run.data.tags["bridgesweep.kind"] == "codec"]
    children = [run for run in found if run is not parent and run not in codecs]
    keys = collections.Counter(run.data.tags["bridgesweep.point_key"] for run in children)
    assert set(keys.values()) == {1}
    assert set(keys) == set(manifest(storage)["points"])
    assert parent.data.metrics == {"points_complete": POINTS, "points_total": POINTS}
    assert {run.data.params["lmbda"] for run in codecs} == {"0.002", "0.02"}
    for run in codecs:
        assert {"train/loss", "train/val_loss", "train/lr"} <= set(run.data.metrics)
    for run in codecs + children:
        assert run.info.status == "FINISHED"
        assert run.data.tags["bridgesweep.status"] == "complete"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    for run in children:
        assert {"bpp", "vqa/accuracy", "captioning/cider", "rec/accuracy_at_0.5"} <= set(
            run.data.metrics
        )
    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    names = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "points.parquet", "points.csv", "sweep.json", "plots"} <= names
    points = pd.read_parquet(storage / "smoke" / "points.parquet")
    assert set(points.run_id) == {run.info.run_id for run in children}


def test_the_output_is_calm_and_ends_with_where_things_are(swept: tuple[Path, str]) -> None:
    _, said = swept
    lines = [line for line in said.splitlines() if line]
    events = [line for line in lines if line.startswith("[")]
    table = lines[len(events) :]
    assert lines[: len(events)] == events, "somebody else printed something"
    assert any(line.startswith("report") and "report.html" in line for line in table)
    assert any(
        re.match(r"MLflow  \S*mlflow ui --backend-store-uri sqlite:", line) for line in table
    )
    for word in ("ray", "Tune", "Trial", "WARNING", "warnings.warn"):
        assert word not in "\n".join(events)


def test_bpp_of_uncompressed_is_24_and_of_the_others_the_bytes_written(
    swept: tuple[Path, str],
) -> None:
    points = pd.read_parquet(swept[0] / "smoke" / "points.parquet")
    bound = points[points.scenario == "uncompressed"]
    assert set(bound.bpp) == {24.0}
    images = pd.concat(
        [pd.read_parquet(p) for p in swept[0].glob("stages/evaluation/*/images.parquet")]
    )
    others = images[images.bpp != 24]
    assert (others.bpp == 8 * others.n_bytes / 128**2).all()


def test_example_images_are_files_that_points_share_and_panels_show(
    swept: tuple[Path, str],
) -> None:
    from analysis import assemble, read_sweep
    from analysis.qualitative.matched_rate import panels
    from trainables.datasets.arrays import decode_image

    storage, _ = swept
    points = manifest(storage)["points"]
    shown = {
        (made["spec"]["scenario"], made["spec"]["lmbda"]): made["examples"][0]["images"][0]
        for made in points.values()
    }
    assert len(shown) == POINTS
    assert len({image["input"] for image in shown.values()}) == 1
    for lmbda in (0.002, 0.02):
        assert shown["d1", lmbda]["decoded"] == shown["reconstruction", lmbda]["decoded"]
        assert shown["d2", lmbda]["decoded"] != shown["d1", lmbda]["decoded"]
        assert shown["d3", lmbda]["decoded"] is None
    images = [i for p in points.values() for example in p["examples"] for i in example["images"]]
    named = {image[part] for image in images for part in ("input", "decoded")} - {None}
    files = (storage / "smoke" / "examples" / "images").iterdir()
    assert named == {f"examples/images/{file.name}" for file in files}
    (panel,) = panels(assemble(read_sweep(str(storage / "smoke")), 2))
    (world,) = storage.glob("stages/test_images/*/images_test.parquet")
    given = pd.read_parquet(world).set_index("image_id")["png"]
    assert (panel.pixels == decode_image(given[panel.image])).all()
    assert {one.scenario for one in panel.shown} == {key[0] for key in shown}
    assert all(one.answers for one in panel.shown)


def test_rate_distortion_on_a_folder_finds_the_sweep_s_codecs(
    swept: tuple[Path, str], tmp_path: Path
) -> None:
    """On a test image, written as a file, each codec writes as many bytes as in the evaluation."""
    from trainables.commands.rd_eval import measure
    from trainables.commands.rd_sources import find_sources

    storage, folder = swept[0], tmp_path / "folder"
    (world,) = storage.glob("stages/test_images/*/images_test.parquet")
    image = pd.read_parquet(world).iloc[0]
    folder.mkdir()
    (folder / "image.png").write_bytes(image["png"])
    rows = measure(find_sources(str(storage / "smoke")), folder, tmp_path / "out")
    assert [row.scenario for row in rows] == ["base"] * 2 + ["d2"] * 2 + ["d3"] * 2
    known = {}
    for made in manifest(storage)["points"].values():
        stage = next(s for s in made["provenance"]["stages"] if s.startswith("stages/evaluation"))
        images = pd.read_parquet(storage / stage / "images.parquet").set_index("image_id")
        known[made["spec"]["scenario"], made["spec"]["lmbda"]] = images.loc[image["image_id"]]
    for row in rows:
        scenario = "reconstruction" if row.scenario == "base" else row.scenario
        expected = known[scenario, row.lmbda]
        assert row.n_bytes == expected["n_bytes"]
        if row.scenario != "d3":  # there the PSNR is of values that are not rounded to 8 bits
            assert row.psnr == pytest.approx(expected["psnr"], abs=0.05)


def test_asking_again_runs_nothing_and_changes_no_point(
    swept: tuple[Path, str], command: Build, execute: Sweep
) -> None:
    storage, _ = swept
    before = (storage / "smoke" / "points.parquet").read_bytes()
    count = len(runs(storage))
    done = execute(command(storage))
    assert done.returncode == 0, done.stderr
    assert "jobs to do" not in done.stdout
    assert (storage / "smoke" / "points.parquet").read_bytes() == before
    assert len(runs(storage)) == count
    plan = execute(command(storage, "--plan"))
    assert f"{POINTS} of them complete; 0 of" in plan.stdout


def test_a_point_that_diverges_fails_alone_and_is_named(
    swept: tuple[Path, str], command: Build, execute: Sweep
) -> None:
    storage, _ = swept
    settings = ["--name", "broken", "--set", "d2.lr=1.0e+30", "--set", "d2.grad_clip=null"]
    settings += ["--only", "scenario=d2,d3", "--only", "lambda=0.02"]
    done = execute(command(storage, *settings))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "hyperprior d2 lambda=0.02 seed=0" in done.stderr
    (missing,) = manifest(storage, "broken")["missing"]
    assert missing["scenario"] == "d2"
    assert "Diverged" in missing["reason"]
    log = Path(missing["log"]).read_text()
    assert log.count("Traceback") == 1, "it would diverge again"
    points = pd.read_parquet(storage / "broken" / "points.parquet")
    assert "d3" in set(points.scenario)
    failed = [run for run in runs(storage) if run.info.status == "FAILED"]
    tags = sorted(run.data.tags["bridgesweep.kind"] for run in failed)
    assert tags == ["point", "sweep"]


def test_a_second_driver_of_another_space_is_refused_and_ctrl_c_says_how_to_continue(
    tmp_path: Path,
    command: Build,
    execute: Sweep,
    environment: dict[str, str],
) -> None:
    process = start(command(tmp_path), environment, subprocess.PIPE)
    try:
        lease = tmp_path / "leases" / "sweep-smoke" / "000001.json"
        wait_until(lease.exists, 60, lambda: running(process))
        second = execute(command(tmp_path, "--set", "d1.steps=9"))
        assert second.returncode == 2
        assert f"process {process.pid} " in second.stderr
        assert "d1.steps = 9, in the sweep that runs 8" in second.stderr
        time.sleep(5)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "python -m orchestrator.sweep smoke" in said, "the command that continues"
    assert "Traceback" not in said


def test_a_point_no_cluster_node_can_hold_is_said_before_any_work(
    tmp_path: Path, command: Build, execute: Sweep
) -> None:
    done = execute(command(tmp_path, "--set", "resources.cpus_per_worker=4096"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "cpus_per_worker = 4096" in done.stderr
    assert "room for 0" in done.stderr


@pytest.mark.slow
def test_two_train_workers_give_the_same_weights_as_a_trial_s_process(
    swept: tuple[Path, str], tmp_path: Path, command: Build, execute: Sweep
) -> None:
    from safetensors.numpy import load_file

    kinds = ("train_images", "test_images", "episodes", "codec", "features", "latents", "text")
    for kind in kinds:
        shutil.copytree(swept[0] / "stages" / kind, tmp_path / "stages" / kind)
    settings = ["--set", "resources.workers_per_point=2", "--set", "tasks=[vqa]"]
    settings += ["--only", "scenario=d1"]
    done = execute(command(tmp_path, *settings, "--only", "lmbda=0.02"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list((tmp_path / "train").iterdir())
    (point,) = tmp_path.glob("stages/point/*")
    by_workers, by_one = point, swept[0] / "stages" / "point" / point.name
    losses = [
        [json.loads(row)["loss"] for row in (made / "curve.jsonl").read_text().splitlines()]
        for made in (by_workers, by_one)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    weights = load_file(by_one / "model.safetensors")
    for name, value in load_file(by_workers / "model.safetensors").items():
        if name.endswith("qkv.bias"):
            # Keys' biases change nothing: their gradient is a rounding error alone.
            keys = slice(len(value) // 3, 2 * len(value) // 3)
            value[keys] = weights[name][keys]
        # Adam turns a gradient's rounding error near zero into a part of its step (lr = 1e-3).
        assert value == pytest.approx(weights[name], abs=5e-4)


@pytest.mark.slow
def test_a_search_with_train_workers_gets_the_losses_of_each_step_and_stops_trials(
    swept: tuple[Path, str], command: Build, execute: Sweep
) -> None:
    storage, _ = swept
    settings = [
        *("codecs.0.lambdas=[0.02]", "scenarios=[d1]", "baselines=[]", "d1.validate_every=2"),
        *("d1.checkpoint_every=2", "resources.workers_per_point=1", "tasks=[vqa]"),
        "search={algorithm: asha, trials: 3, seed: 5, over: {d1.lr: {log_uniform: [1e-5, 0.1]}}}",
    ]
    more = (x for s in settings for x in ("--set", s))
    done = execute(command(storage, "--name", "by-workers", *more))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((storage / "by-workers" / "search.json").read_text())
    assert len(found["trials"]) == 3
    for trial in found["trials"]:
        steps = [step for step, _ in trial["curve"]]
        if trial["status"] == "finished":
            info = storage / "stages" / "point" / trial["key"] / "info.json"
            assert json.loads(info.read_text())["val_loss"] == trial["val_loss"]
            assert steps == [2, 4, 6, 8]
        else:
            assert (trial["status"], steps) == ("stopped", [2, 4, 6, 8][: len(steps)])
            assert len(steps) < 4
    assert not list((storage / "train").glob("*")), "trials leave no checkpoints"


def test_a_search_trains_the_points_under_other_settings_and_says_the_best(
    swept: tuple[Path, str], command: Build, execute: Sweep
) -> None:
    storage, _ = swept
    settings = [
        *("scenarios=[d1]", "baselines=[]", "d1.validate_every=2", "tasks=[vqa]"),
        "search={algorithm: asha, trials: 4, over: {d1.lr: {log_uniform: [1.0e-5, 1.0e-1]}}}",
    ]
    again = command(storage, "--name", "searched", *(x for s in settings for x in ("--set", s)))
    before = set((storage / "work").glob("*"))
    done = execute(again)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((storage / "searched" / "search.json").read_text())
    assert len(found["trials"]) == 4
    finished = [trial for trial in found["trials"] if trial["status"] == "finished"]
    assert found["best"] in finished
    assert found["best"]["val_loss"] == min(trial["val_loss"] for trial in finished)
    losses = {}
    for info in (storage / "stages" / "point").glob("*/info.json"):
        made = json.loads((info.parent / "manifest.json").read_text())
        if made["subject"]["scenario"] == "d1":
            rate, lmbda = made["spec"]["train"]["lr"], made["subject"]["lmbda"]
            losses[rate, lmbda] = json.loads(info.read_text())["val_loss"]
    for trial in finished:
        rate = trial["settings"]["d1.lr"]
        mean = (losses[rate, 0.002] + losses[rate, 0.02]) / 2
        assert trial["val_loss"] == pytest.approx(mean, rel=1e-12)
        assert [step for step, _ in trial["curve"]] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert [row["best"] for row in found["by_point"]] == [
        losses[found["best"]["settings"]["d1.lr"], lmbda] for lmbda in (0.002, 0.02)
    ]
    for trial in found["trials"]:
        assert trial["status"] == "finished" or trial["curve"][-1][0] < 16
    assert set((storage / "work").glob("*")) == before, "trials leave no checkpoints"
    assert f"--set d1.lr={json.dumps(found['best']['settings']['d1.lr'])}" in done.stdout
    tags = [run.data.tags for run in runs(storage)]
    trial_runs = [
        run
        for run in tags
        if run["bridgesweep.kind"] == "trial" and run["bridgesweep.sweep"] == "searched"
    ]
    assert len(trial_runs) == 4
    assert "trials by asha\n" not in execute(again).stdout, "nothing is searched twice"
