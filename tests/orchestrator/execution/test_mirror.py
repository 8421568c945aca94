"""Work on a remote storage goes on at the newest state, on whichever node."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

import trainables.evaluation.evaluate
from orchestrator.execution.backends import local
from orchestrator.execution.backends.local import LocalBackend
from orchestrator.execution.job_steps import Settings
from orchestrator.execution.mirror import MirroredShards
from orchestrator.execution.silence import evaluate_watched
from orchestrator.plan.jobs import Job, Plan
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points
from tests.orchestrator.waiting import wait_until
from trainables.evaluation.shard_results import ShardResult, read_kept
from trainables.training.context import Context
from trainables.training.sealing import seal

URI = "memory://bucket/storage"


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Settings]:
    """Node name -> the settings with which its processes open the storage."""
    fsspec.filesystem("memory").store.clear()
    space = load_space("smoke")

    def on_node(name: str) -> Settings:
        store = Store(URI, cache=tmp_path / name)
        monkeypatch.setattr(Settings, "store", property(lambda settings: store))
        return Settings(space, URI, Plan(space, operating_points(space), {}, store).jobs, {})

    return on_node


def train_until(
    settings: Settings, job: Job, monkeypatch: pytest.MonkeyPatch, last: int
) -> tuple[int, list[int]]:
    """Train with a checkpoint each 10 steps, and be killed behind step `last`, or end at 50.

    Returns:
        The step that the training went on from, and the steps of the curve that it found.
    """
    found: list[tuple[int, list[int]]] = []

    def train_job(settings: Settings, store: Store, job: Job, out: Path, context: Context) -> None:
        kept, curve = context.latest_checkpoint(), work / "curve.jsonl"
        step = 0 if kept is None else int((kept / "checkpoint.pt").read_text())
        rows = curve.read_text().splitlines() if curve.exists() else []
        found.append((step, [json.loads(row)["step"] for row in rows]))
        while step < last:
            step += 10
            scratch = out.with_name("scratch")
            scratch.mkdir(exist_ok=True)
            (scratch / "checkpoint.pt").write_text(str(step))
            seal(scratch, step)
            context.report({"step": step, "steps": 50}, scratch)
        if step < 50:
            raise KeyboardInterrupt
        (out / "info.json").write_text(json.dumps({"seconds": 1.0}))

    monkeypatch.setattr(local, "train_job", train_job)
    with settings.store.work(job.key) as (work, lease), contextlib.suppress(KeyboardInterrupt):
        LocalBackend(settings).train(job, work, lease, lambda metrics: None)
    return found[0]


def test_the_newest_checkpoint_wins_with_its_curve(
    nodes: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = nodes("one")
    job = next(job for job in settings.jobs.values() if job.kind == "codec")
    assert train_until(settings, job, monkeypatch, last=20) == (0, [])
    assert train_until(nodes("two"), job, monkeypatch, last=40) == (20, [10, 20])
    # The first node's own checkpoint is of step 20.
    settings = nodes("one")
    assert train_until(settings, job, monkeypatch, last=50) == (40, [10, 20, 30, 40])
    curve = settings.store.fetch(job.stage.path) / "curve.jsonl"
    assert [json.loads(row)["step"] for row in curve.read_text().splitlines()] == [
        10,
        20,
        30,
        40,
        50,
    ]


def test_what_could_not_be_uploaded_is_newer(
    nodes: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = nodes("one")
    job = next(job for job in settings.jobs.values() if job.kind == "codec")
    train_until(settings, job, monkeypatch, last=10)
    with monkeypatch.context() as outage:
        outage.setattr(Store, "save_work", lambda *arguments: None)
        train_until(settings, job, monkeypatch, last=30)
    assert train_until(nodes("one"), job, monkeypatch, last=30) == (30, [10, 20, 30])


@pytest.mark.parametrize("name", ["step.json", "checkpoint.pt", "curve.jsonl"])
def test_a_damaged_checkpoint_in_the_storage_is_not_used(
    name: str,
    nodes: Callable[[str], Settings],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = nodes("one")
    job = next(job for job in settings.jobs.values() if job.kind == "codec")
    train_until(settings, job, monkeypatch, last=20)
    files = fsspec.filesystem("memory")
    for file in files.find(f"/bucket/storage/work/{job.key}/checkpoint"):
        if file.endswith(f"/{name}"):
            size = files.size(file)
            if name == "curve.jsonl":
                files.rm_file(file)
            else:
                files.pipe_file(file, b"0" * size)
        elif file.endswith(".whole.json") and name == "curve.jsonl":
            listed = json.loads(files.cat_file(file))
            del listed[name]
            files.pipe_file(file, json.dumps(listed, sort_keys=True).encode())
    assert train_until(nodes("two"), job, monkeypatch, last=30) == (0, [])
    assert f"work/{job.key}/checkpoint is damaged" in caplog.text
    # Its successor has replaced it.
    assert train_until(nodes("three"), job, monkeypatch, last=50) == (30, [10, 20, 30])


def test_a_damaged_checkpoint_of_this_node_gives_way_to_that_of_the_storage(
    nodes: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = nodes("one")
    job = next(job for job in settings.jobs.values() if job.kind == "codec")
    train_until(settings, job, monkeypatch, last=20)
    here = settings.store.local("work", job.key) / "checkpoint" / "step.json"
    here.write_bytes(b"")
    assert train_until(nodes("one"), job, monkeypatch, last=30) == (20, [10, 20])


def test_what_is_no_directory_of_a_shard_is_not_taken(tmp_path: Path) -> None:
    """Others may write to a storage on a disk; its links could lead to files of this user."""
    store, shard = Store(str(tmp_path)), f"shard-{0:016x}"
    other, work = (store.local("work", "key") / f"evaluation-x{part}" for part in ("-1-of-2", ""))
    (other / shard).mkdir(parents=True)
    work.mkdir()
    (other / shard / "answered.json").write_text("{}")
    (other / shard / "link").symlink_to(tmp_path)
    os.mkfifo(other / shard / "pipe")
    (other / f"shard-{1:016x}").write_text("x")
    (other / f"shard-{2:016x}").symlink_to(other / shard)
    (work / f"{shard}.part").write_text("x")
    MirroredShards(store, "key", work).take_parts()
    assert {path.relative_to(work).as_posix() for path in work.rglob("*")} == {
        shard,
        f"{shard}/answered.json",
    }


def test_what_a_point_is_measured_on_is_fetched_while_it_trains(
    nodes: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU that the job holds must not wait for it between training and evaluation."""
    settings = nodes("one")
    store, job = settings.store, next(job for job in settings.jobs.values() if job.passes)
    read = {stage.path for _, made in job.evaluations for stage in made.inputs} - {job.stage.path}
    assert any("test_images" in path for path in read)
    for path in read:
        out = store.new(path)
        (out / "file").write_text(path)
        store.commit(path, out, {})

    def train_job(settings: Settings, store: Store, job: Job, out: Path, context: Context) -> None:
        wait_until(lambda: all((store.local(path) / "file").exists() for path in read), 60)
        (out / "info.json").write_text(json.dumps({"seconds": 1.0}))

    monkeypatch.setattr(local, "train_job", train_job)
    with store.work(job.key) as (work, lease):
        LocalBackend(settings).train(job, work, lease, lambda metrics: None)
    assert store.has(job.stage.path)


