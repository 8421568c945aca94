"""The steps of a pass on the cluster's machines; a shard is a row of Ray Data on its way.

    tasks on CPUs: read_images --> actors, on GPUs: ComputeStep --> tasks on CPUs: write_file

What is on its way is an Arrow table, in the row's `content`; when the shard is complete or has
failed, `outcome` says so and `content` is empty.
"""

from __future__ import annotations

import atexit
import json
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa
from ray import cloudpickle

from orchestrator.execution.devices import device_of, use_threads
from orchestrator.execution.failures import Cause, JobFailure
from orchestrator.execution.features.shards import INDEX, TEXT, FinishedShard, Shard
from orchestrator.execution.fit_nodes import wait_until_fit
from orchestrator.execution.job_steps import Settings
from orchestrator.execution.silence import watch
from orchestrator.plan.jobs import Job
from orchestrator.plan.resources import FEATURES
from orchestrator.storage.store import Store
from trainables.datasets.images.image_store import ShardReport
from trainables.datasets.shards import read_shard, write_shard

if TYPE_CHECKING:  # torch takes seconds, and reading and writing do not need it
    from trainables.training.precompute import ShardModel


@dataclass(frozen=True)
class Outcome:
    """What came of a shard: either it is finished, or a failure ended it.

    Attributes:
        error: the failure's traceback.
    """

    finished: FinishedShard | None
    failure: JobFailure | None = None
    error: str = ""

    @classmethod
    def of_error(cls, error: Exception) -> Self:
        """From an error that a step has caught."""
        text = "".join(traceback.format_exception(error))
        return cls(None, JobFailure.of_caught(error), text)

    def dump(self) -> str:
        """As JSON."""
        finished = None if self.finished is None else self.finished.dump()
        failure = None if self.failure is None else asdict(self.failure)
        return json.dumps({"finished": finished, "failure": failure, "error": self.error})

    @classmethod
    def parse(cls, text: str) -> Self:
        """From JSON."""
        content = json.loads(text)
        finished, failure = content["finished"], content["failure"]
        if failure is not None:
            failure = JobFailure(**{**failure, "cause": Cause(failure["cause"])})
        return cls(
            None if finished is None else FinishedShard.parse(finished), failure, content["error"]
        )


@dataclass(frozen=True)
class ShardRow:
    """A shard on its way.

    Attributes:
        content: a table as `_packed` gives it.
        seconds: of computing so far.
        outcome: of `Outcome.dump`; empty while it is on its way.
        actor: pickled handle of the actor that had it; empty where none did.
    """

    shard: Shard
    content: pa.Buffer | None = None
    seconds: float = 0.0
    outcome: str = ""
    actor: bytes = b""

    def block(self) -> pa.Table:
        """As a table of Ray Data with one row."""
        columns = {field.name: [getattr(self.shard, field.name)] for field in fields(Shard)}
        content = self.content if self.content is not None else pa.py_buffer(b"")
        offsets = pa.array([0, content.size], pa.int64()).buffers()[1]
        columns["content"] = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), 1, [None, offsets, content]
        )
        columns |= {"seconds": [self.seconds], "outcome": [self.outcome], "actor": [self.actor]}
        return pa.table(columns)

    @classmethod
    def of(cls, block: pa.Table) -> Self:
        """From a table of Ray Data with one row."""
        values = {field.name: block.column(field.name)[0].as_py() for field in fields(Shard)}
        content = block.column("content")[0].as_buffer()
        others = (block.column(name)[0].as_py() for name in ("seconds", "outcome", "actor"))
        return cls(Shard(**values), content, *others)


def _stepped(settings: Settings, row: ShardRow, step: Callable[[ShardRow], ShardRow]) -> ShardRow:
    """Take a step with a shard, unless it is complete or has failed.

    An error in one stage must not end the pass for the others.
    """
    if row.outcome:
        return row
    job, began = settings.jobs[row.shard.key], time.monotonic()
    limit_s = settings.space.resources.silence_s
    try:
        wait_until_fit(settings)
        with watch(settings.store, job, row.shard.name, limit_s):
            stepped = step(row)
        return replace(stepped, seconds=row.seconds + time.monotonic() - began)
    except Exception as error:
        outcome = Outcome.of_error(error).dump()
        return ShardRow(row.shard, outcome=outcome, actor=row.actor)


def read_images(block: pa.Table, settings: Settings) -> pa.Table:
    """Decode a shard's images: a data set's originals, or those of a world."""
    return _stepped(settings, ShardRow.of(block), partial(_read_images, settings)).block()


def _read_images(settings: Settings, row: ShardRow) -> ShardRow:
    shard, job = row.shard, settings.jobs[row.shard.key]
    span = shard.start, shard.stop
    if shard.split == TEXT:
        return row
    if job.kind == "images":
        return replace(row, content=_packed(_convert(settings, shard)))
    world = _input_directory(settings.storage, job.inputs["world"].path)
    return replace(row, content=_packed(read_shard(world, shard.split, span)))


