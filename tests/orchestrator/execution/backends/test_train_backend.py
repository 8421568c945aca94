"""Ray Train's failures, as the trial that waits for its workers treats them; without Ray."""

from __future__ import annotations

import asyncio
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ray.exceptions import ActorDiedError
from ray.train import ControllerError, WorkerGroupError
from ray.train._internal.session import _TrainSession
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerGroupStartupTimeoutError,
)
from ray.util import queue as ray_queue

from orchestrator.execution import failures
from orchestrator.execution.backends import train as train_module
from orchestrator.execution.backends.checkpoint_list import keep_list, mend_list
from orchestrator.execution.backends.local import LocalBackend
from orchestrator.execution.backends.train import WAITING, TrainBackend
from orchestrator.execution.failures import Cause, GaveUpError
from orchestrator.execution.job_steps import Json, Settings, accumulation_factor
from orchestrator.plan.jobs import Job, Plan
from orchestrator.storage.files import StoreError
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points
from tests.orchestrator.waiting import wait_until
from trainables.training.sealing import seal


def in_worker(error: Exception) -> Exception:
    return WorkerGroupError("...", {0: UserExceptionWithTraceback(error, "...")})


class Trainer:
    """Fails with each error in turn, then succeeds."""

    def __init__(self, errors: Iterator[Exception]) -> None:
        self._errors = errors

    def fit(self) -> None:
        for error in self._errors:
            raise error


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for module in (failures, train_module):
        monkeypatch.setattr(module, "node_ids", lambda: frozenset({"head"}))
    space = load_space("smoke", ("resources.workers_per_point=1", "resources.max_failures=0"))
    plan = Plan(space, operating_points(space), {}, Store(str(tmp_path)))
    return Settings(space, str(tmp_path), plan.jobs, {})


def job_of(settings: Settings) -> Job:
    return next(job for job in settings.jobs.values() if job.kind == "codec")


