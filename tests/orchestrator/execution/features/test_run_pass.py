"""Shards of features and latents without Ray: what an actor does, what the driver makes of it."""

import errno
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.execution.backends.local import LocalBackend
from orchestrator.execution.environment import FULL_DISK
from orchestrator.execution.failures import Cause, JobFailure
from orchestrator.execution.features import run_pass as pass_module
from orchestrator.execution.features import steps
from orchestrator.execution.features.run_pass import run_pass
from orchestrator.execution.features.shards import Shard, finished_shards, shards
from orchestrator.execution.features.steps import (
    ComputeStep,
    Outcome,
    ShardRow,
    read_images,
    write_file,
)
from orchestrator.execution.features.stream import Room
from orchestrator.execution.job_run import run_job
from orchestrator.execution.job_steps import Settings
from orchestrator.plan.jobs import Job, Plan
from orchestrator.plan.room import Ask
from orchestrator.storage.lease import Lease, LeaseLostError
from orchestrator.storage.provenance import fingerprints
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points
from tests.orchestrator.models import settings_of
from tests.trainables.image_folders import write_folder
from trainables.datasets.images.image_store import image_column
from trainables.datasets.images.source import read_source

SETTINGS = ("data.train=20", "data.val=4", "data.test=2", "data.episodes=1", "data.shard_size=8")


def sweep(models: tuple[Path, Path], storage: Path, *more: str) -> tuple[Settings, Job]:
    """A sweep whose world is made, and its job of the teacher's features."""
    settings = settings_of(storage, models, *SETTINGS, *more)
    for job in settings.jobs.values():
        if job.kind == "scenes":
            run_job(settings, job.key, lambda: LocalBackend(settings), lambda metrics: None)
    (features,) = (job for job in settings.jobs.values() if job.kind == "features")
    return settings, features


def damage(settings: Settings, job: Job, *rows: int) -> None:
    """Overwrite the PNGs of training images with noise, which the stage had from the start."""
    file = settings.store.fetch(job.inputs["world"].path) / "images_train.parquet"
    table = pq.read_table(file)
    images = table.column("png").to_pylist()
    for row in rows:
        images[row] = images[row][:60] + b"\0" * 40
    column = table.schema.get_field_index("png")
    file_bytes = io.BytesIO()
    pq.write_table(table.set_column(column, "png", pa.array(images, pa.binary())), file_bytes)
    file.write_bytes(file_bytes.getvalue())
    manifest = file.with_name("manifest.json")
    told = json.loads(manifest.read_text())
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    told["files"][file.name] |= {"bytes": file.stat().st_size, "sha256": checksum}
    manifest.write_text(json.dumps(told))


def compute(settings: Settings, actor: ComputeStep, shard: Shard) -> Outcome:
    """Take all steps with a shard, as Ray Data does."""
    block = read_images(ShardRow(shard).block(), settings)
    if settings.jobs[shard.key].kind != "images":
        block = actor(block)
    return Outcome.parse(ShardRow.of(write_file(block, settings)).outcome)


def in_process(
    monkeypatch: pytest.MonkeyPatch, lost: Callable[[Shard], bool] = lambda shard: False
) -> list[Shard]:
    """Take the steps in this process; returns the shards that the pass asks for.

    Args:
        lost: of which shards a process dies.
    """
    computed: list[Shard] = []

    def stream(
        settings: Settings, missing: Sequence[Shard], room: Room
    ) -> Iterator[tuple[Shard, Outcome]]:
        steps._input_directory.cache_clear()
        steps._loaded_index.cache_clear()
        actor = ComputeStep(settings)
        for shard in missing:
            computed.append(shard)
            if not lost(shard):
                yield shard, compute(settings, actor, shard)

    monkeypatch.setattr(pass_module, "stream", stream)
    monkeypatch.setattr(pass_module, "node_ids", frozenset)
    monkeypatch.setattr(pass_module, "is_one_lost", lambda nodes: False)
    return computed


def run(settings: Settings, *jobs: Job) -> dict[str, str | None]:
    reasons: dict[str, str | None] = {}

    def done(key: str, failure: JobFailure | None) -> None:
        reasons[key] = None if failure is None else failure.reason

    room, again = Room(1, 1, Ask(cpu=0.05)), list[tuple[str, str]]()
    run_pass(settings, jobs, room, done, lambda *shards: None, lambda *job: again.append(job))
    return reasons


