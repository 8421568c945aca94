"""Shards of the stages that Ray Data makes, and the reports of those that are complete.

    rows of images, teacher features or frozen latents --> {split}/part-00000.parquet, ...
    text embeddings, one shard                         --> text.safetensors

A shard's file is written where it stays, then its report. Each is written whole, and a shard that
has a report is never computed again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Final, Self

from pydantic import BaseModel, Field

from orchestrator.execution.job_steps import Settings
from orchestrator.plan.jobs import Job
from orchestrator.storage.provenance import image_counts
from orchestrator.storage.store import FileEntry, Store
from trainables.datasets.images.image_store import ShardReport

SPLITS: Final = ("train", "val")
TEXT: Final = "text"
"""Instead of a split: the text embeddings."""
INDEX: Final = "index"
"""Directory of the list of a data set's images, in work/<key>/."""
_AT: Final = (
    r"^[0-9a-f]{32}/"
    r"(((images_)?(train|val)|images_test)/part-([0-9]{5}|[1-9][0-9]{5,})\.parquet"
    r"|text\.safetensors)$"
)
"""Where `Store.part` puts the file of a shard: the writer's directory, then `Shard.file_name`."""
_Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Shard:
    """A range of a split's rows, [start, stop), of the stage that a job makes.

    Attributes:
        apart: decode in a process apart, as a process that computed the shard has died.
    """

    key: str
    split: str
    number: int
    start: int
    stop: int
    apart: bool = False

    def file_name(self, job: Job) -> str:
        """Path of the shard's file below the stage."""
        if self.split == TEXT:
            return "text.safetensors"
        folder = f"images_{self.split}" if job.kind == "images" else self.split
        return f"{folder}/part-{self.number:05d}.parquet"

    @property
    def name(self) -> str:
        """Its name among the shards of the job, by its rows: those of an earlier try may have had
        another size."""
        return f"{self.split}-{self.start}-{self.stop}"

    @property
    def report_path(self) -> str:
        """Path of its report below the storage."""
        return f"{_reports(self.key)}/{self.name}.json"


class _Report(BaseModel, strict=True, extra="forbid"):
    images: _Count
    unreadable: list[tuple[str, str]]
    treated: dict[str, _Count]


class _File(BaseModel, strict=True, extra="forbid"):
    bytes: _Count
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    at: Annotated[str, Field(pattern=_AT)]


class _Finished(BaseModel, strict=True, extra="forbid"):
    """What `FinishedShard.dump` writes to the storage, where others may write, too."""

    report: _Report
    file: _File
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class FinishedShard:
    """What is recorded of a shard that is complete.

    Attributes:
        report: of its images.
        file: of its file, for the stage's manifest.
        seconds: of computing.
    """

    report: ShardReport
    file: FileEntry
    seconds: float

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """From JSON.

        Raises:
            ValueError: it is not what `dump` writes.
        """
        content = _Finished.model_validate_json(text)
        report = ShardReport(**content.report.model_dump())
        return cls(report, content.file.model_dump(), content.seconds)

    def write(self, store: Store, shard: Shard) -> None:
        """Write it to the storage: the shard is complete."""
        store.write(shard.report_path, self.dump().encode())


def finished_shards(store: Store, key: str) -> dict[str, FinishedShard]:
    """The complete shards of a job, by name; one whose report is damaged is made again."""
    directory = _reports(key)
    files = store.names(directory)
    contents = store.read_all(f"{directory}/{file}" for file in files)
    finished = {}
    for file, text in zip(files, contents, strict=True):
        with contextlib.suppress(ValueError):
            finished[file.removesuffix(".json")] = FinishedShard.parse(text or b"")
    return finished


def _reports(key: str) -> str:
    return f"work/{key}/reports"


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


def _rows(settings: Settings, job: Job) -> Mapping[str, int]:
    """Rows of each split that a stage is made from."""
    splits = ("test",) if job.stage.kind == "test_images" else SPLITS
    if job.kind == "images" or settings.space.data.is_made:
        counts = image_counts(settings.space.data)
    else:
        # Unreadable images have no rows in the world.
        counts = settings.store.manifest(job.inputs["world"].path)["rows"]
    return {split: counts[split] for split in splits}


def need_models(jobs: Iterable[Job]) -> bool:
    """Whether any of these jobs computes with a model."""
    return any(job.kind != "images" for job in jobs)