def train(settings: Settings, monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> list[Json]:
    """Train with these failures, one a try; returns the progress."""
    left, job, told = iter(errors), job_of(settings), list[Json]()
    monkeypatch.setattr(TrainBackend, "_trainer", lambda self, job: Trainer(left))
    with settings.store.work(job.key) as (work, lease):
        TrainBackend(settings).train(job, work, lease, told.append)
    return told


def test_workers_without_room_are_waited_for_and_shown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [ControllerError(WorkerGroupStartupTimeoutError(1)) for _ in range(5)]
    assert train(settings, monkeypatch, *errors) == 6 * [WAITING]
    monkeypatch.setattr(failures, "ROOM_S", 0.0)
    with pytest.raises(GaveUpError) as caught:
        train(settings, monkeypatch, *errors)
    assert caught.value.failure.cause is Cause.NO_ROOM


def test_a_worker_that_reached_no_file_leaves_its_tries_to_the_runner(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="weights"):
        train(settings, monkeypatch, in_worker(FileNotFoundError("weights")))


LIST = "checkpoint_manager_snapshot.json"


@pytest.mark.parametrize("content", [b"", b'{"checkpoint_res'])
def test_a_list_of_checkpoints_that_was_cut_costs_the_training_and_not_the_point(
    content: bytes, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray Train's own reader refuses it, and with it the start of its controller."""
    store, key = settings.store, job_of(settings).key
    name = f"train/{key}/{LIST}"
    store.write(name, content)
    store.write(f"train/{key}/checkpoint_2/model.pt", b"fills the disk")
    train(settings, monkeypatch)
    assert store.names(f"train/{key}") == []
    assert "the training begins anew" in (store.read(f"logs/{key}.log") or b"").decode()
    store.write(name, b'{"checkpoint_results": []}')
    train(settings, monkeypatch)
    assert store.exists(name)


def test_a_cut_list_of_checkpoints_gives_way_to_the_one_before_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both written by Ray Train's own code, which then reads what is in its place."""
    from ray.train import Checkpoint, CheckpointConfig
    from ray.train.v2._internal.exceptions import CheckpointManagerInitializationError
    from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import CheckpointManager
    from ray.train.v2._internal.execution.storage import StorageContext
    from ray.train.v2._internal.execution.training_report import _TrainingReport

    store, key = settings.store, job_of(settings).key
    context = StorageContext(f"{store.uri}/train", key)

    def manager() -> CheckpointManager:
        return CheckpointManager(CheckpointConfig(num_to_keep=1), context)

    def report(to: CheckpointManager, name: str) -> None:
        store.write(f"train/{key}/{name}/model.pt", name.encode())
        checkpoint = Checkpoint(f"{store.uri}/train/{key}/{name}")
        reported = _TrainingReport(checkpoint=checkpoint, metrics={}, validation=False)

        async def register() -> None:  # it tells a task that waits, of which there is none
            to.register_checkpoint(reported)

        asyncio.run(register())

    first = manager()
    report(first, "checkpoint_1")
    report(first, "checkpoint_2")
    keep_list(store, key)
    report(first, "checkpoint_3")  # whose list the full disk cuts, before it deletes the one before
    store.write(f"train/{key}/checkpoint_2/model.pt", b"checkpoint_2")
    whole = store.read(f"train/{key}/{LIST}") or b""
    store.write(f"train/{key}/{LIST}", whole[:100])
    with pytest.raises(CheckpointManagerInitializationError, match="Unterminated"):
        manager()
    train(settings, monkeypatch)
    latest = manager().latest_checkpoint_result
    assert latest is not None
    assert latest.checkpoint.path.endswith("checkpoint_2")
    assert not store.exists(f"train/{key}/checkpoint_3")
    assert "checkpoint_2, is in its place" in (store.read(f"logs/{key}.log") or b"").decode()


@pytest.mark.parametrize("place", ["/home/somebody/thesis", "../../../thesis", "checkpoint_1/.."])
@pytest.mark.parametrize("at", ["disk", "memory"])
def test_a_list_that_names_a_directory_elsewhere_is_removed_before_train_deletes_that(
    place: str, at: str, tmp_path: Path
) -> None:
    store = Store(str(tmp_path) if at == "disk" else f"memory://{tmp_path.name}")
    other = {"version": 0, "checkpoint_dir_name": place, "metrics": {}}
    content = {"checkpoint_results": [other], "latest_checkpoint_result": other}
    store.write(f"train/key/{LIST}", json.dumps(content).encode())
    done = mend_list(store, "key")
    assert done is not None
    assert done.endswith("is damaged; it was removed: the training begins anew")
    assert not store.exists(f"train/key/{LIST}")


def test_a_link_among_the_files_of_a_run_is_not_followed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train would empty the file that its marker leads to."""
    home = tmp_path / "bashrc"
    home.write_text("mine")
    directory = tmp_path / "train" / job_of(settings).key
    directory.mkdir(parents=True)
    (directory / ".validate_storage_marker").symlink_to(home)
    with pytest.raises(StoreError, match="is a link"):
        train(settings, monkeypatch)
    assert home.read_text() == "mine"


def test_workers_out_of_memory_are_tried_once_with_half_the_memory(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory() -> Exception:
        return in_worker(torch.OutOfMemoryError("CUDA out of memory"))

    train(settings, monkeypatch, no_memory())
    assert accumulation_factor(settings.store, job_of(settings).key) == 2
    with pytest.raises(GaveUpError) as caught:
        train(settings, monkeypatch, no_memory(), no_memory())
    assert caught.value.failure.cause is Cause.OUT_OF_MEMORY


def test_a_silent_worker_is_named_by_what_it_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, line = job_of(settings).key, "no progress for 9 s: train step 10 of 20"
    settings.store.write(f"work/{key}/silent-{key}.txt", line.encode())
    with pytest.raises(GaveUpError) as caught:
        train(settings, monkeypatch, WorkerGroupError("...", {0: ActorDiedError()}))
    assert caught.value.failure.cause is Cause.SILENT
    assert str(caught.value) == line


def test_a_point_that_trains_nothing_is_made_without_workers_as_they_would_make_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    trainer = SimpleNamespace(fit=lambda: asked.append("workers"))
    monkeypatch.setattr(TrainBackend, "_trainer", lambda self, job: trainer)
    jobs = {
        job.subject.point.scenario: job
        for job in settings.jobs.values()
        if job.subject.point is not None
    }
    other = Settings(settings.space, str(tmp_path / "other"), settings.jobs, {})
    contents = []
    for backend in (TrainBackend(settings), LocalBackend(other)):
        store, job = backend._settings.store, jobs["uncompressed"]
        with store.work(job.key) as (work, lease):
            backend.train(job, work, lease, lambda metrics: None)
        files = {file.name: file for file in store.fetch(job.stage.path).iterdir()}
        assert files.keys() == {"info.json", "manifest.json"}
        about = json.loads(files["manifest.json"].read_text())
        fixed = {name: about[name] for name in ("spec", "inputs", "subject", "version", "seconds")}
        contents.append((files["info.json"].read_bytes(), fixed))
    assert contents[0] == contents[1]
    assert not asked
    with settings.store.work(jobs["d1"].key) as (work, lease):
        TrainBackend(settings).train(jobs["d1"], work, lease, lambda metrics: None)
    assert asked == ["workers"]


class Reports(queue.Queue[Json]):
    """Ray's queue of what workers report; whoever takes a report from it is slow to pass it on."""

    def __init__(self, session: _TrainSession) -> None:
        super().__init__(1)
        self._session = session

    def get(self, block: bool = True, timeout: float | None = None) -> Json:
        try:
            report = super().get(block, timeout)
        except queue.Empty:
            raise ray_queue.Empty from None
        # The moment at which the trial's process has reported, or waits for its turn.
        if report:
            wait_until(lambda: self._session.result_queue.full() or not self.empty(), 30)
        return report


def test_a_worker_s_last_report_and_the_trial_s_next_one_do_not_block_the_session(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")
    job = job_of(settings)
    trainer = SimpleNamespace(fit=lambda: session._inter_actor_queue.put({"step": 1}))
    monkeypatch.setattr(TrainBackend, "_trainer", lambda self, job: trainer)

    def run() -> None:
        with settings.store.work(job.key) as (work, lease):
            TrainBackend(settings).train(job, work, lease, lambda metrics: None)
        session.report({"step": 2})

    storage = SimpleNamespace(
        trial_working_directory=str(tmp_path), persist_artifacts=lambda force: None
    )
    session = _TrainSession(
        *(run, None, None, None, None, None),
        storage=storage,  # type: ignore[arg-type]
        synchronous_result_reporting=True,
    )
    session._inter_actor_queue = Reports(session)  # type: ignore[assignment]
    monkeypatch.setattr("ray.train._internal.session._session", session)
    session.start()
    steps: list[int | None] = []

    def take() -> None:
        while (result := session.get_next()) is not None:
            steps.append(result.metrics["step"])
        steps.append(None)

    threading.Thread(target=take, daemon=True).start()
    wait_until(lambda: None in steps, 30)
    assert steps == [1, 2, None]


def test_a_trial_whose_lease_is_taken_ends_with_its_workers() -> None:
    script = """
import time
from types import SimpleNamespace
from orchestrator.execution.backends import train
train.LOOK_S = 0.1
with train.ended_with(SimpleNamespace(is_taken=True), SimpleNamespace(key="k", label="d1")):
    time.sleep(600)
"""
    command = [sys.executable, "-c", script]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert child.returncode == 1, child.stderr
    assert "another process trains d1" in child.stdout


@pytest.mark.parametrize(("is_whole", "steps"), [(True, [1, 2]), (False, [])])
def test_the_curve_goes_on_behind_a_checkpoint_that_is_whole_and_else_begins_anew(
    is_whole: bool, steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, scratch = tmp_path / "kept", tmp_path / "scratch"
    kept.mkdir()
    scratch.mkdir()
    (kept / "checkpoint.pt").write_bytes(b"weights")
    seal(kept, 2)
    (kept / "curve.jsonl").write_text("".join(f'{{"step": {n}, "loss": 0.5}}\n' for n in (1, 2, 3)))
    if not is_whole:
        (kept / "checkpoint.pt").write_bytes(b"waights")
    ray_context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(train_module.train, "get_context", lambda: ray_context)
    monkeypatch.setattr(train_module, "get_device", lambda: torch.device("cpu"))
    checkpoint = SimpleNamespace(to_directory=lambda path: str(kept))
    monkeypatch.setattr(train_module.train, "get_checkpoint", lambda: checkpoint)
    context = train_module.TrainContext(1, scratch, lambda metrics: None, 1)
    rows = context.curve.read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == steps
