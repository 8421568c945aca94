"""The test samples of a data set, in shards, and its test images, read as needed."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow.parquet as pq

from trainables.datasets.arrays import Pixels, decode_image
from trainables.datasets.images.decode import UnreadableImageError
from trainables.datasets.images.image_store import image_files


@dataclass(frozen=True)
class Sample:
    """One question of one task; `reference` is JSON."""

    sample_id: str
    task: str
    image_ids: tuple[str, ...]
    prompt: str
    reference: str

    @property
    def subject(self) -> str:
        """The image that it asks about: after labelled ones, the last."""
        return self.image_ids[-1]


def read_samples(directory: Path, tasks: Sequence[str]) -> list[Sample]:
    """The samples of these tasks, in the data set's order.

    Raises:
        ValueError: the data set has no sample of a task.
    """
    columns = ["sample_id", "task", "image_ids", "prompt", "reference"]
    table = pq.read_table(directory / "tasks_test.parquet", columns=columns)
    samples = [
        Sample(**{**row, "image_ids": tuple(row["image_ids"])})
        for row in table.to_pylist()
        if row["task"] in tasks
    ]
    for task in set(tasks) - {sample.task for sample in samples}:
        raise ValueError(f"the data set has no samples of task {task}")
    return samples


def shards(samples: Sequence[Sample], images: TestImages, size: int) -> list[list[Sample]]:
    """Split samples into shards of `size`, in the order of their images.

    In this order, few shards ask about the same image.

    Raises:
        ValueError: a sample refers to an image that the data set does not hold.
    """
    missing = sorted({i for s in samples for i in s.image_ids if i not in images})
    if missing:
        raise ValueError(f"samples refer to images that the data set does not hold: {missing[:3]}")
    ordered = sorted(samples, key=lambda sample: min(map(images.place, sample.image_ids)))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


class TestImages:
    """The test images of a data set; pixels are decoded when they are read.

    Args:
        directories: of the data set's images, or of a benchmark; no two hold the same id.
    """

    __test__ = False  # the name makes pytest take this class for a test

    def __init__(self, directories: Iterable[Path]) -> None:
        files = (file for directory in directories for file in image_files(directory, "test"))
        self._files = [pq.ParquetFile(file) for file in files]
        # (file, row group) and the place of its first image
        self._groups: list[tuple[int, int]] = []
        self._places: dict[str, int] = {}
        self._areas: dict[str, int] = {}
        sizes = []
        for number, file in enumerate(self._files):
            for group in range(file.num_row_groups):
                columns = ["image_id", "width", "height"]
                table = file.read_row_group(group, columns=columns)
                ids, widths, heights = (table.column(name).to_pylist() for name in columns)
                areas = (w * h for w, h in zip(widths, heights, strict=True))
                self._areas.update(zip(ids, areas, strict=True))
                self._groups.append((number, group))
                self._places.update({i: len(self._places) + n for n, i in enumerate(ids)})
                sizes.append(len(ids))
        self._starts = [0, *accumulate(sizes)][:-1]

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._places

    def place(self, image_id: str) -> int:
        """The place of an image in the order of the data set, 0 .."""
        return self._places[image_id]

    def area(self, image_id: str) -> int:
        """The pixels of an image that are the original's, without grey beside it."""
        return self._areas[image_id]

    def read(self, image_ids: Iterable[str]) -> Iterator[tuple[str, Pixels | str]]:
        """Yield (image_id, pixels (H, W, 3)) in the data set's order; the reason if unreadable."""
        ordered = sorted(set(image_ids), key=self.place)
        by_group: dict[int, list[str]] = {}
        for image_id in ordered:
            group = bisect.bisect_right(self._starts, self.place(image_id)) - 1
            by_group.setdefault(group, []).append(image_id)
        for group, ids in by_group.items():
            number, row_group = self._groups[group]
            data = self._files[number].read_row_group(row_group, columns=["png"]).column(0)
            for image_id in ids:
                png = data[self.place(image_id) - self._starts[group]].as_py()
                try:
                    yield image_id, decode_image(png)
                except UnreadableImageError as error:
                    yield image_id, str(error)

    def readable(self, image_ids: Iterable[str]) -> Mapping[str, Pixels]:
        """The pixels (H, W, 3) of those images that can be read, by image id."""
        return {i: pixels for i, pixels in self.read(image_ids) if not isinstance(pixels, str)}