def test_parts_of_an_evaluation_on_one_node_take_the_same_shards_each_for_itself(
    nodes: Callable[[str], Settings],
) -> None:
    """As where it was begun undivided, on another node."""
    store, shards = nodes("one").store, [f"shard-{number:016x}" for number in range(20)]
    with store.evaluation_work("key", "whole") as (work, lease):
        for shard in shards:
            (work / shard).mkdir(parents=True)
            (work / shard / "result.json").write_text(shard)
        MirroredShards(store, "key", work).save(lease)
    store = nodes("two").store
    base = store.local("work", "key")
    names = [f"evaluation-whole-{part}-of-8" for part in range(8)]
    parts = [MirroredShards(store, "key", base / name) for name in names]
    for part in parts:
        part.take("evaluation-whole")
    for part in parts:
        assert sorted(path.name for path in part.work.iterdir()) == shards
    assert sorted(path.name for path in base.iterdir()) == names, "nothing else is left here"


def test_a_shard_that_is_damaged_in_the_storage_is_replaced_there(
    nodes: Callable[[str], Settings],
) -> None:
    result, shard, files = ShardResult({"a": "x"}), f"shard-{0:016x}", fsspec.filesystem("memory")
    for name in ("one", "two", "three"):
        store = nodes(name).store
        with store.evaluation_work("key", "whole") as (work, lease):
            mirrored = MirroredShards(store, "key", work)
            mirrored.load()
            assert read_kept(work) == ([result] if name == "three" else [])
            result.write(work / shard)
            mirrored.save(lease)
        if name == "one":
            (file,) = (f for f in files.find("/bucket") if f.endswith("/answered.json"))
            files.pipe_file(file, b"0" * files.size(file))


def test_an_evaluation_goes_on_behind_the_shards_of_another_node(
    nodes: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured: list[str] = []

    def evaluate_point(*arguments: object) -> dict[str, float]:
        """Two shards a node; four in all."""
        evaluations, work, report = arguments[2], arguments[4], arguments[6]
        assert isinstance(evaluations, list)
        assert isinstance(work, Path)
        assert callable(report)
        count = 0
        for number in range(4):
            shard = work / f"shard-{number:016x}"
            if not shard.is_dir():
                if count == 2:
                    raise KeyboardInterrupt
                count += 1
                shard.mkdir(parents=True)
                (shard / "result.json").write_text(str(number))
                measured.append(shard.name)
            report((number + 1) / 4)
        text = "".join(p.read_text() for p in sorted(work.glob("*/*.json")))
        for evaluation in evaluations:
            (evaluation.out / "numbers").write_text(text)
        return {evaluation.measurement.task: 1.0 for evaluation in evaluations}

    monkeypatch.setattr(trainables.evaluation.evaluate, "evaluate_point", evaluate_point)
    for name in ("one", "two"):
        settings = nodes(name)
        job = next(job for job in settings.jobs.values() if job.passes)
        with monkeypatch.context() as inputs:
            inputs.setattr(Store, "fetch", lambda store, stage: tmp_path)
            try:
                evaluate_watched(settings, job, job.passes[0], lambda metrics: None)
            except KeyboardInterrupt:
                assert name == "one"
    assert measured == [f"shard-{number:016x}" for number in range(4)]
    for _, stage in job.evaluations:
        assert (settings.store.fetch(stage.path) / "numbers").read_text() == "0123"
    assert not list((tmp_path / "two" / "work" / job.key).iterdir())
    settings.store.remove_work(job.key)
    assert not settings.store.below(f"work/{job.key}")