def _convert(settings: Settings, shard: Shard) -> pa.Table:
    from trainables.datasets.images.apart import ApartDecoder
    from trainables.datasets.images.convert import ImageShards

    index = _index_directory(settings.storage, shard.key)
    span = shard.start, shard.stop
    if not shard.apart:
        return ImageShards(settings.space.data, index)(shard.split, span)
    decode = ApartDecoder()
    try:
        return ImageShards(settings.space.data, index, decode)(shard.split, span)
    finally:
        decode.close()


class ComputeStep:
    """An actor of Ray Data: computes with models and keeps that of the latest job.

    Args:
        settings: of the sweep.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._handle = _handle_of_this_actor()
        self._models: dict[str, ShardModel] = {}
        """By job key; of one job at a time."""

    def __call__(self, block: pa.Table) -> pa.Table:
        """Compute a shard's features or latents."""
        row = replace(ShardRow.of(block), actor=self._handle)
        return _stepped(self._settings, row, self._compute).block()

    def _compute(self, row: ShardRow) -> ShardRow:
        settings, job = self._settings, self._settings.jobs[row.shard.key]
        use_threads(settings.space.resources.of(FEATURES))
        if row.shard.split == TEXT:
            return _write_text(settings, job, row)
        if job.key not in self._models:
            self._models.clear()
            self._models[job.key] = self._load(job)
        assert row.content is not None
        return replace(row, content=_packed(self._models[job.key](_unpacked(row.content))))

    def _load(self, job: Job) -> ShardModel:
        from trainables.training.precompute import CodecLatents, TeacherFeatures

        space = self._settings.space_of(job)
        device = device_of(space.resources.of(FEATURES))
        if job.subject.codec is None:
            return TeacherFeatures(space, device)
        store = self._settings.store  # keeps the codec until it is loaded
        codec = store.fetch(job.inputs["codec"].path)
        return CodecLatents(job.subject.codec, codec, device)


def _write_text(settings: Settings, job: Job, row: ShardRow) -> ShardRow:
    """Write the text embeddings of the classes: kilobytes, which need no step apart."""
    from trainables.encoders.text_embeddings import write_text_weights

    space, store = settings.space_of(job), settings.store

    def write(path: Path) -> None:
        images = store.fetch(job.inputs["world"].path)
        write_text_weights(space, images, path, device_of(space.resources.of(FEATURES)))

    return _finished(store, job, row, ShardReport(0, []), write)


def write_file(block: pa.Table, settings: Settings) -> pa.Table:
    """Write a shard's file and its report to the storage."""
    return _stepped(settings, ShardRow.of(block), partial(_write_file, settings)).block()


def _write_file(settings: Settings, row: ShardRow) -> ShardRow:
    job = settings.jobs[row.shard.key]
    assert row.content is not None
    table = _unpacked(row.content)

    def write(path: Path) -> None:
        if job.kind == "images":
            from trainables.datasets.images.convert import write_part

            write_part(table, path)
        else:
            write_shard(table, path)

    return _finished(settings.store, job, row, ShardReport.of(table.schema.metadata), write)


def _finished(
    store: Store, job: Job, row: ShardRow, report: ShardReport, write: Callable[[Path], None]
) -> ShardRow:
    shard, began = row.shard, time.monotonic()
    with store.part(job.stage.path, job.key, shard.file_name(job)) as (path, entry):
        write(path)
    finished = FinishedShard(report, entry, row.seconds + time.monotonic() - began)
    finished.write(store, shard)
    return ShardRow(shard, outcome=Outcome(finished).dump(), actor=row.actor)


def _handle_of_this_actor() -> bytes:
    """The pickled handle of the actor that this process is; empty outside one."""
    import ray

    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return b""
    handle: bytes = cloudpickle.dumps(ray.get_runtime_context().current_actor)  # type: ignore[no-untyped-call]
    return handle


def _packed(table: pa.Table) -> pa.Buffer:
    """A table as bytes that are read without a copy."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _unpacked(content: pa.Buffer) -> pa.Table:
    return pa.ipc.open_stream(content).read_all()


@lru_cache(maxsize=16)
def _input_directory(storage: str, stage: str) -> Path:
    """A stage on this machine; its files are looked at once per process."""
    return _input_store(storage).fetch(stage)


@cache
def _input_store(storage: str) -> Store:
    """The storage; it keeps the inputs of this process in the machine's cache."""
    return Store(storage)


def _index_directory(storage: str, key: str) -> Path:
    """The list of a data set's images on this machine.

    Raises:
        FileNotFoundError: a remote storage does not have it, or not yet.
        StoreError: a link is on the way to it, or in it.
    """
    store = _input_store(storage)
    if store.remote:
        return _loaded_index(storage, key)
    store.refuse_links_in("work", key, INDEX)
    return store.local("work", key) / INDEX


@lru_cache(maxsize=4)
def _loaded_index(storage: str, key: str) -> Path:
    store = _input_store(storage)
    scratch = store.new(key)
    index = scratch / INDEX
    if not store.load_work(key, INDEX, index):
        shutil.rmtree(scratch)
        raise FileNotFoundError(f"{store.path('work', key, INDEX)} is not in the storage")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    return index
