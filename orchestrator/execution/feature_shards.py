"""Shards of the stages that Ray Data makes, and the actor that computes them.

    rows of images, teacher features or frozen latents --> {split}/part-00000.parquet, ...
    text embeddings, one shard                         --> text.safetensors

A shard's file is written to work/<key>/ of the storage, then its report. Each is written
atomically, and a shard that has a report is never computed again.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from orchestrator.execution.devices import device_of, use_threads
from orchestrator.execution.failures import cause_of_type
from orchestrator.execution.job_steps import Settings, inputs_of
from orchestrator.plan.jobs import Job
from orchestrator.storage.provenance import image_counts
from orchestrator.storage.store import Store
from trainables.datasets.images.image_store import ShardReport

if TYPE_CHECKING:  # torch takes seconds, and the driver does not need it
    from trainables.datasets.images.convert import ImageShards
    from trainables.points.inputs import Inputs
    from trainables.training.precompute import CodecLatents, TeacherFeatures

SPLITS: Final = ("train", "val")
TEXT: Final = "text"
"""Instead of a split: the text embeddings."""
INDEX: Final = "index"
"""Directory of the list of a data set's images, in work/<key>/."""
Write = Callable[[tuple[int, int], Path], ShardReport]
"""Writes the rows [start, stop) to a file."""


@dataclass(frozen=True)
class Shard:
    """A range of a split's rows, [start, stop), of the stage that a job makes."""

    key: str
    split: str
    number: int
    start: int
    stop: int

    @classmethod
    def from_batch(cls, batch: Mapping[str, Sequence[object]]) -> Self:
        """The shard in a batch of Ray Data that has one row."""
        row = {name: values[0] for name, values in batch.items()}
        numbers = (int(str(row[name])) for name in ("number", "start", "stop"))
        return cls(str(row["key"]), str(row["split"]), *numbers)

    def file_name(self, job: Job) -> str:
        """Path of the shard's file below the stage."""
        if self.split == TEXT:
            return "text.safetensors"
        folder = f"images_{self.split}" if job.kind == "images" else self.split
        return f"{folder}/part-{self.number:05d}.parquet"

    @property
    def report_path(self) -> str:
        """Path of the shard's report below the storage."""
        return f"work/{self.key}/reports/{self.split}-{self.number:05d}.json"


@dataclass(frozen=True)
class TimedReport:
    """The report of a shard with the seconds that it took."""

    report: ShardReport
    seconds: float

    def write(self, store: Store, shard: Shard) -> None:
        """Write it to the storage: the shard is complete."""
        content = {**asdict(self.report), "seconds": self.seconds}
        store.write(shard.report_path, json.dumps(content).encode())

    @classmethod
    def read(cls, store: Store, shard: Shard) -> Self | None:
        """The report of a shard; None if the shard is not complete."""
        text = store.read(shard.report_path)
        if text is None:
            return None
        content = json.loads(text)
        return cls(
            ShardReport(content["images"], content["unreadable"], content["treated"]),
            content["seconds"],
        )


def shards(settings: Settings, job: Job) -> list[Shard]:
    """The shards of the stage that a job makes."""
    if job.kind == "text":
        return [Shard(job.key, TEXT, 0, 0, 0)]
    size = settings.space.data.shard_size
    if job.kind == "images":
        from trainables.datasets.images import convert  # image libraries: not for the demo

        size = convert.PART_ROWS
    return [
        Shard(job.key, split, number, start, min(start + size, rows))
        for split, rows in _rows(settings, job).items()
        for number, start in enumerate(range(0, rows, size))
    ]


def _rows(settings: Settings, job: Job) -> dict[str, int]:
    """Rows of each split that a stage is made from."""
    data = settings.space.data
    if job.kind == "images":
        return image_counts(data)
    if data.kind == "scenes":
        counts = image_counts(data)
    else:
        # Unreadable images have no rows in the world.
        counts = settings.store.manifest(job.inputs["world"].path)["rows"]
    return {split: counts[split] for split in SPLITS}


def needs_gpu(jobs: Iterable[Job]) -> bool:
    """Whether any of these jobs computes with a model."""
    return any(job.kind != "images" for job in jobs)


class Extractor:
    """An actor of Ray Data: computes shards and keeps the models of the latest job.

    Args:
        settings: of the sweep.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._writers: dict[str, Callable[[str], Write]] = {}
        """Job key -> the function that, for a split, writes rows; of one job at a time."""

    def __call__(self, batch: Mapping[str, Sequence[object]]) -> dict[str, list[str]]:
        """Compute the shard in a batch of one row.

        Returns:
            `key` of the job; `error`, a traceback, and `cause` of a failure, or empty strings.
        """
        shard = Shard.from_batch(batch)
        text = cause = ""
        try:
            self._compute(self._settings.jobs[shard.key], shard)
        except Exception as error:
            # An error in one stage must not end the pass for the others.
            text, cause = traceback.format_exc(), str(cause_of_type(error))
        return {"key": [shard.key], "error": [text], "cause": [cause]}

    def _compute(self, job: Job, shard: Shard) -> None:
        store = self._settings.store
        name = shard.file_name(job)
        write = self._writer(job, shard.split)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            # A local storage gets the file where it belongs, by the writer's own atomic rename.
            base = Path(scratch) if store.remote else Path(store.path("work", job.key))
            out = base / name
            out.parent.mkdir(parents=True, exist_ok=True)
            report = write((shard.start, shard.stop), out)
            if store.remote:
                store.put_file(out, f"work/{job.key}/{name}")
        TimedReport(report, time.monotonic() - began).write(store, shard)

    def _writer(self, job: Job, split: str) -> Write:
        """The function that writes rows of a split; loads its model unless it is loaded."""
        if job.key not in self._writers:
            self._writers.clear()
            self._writers[job.key] = self._load(job)
        return self._writers[job.key](split)

    def _load(self, job: Job) -> Callable[[str], Write]:
        if job.kind == "images":
            images = self._images(job)
            return lambda split: lambda rows, out: images(split, rows, out)
        inputs = inputs_of(self._settings.store, job)
        use_threads(self._settings.space)
        if job.kind == "text":
            return lambda split: lambda rows, out: self._write_text(job, inputs, out)
        model = self._model(job, inputs)
        return lambda split: lambda rows, out: model(inputs.world, split, rows, out)

    def _write_text(self, job: Job, inputs: Inputs, out: Path) -> ShardReport:
        from trainables.encoders.text_embeddings import write_text_weights

        space = self._settings.space_of(job)
        write_text_weights(space, inputs.world, out, device_of(space))
        return ShardReport(0, [])

    def _images(self, job: Job) -> ImageShards:
        from trainables.datasets.images.convert import ImageShards

        store = self._settings.store
        index = Path(store.path("work", job.key)) / INDEX
        if store.remote:
            index = store.local("work", job.key, f"{INDEX}-{os.getpid()}")
            if not index.exists():
                store.load_work(job.key, INDEX, index)
        return ImageShards(self._settings.space.data, index)

    def _model(self, job: Job, inputs: Inputs) -> TeacherFeatures | CodecLatents:
        from trainables.training.precompute import CodecLatents, TeacherFeatures

        device = device_of(self._settings.space)
        if job.subject.codec is None:
            return TeacherFeatures(self._settings.space_of(job), device)
        assert inputs.codec is not None
        return CodecLatents(job.subject.codec, inputs.codec, device)