def test_a_process_looks_at_a_stage_that_it_reads_once(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look reads the manifest and asks for every file, over the network."""
    settings, job = sweep(models, tmp_path)
    fetch, fetched = Store.fetch, list[str]()

    def count(store: Store, stage: str) -> Path:
        fetched.append(stage)
        return fetch(store, stage)

    steps._input_directory.cache_clear()
    monkeypatch.setattr(Store, "fetch", count)
    made = [read_images(ShardRow(shard).block(), settings) for shard in shards(settings, job)]
    assert len(made) == 4
    assert fetched == [job.inputs["world"].path]


def test_every_row_is_in_one_shard(models: tuple[Path, Path], tmp_path: Path) -> None:
    settings, job = sweep(models, tmp_path)
    ranges = [(s.split, s.start, s.stop) for s in shards(settings, job)]
    assert ranges == [
        ("train", 0, 8),
        ("train", 8, 16),
        ("train", 16, 20),
        ("val", 0, 4),
    ]
    (text,) = [j for j in settings.jobs.values() if j.kind == "text"]
    assert [shard.split for shard in shards(settings, text)] == ["text"]


def test_unreadable_images_are_skipped_counted_and_listed(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, job = sweep(models, tmp_path, "data.max_unreadable=0.1")
    damage(settings, job, 3, 17)
    in_process(monkeypatch)
    assert run(settings, job) == {job.key: None}
    stage = settings.store.fetch(job.stage.path)
    listed = json.loads((stage / "unreadable.json").read_text())
    assert [(split, image) for split, image, _ in listed] == [
        ("train", "train-000003"),
        ("train", "train-000017"),
    ]
    assert all(reason for _, _, reason in listed)
    rows = [pq.read_metadata(p).num_rows for p in sorted((stage / "train").iterdir())]
    assert rows == [7, 8, 3]
    manifest = settings.store.manifest(job.stage.path)
    assert (manifest["images"], manifest["unreadable"]) == (22, 2)


def test_more_unreadable_images_than_allowed_are_fatal_and_say_so(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, job = sweep(models, tmp_path, "data.max_unreadable=0.05")
    damage(settings, job, 3, 17)
    in_process(monkeypatch)
    reason = run(settings, job)[job.key]
    assert reason is not None
    assert re.search(r"2 of 24 .*8\.3%.*data\.max_unreadable .*5\.0%", reason)
    assert not settings.store.has(job.stage.path)
    log = (tmp_path / "logs" / f"{job.key}.log").read_text()
    assert "train-000003" in log


def test_shards_that_are_there_are_not_computed_again(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, job = sweep(models, tmp_path)
    asked = in_process(monkeypatch)
    first, second = shards(settings, job)[:2]
    actor = ComputeStep(settings)
    for shard in (first, second):
        compute(settings, actor, shard)
    (written,) = (tmp_path / "work" / job.key).rglob("train/part-00000.parquet")
    made = written.stat().st_mtime_ns
    # Killed between a shard's file and its report: that shard is not trusted.
    (tmp_path / "work" / job.key / "reports" / "train-8-16.json").unlink()
    assert run(settings, job) == {job.key: None}
    assert first not in asked
    assert second in asked
    stage = settings.store.fetch(job.stage.path)
    assert (stage / "train" / "part-00000.parquet").stat().st_mtime_ns == made
    assert not (tmp_path / "work" / job.key).exists()
    assert run(settings, job) == {job.key: None}
    assert len(asked) == 3


def test_a_pass_that_goes_on_with_shards_of_another_size_makes_every_row_once(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`data.shard_size` changes no key, so the work of an earlier try is found."""
    settings, job = sweep(models, tmp_path)
    actor = ComputeStep(settings)
    for shard in shards(settings, job)[:2]:
        assert compute(settings, actor, shard).finished is not None
    settings = settings_of(tmp_path, models, *SETTINGS, "data.shard_size=5")
    in_process(monkeypatch)
    assert run(settings, settings.jobs[job.key]) == {job.key: None}
    files = sorted((settings.store.fetch(job.stage.path) / "train").iterdir())
    assert [pq.read_metadata(file).num_rows for file in files] == [5, 5, 5, 5]
    ids = [i for file in files for i in pq.read_table(file).column("image_id").to_pylist()]
    assert ids == [f"train-{i:06d}" for i in range(20)]


def test_an_error_in_a_shard_fails_its_stage_with_its_reason_and_log(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, job = sweep(models, tmp_path)
    asked = in_process(monkeypatch)
    world = settings.store.fetch(job.inputs["world"].path)
    (world / "images_val.parquet").write_bytes(b"")
    reason = run(settings, job)[job.key]
    assert reason is not None
    assert "images_val.parquet" in reason
    assert len([s for s in asked if s.split == "val"]) == 1, "an error of the data is final"
    assert "Traceback" in (tmp_path / "logs" / f"{job.key}.log").read_text()


def test_a_shard_whose_disk_fails_is_tried_again(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, job = sweep(models, tmp_path)
    asked = in_process(monkeypatch)
    compute_shard, failures = ComputeStep._compute, iter([OSError("input/output error")])

    def fail_once(self: ComputeStep, row: ShardRow) -> ShardRow:
        for error in failures:
            raise error
        return compute_shard(self, row)

    monkeypatch.setattr(ComputeStep, "_compute", fail_once)
    assert run(settings, job) == {job.key: None}
    assert len(asked) > len({(shard.split, shard.start) for shard in asked})


def test_stages_whose_shards_are_all_there_are_committed(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the last shards of several stages and their commits."""
    more = ("scenarios=[d1]", "codecs.0.lambdas=[0.002, 0.02]", "resources.max_failures=0")
    settings, _ = sweep(models, tmp_path, *more)
    jobs = [job for job in settings.jobs.values() if job.kind in ("features", "latents")]
    for job in settings.jobs.values():
        if job.kind == "codec":
            run_job(settings, job.key, lambda: LocalBackend(settings), lambda metrics: None)
    actor = ComputeStep(settings)
    for job in jobs:
        for shard in shards(settings, job):
            compute(settings, actor, shard)
    assert len(jobs) == 3
    asked = in_process(monkeypatch)
    assert run(settings, *jobs) == {job.key: None for job in jobs}
    assert asked == []


def test_a_stage_that_cannot_be_committed_costs_no_other_stage_of_its_pass(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("scenarios=[d1]", "codecs.0.lambdas=[0.02]", "resources.max_failures=1")
    settings, features = sweep(models, tmp_path, *more)
    for job in settings.jobs.values():
        if job.kind == "codec":
            run_job(settings, job.key, lambda: LocalBackend(settings), lambda metrics: None)
    (latents,) = (job for job in settings.jobs.values() if job.kind == "latents")
    asked, commit = in_process(monkeypatch), Store.commit_parts

    def refuse_one(store: Store, stage: str, *arguments: Any) -> None:
        if stage == features.stage.path:
            raise PermissionError(errno.EACCES, "Permission denied", stage)
        commit(store, stage, *arguments)

    monkeypatch.setattr(Store, "commit_parts", refuse_one)
    reasons = run(settings, features, latents)
    assert reasons[latents.key] is None
    assert settings.store.has(latents.stage.path)
    assert "Permission denied" in (reasons[features.key] or "")
    names = [(shard.key, shard.name) for shard in asked]
    assert len(names) == len(set(names)), "no shard is computed twice"


def image_sweep(
    models: tuple[Path, Path], storage: Store, folder: Path, *more: str
) -> tuple[Settings, Job]:
    clip, llava = models
    read_source.cache_clear()
    data = (
        f"data={{kind: folder, uri: {folder}, size: 64, train: 12, val: 4, test: 4, shard_size: 8}}"
    )
    names = (f"teacher.model={clip}", f"mllms=[{llava}]", "tasks=[classification]")
    space = load_space("smoke", (*names, data, *more))
    plan = Plan(space, operating_points(space), fingerprints(space), storage)
    settings = Settings(space, storage.uri, plan.jobs, {})
    return settings, plan.jobs[plan.stages.train_images().key]


def test_a_folder_of_images_is_made_a_world_by_shards(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.datasets.images.convert.PART_ROWS", 5)
    folder = write_folder(tmp_path / "set", {"jay": 10, "fox": 10})
    (folder / "fox" / "003.JPEG").write_bytes(b"damaged")
    settings, job = image_sweep(models, Store(str(tmp_path / "storage")), folder)
    assert (job.kind, job.label) == ("images", "training images of set")
    asked = in_process(monkeypatch)
    reason = run(settings, job)[job.key]
    assert reason is not None
    assert re.search(r"1 of 16 .*6\.2%.*data\.max_unreadable .*1\.0%", reason)
    settings, job = image_sweep(
        models, Store(str(tmp_path / "storage")), folder, "data.max_unreadable=0.07"
    )
    count = len(asked)
    assert run(settings, job) == {job.key: None}
    assert len(asked) == count, "what was read is not read again"
    assert [(s.split, s.start, s.stop) for s in asked[:4]] == [
        ("train", 0, 5),
        ("train", 5, 10),
        ("train", 10, 12),
        ("val", 0, 4),
    ]
    told = settings.store.manifest(job.stage.path)
    assert told["images"] == sum(told["rows"].values()) == 15
    stage = settings.store.fetch(job.stage.path)
    ((_, image, _),) = json.loads((stage / "unreadable.json").read_text())
    assert image == "fox/003.JPEG"
    # What is computed from the images follows the rows that there are.
    features = settings.jobs[next(k for k, j in settings.jobs.items() if j.kind == "features")]
    rows = {s.split: s.stop for s in shards(settings, features)}
    assert (rows["train"], rows["val"]) == (told["rows"]["train"], told["rows"]["val"])
    # The test images are a stage of their own, with samples.
    (test,) = (j for j in settings.jobs.values() if j.stage.kind == "test_images")
    assert run(settings, test) == {test.key: None}
    assert [(s.split, s.start, s.stop) for s in asked[4:]] == [("test", 0, 4)]
    stage = settings.store.fetch(test.stage.path)
    samples = pq.read_table(stage / "tasks_test.parquet").column("image_ids").to_pylist()
    assert samples == [[i] for i in image_column(stage, "test", "image_id").to_pylist()]


@pytest.mark.parametrize("place", ["index/train.parquet/x", "index"])
def test_what_is_in_the_place_of_the_list_of_images_is_no_obstacle(
    place: str, models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "set", {"jay": 10, "fox": 10})
    settings, job = image_sweep(models, Store(str(tmp_path / "storage")), folder)
    planted = tmp_path / "storage" / "work" / job.key / place
    planted.parent.mkdir(parents=True)
    planted.write_text("x")
    in_process(monkeypatch)
    assert run(settings, job) == {job.key: None}


def test_a_split_of_which_nothing_is_left_is_fatal(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "set", {"train/jay": 12, "val/jay": 4, "test/jay": 4})
    for file in (folder / "test" / "jay").iterdir():
        file.write_bytes(b"")
    settings, job = image_sweep(
        models, Store(str(tmp_path / "storage")), folder, "data.max_unreadable=0.5"
    )
    (job,) = (j for j in settings.jobs.values() if j.stage.kind == "test_images")
    in_process(monkeypatch)
    reason = run(settings, job)[job.key]
    assert reason is not None
    assert "test" in reason.partition("data.max_unreadable")[2].partition("(log:")[0]


def test_shards_that_a_process_died_with_are_decoded_apart(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.datasets.images.convert.PART_ROWS", 5)
    folder = write_folder(tmp_path / "set", {"jay": 10, "fox": 10})
    settings, job = image_sweep(models, Store(str(tmp_path / "storage")), folder)
    computed = in_process(monkeypatch, lambda shard: shard.start == 5 and not shard.apart)
    assert run(settings, job) == {job.key: None}
    apart = [(shard.split, shard.start) for shard in computed if shard.apart]
    assert apart == [("train", 5)]
    assert len(computed) == 5, "four shards and one of them again"


def test_a_process_that_dies_with_a_shard_again_and_again_ends_its_stage(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, job = sweep(models, tmp_path, "resources.max_failures=2")
    computed = in_process(monkeypatch, lambda shard: shard.split == "val")
    reason = run(settings, job)[job.key]
    assert reason is not None
    assert "died" in reason
    assert [shard.split for shard in computed].count("val") == 3


def test_a_full_disk_under_a_pass_is_told_as_what_every_job_would_meet(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, job = sweep(models, tmp_path, "resources.max_failures=1")
    computed = in_process(monkeypatch)

    def fail(self: ComputeStep, row: ShardRow) -> ShardRow:
        raise OSError(errno.ENOSPC, "No space left on device", row.shard.name)

    monkeypatch.setattr(ComputeStep, "_compute", fail)
    failures: list[JobFailure | None] = []
    room = Room(1, 1, Ask(cpu=0.05))
    again: list[str] = []
    run_pass(
        settings,
        [job],
        room,
        lambda key, failure: failures.append(failure),
        lambda *shards: None,
        lambda key, reason: again.append(reason),
    )
    assert len(again) == 1
    assert "the disk is full" in again[0] or "No space left" in again[0]
    (failure,) = failures
    assert failure is not None
    assert (failure.cause, failure.environment) == (Cause.UNREACHABLE, FULL_DISK)
    assert len(computed) == 8, "four shards, each tried twice"


def test_processes_that_die_with_other_shards_each_time_do_not_end_a_pass(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, job = sweep(models, tmp_path, "resources.max_failures=1")
    deaths = iter(range(4))
    died: set[str] = set()

    def lost(shard: Shard) -> bool:
        """One shard a round, each once."""
        if shard.name in died or next(deaths, None) is None:
            return False
        died.add(shard.name)
        return True

    in_process(monkeypatch, lost)
    assert run(settings, job) == {job.key: None}
    assert len(died) == 4


def test_a_pass_whose_lease_another_process_has_taken_ends_and_fails_no_job(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rounds would go on with the same lease; the next pass takes one of its own."""
    settings, job = sweep(models, tmp_path)
    in_process(monkeypatch)
    check, lost = Lease.check, [True]

    def lose(lease: Lease) -> None:
        if lost[0]:
            raise LeaseLostError("the lease could not be renewed and is lost")
        check(lease)

    monkeypatch.setattr(Lease, "check", lose)
    with pytest.raises(LeaseLostError):
        run(settings, job)
    lost[0] = False
    assert run(settings, job) == {job.key: None}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"report": {"unreadable": [3]}}'])
def test_a_shard_whose_report_is_damaged_is_no_complete_one(tmp_path: Path, text: str) -> None:
    store = Store(str(tmp_path))
    store.write("work/k1/reports/train-0-8.json", text.encode())
    assert finished_shards(store, "k1") == {}


def test_a_shard_whose_file_is_gone_is_computed_again(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, job = sweep(models, tmp_path)
    computed = in_process(monkeypatch)
    actor = ComputeStep(settings)
    for shard in shards(settings, job)[:2]:
        compute(settings, actor, shard)
    (gone,) = (tmp_path / "work" / job.key).rglob("train/part-00001.parquet")
    gone.unlink()
    assert run(settings, job) == {job.key: None}
    assert [shard.number for shard in computed if shard.split == "train"].count(1) == 1
    stage = settings.store.fetch(job.stage.path)
    assert len(list(stage.rglob("*.parquet"))) == 4


def test_a_stage_that_cannot_be_cleaned_up_is_complete(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, job = sweep(models, tmp_path)
    in_process(monkeypatch)

    def refuse(store: Store, key: str) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(Store, "remove_work", refuse)
    assert run(settings, job) == {job.key: None}
    assert settings.store.has(job.stage.path)


def test_a_lost_writer_that_is_still_alive_changes_no_committed_shard(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, job = sweep(models, tmp_path)
    in_process(monkeypatch)
    first = shards(settings, job)[0]
    lost = settings.store.part(job.stage.path, job.key, first.file_name(job))
    with lost as (path, _):
        assert run(settings, job) == {job.key: None}
        path.parent.mkdir(parents=True)
        path.write_bytes(b"an older version")
    stage = settings.store.fetch(job.stage.path)
    manifest = settings.store.manifest(job.stage.path)
    for name, file in manifest["files"].items():
        with (stage / name).open("rb") as stream:
            assert hashlib.file_digest(stream, "sha256").hexdigest() == file["sha256"], name
