"""What stands for the images of a data set in keys: their content, read once."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest

from search_spaces.specs.data import DataSpec
from tests.trainables.image_folders import write_folder
from trainables.datasets.images import checksums
from trainables.datasets.images.checksums import KeptChecksums, fingerprint_of_part
from trainables.datasets.images.files import File, file_checksum
from trainables.datasets.images.source import read_source

COUNTS = {"train": 6, "val": 2, "test": 2}


def prints(root: Path | str, kept: KeptChecksums | None = None, **settings: Any) -> dict[str, str]:
    """The fingerprints of both parts."""
    read_source.cache_clear()
    data = DataSpec.model_validate(
        {"kind": "folder", "uri": str(root), "size": 64, **COUNTS, **settings}
    )
    source = read_source(data)
    read_source.cache_clear()
    return {
        part: fingerprint_of_part(source, part, kept or KeptChecksums(None))
        for part in ("train", "test")
    }


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {part for part in before if before[part] != after[part]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Classes in splits: 6 to train, 3 to validate, 4 to test."""
    splits = {"train/jay": 3, "train/fox": 3, "val/jay": 3, "test/jay": 2, "test/fox": 2}
    return write_folder(tmp_path / "set", splits)


def test_a_copy_with_other_times_elsewhere_is_the_same_data(folder: Path, tmp_path: Path) -> None:
    before = prints(folder)
    copy = shutil.copytree(folder, tmp_path / "another name", copy_function=shutil.copyfile)
    for file in copy.rglob("*"):
        os.utime(file, (1, 1))
    assert prints(copy) == before
    assert prints(f"{folder}/") == before
    (folder / "readme.md").write_text("no image")
    assert prints(folder) == before


def test_other_bytes_of_the_same_size_and_time_are_other_data(folder: Path) -> None:
    before = prints(folder, test=4)
    image = next((folder / "test" / "jay").iterdir())
    times, data = image.stat(), bytearray(image.read_bytes())
    data[-1] ^= 1
    image.write_bytes(data)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert changed(before, prints(folder, test=4)) == {"test"}


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"test": 4}, {"test"}),
        ({"val": 3}, {"train"}),
        ({"train": 5}, {"train"}),
        ({"seed": 7}, {"train", "test"}),
        ({"train": None}, set()),  # all six
        ({"splits": {"train": "train", "val": "val", "test": "test"}}, set()),  # as they are
        (
            {"splits": {"train": "train", "val": "val", "test": "val"}, "val": 1, "test": 2},
            {"train", "test"},
        ),
        ({"max_unreadable": 0.5, "shard_size": 7, "name": "other"}, set()),
    ],
)
def test_a_setting_changes_the_images_of_its_part_alone(
    folder: Path, settings: dict[str, Any], parts: set[str]
) -> None:
    assert changed(prints(folder), prints(folder, **settings)) == parts


def test_names_of_classes_are_content(folder: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("jay jay\nfox fox\n")
    assert changed(prints(folder), prints(folder, names=str(names))) == set()
    names.write_text("jay a bird\nfox fox\n")
    assert changed(prints(folder), prints(folder, names=str(names))) == {"train", "test"}


def test_files_are_read_once_and_again_when_they_were_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    checksum = checksums.file_checksum

    def counted(file: Path, may_sample: bool = True) -> str:
        assert not may_sample
        read.append(file)
        return checksum(file, may_sample)

    monkeypatch.setattr(checksums, "file_checksum", counted)
    kept = KeptChecksums(tmp_path / "kept")
    before = prints(folder, kept)
    assert len(read) == len(set(read)) == sum(COUNTS.values())
    assert prints(folder, kept) == before
    assert len(read) == sum(COUNTS.values())
    os.utime(read[0], (1, 1))
    assert prints(folder, kept) == before
    assert read[10:] == [read[0]]
    prints(folder, kept, test=4)
    assert len(read) == 10 + 1 + 2


def test_a_plan_keeps_nothing(folder: Path, tmp_path: Path) -> None:
    assert prints(folder, KeptChecksums(tmp_path / "kept", may_write=False)) == prints(folder)
    assert not (tmp_path / "kept").exists()


def test_of_a_store_with_checksums_these_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/", "memory://bucket/set/", recursive=True)
    find = type(memory).find
    tags = {"tag": "1"}

    def tagged(self: Any, path: str, **options: Any) -> Any:
        found = find(self, path, **options)
        if not options.get("detail"):
            return found
        return {name: {**info, "ETag": name + tags["tag"]} for name, info in found.items()}

    try:
        monkeypatch.setattr(type(memory), "find", tagged)
        before = prints("memory://bucket/set")
        for file in memory.find("/bucket/set"):
            memory.store[file].created = memory.store[file].modified
        assert prints("memory://bucket/set") == before
        tags["tag"] = "2"
        assert changed(before, prints("memory://bucket/set")) == {"train", "test"}
    finally:
        memory.rm("/bucket", recursive=True)


def test_every_byte_of_a_file_above_the_limit_of_samples_counts(tmp_path: Path) -> None:
    size, kept = 300 * 2**20, KeptChecksums(None)
    table = tmp_path / "all.parquet"
    with table.open("wb") as file:
        file.truncate(size)  # takes no room on the disk
    samples = file_checksum(table)
    assert samples.startswith("sampled-")
    zeros = hashlib.sha256()
    for _ in range(300):
        zeros.update(bytes(2**20))
    entry = File("all.parquet", size, "1")
    assert kept.of(str(tmp_path), [entry]) == {entry.path: zeros.hexdigest()}
    with table.open("r+b") as file:
        file.seek(1_500_001)
        file.write(b"7")
    assert file_checksum(table) == samples, "no sampled block has the byte"
    assert kept.of(str(tmp_path), [entry]) != {entry.path: zeros.hexdigest()}
