"""A data set becomes a world: pixels as the paper prepares them, labels, and what was left out."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from PIL import Image
from torchvision import transforms

from search_spaces.specs.data import DataSpec
from tests.trainables.datasets.images.test_source import HUGGINGFACE
from tests.trainables.image_folders import write_folder
from trainables.datasets.arrays import decode_image
from trainables.datasets.batches import in_order
from trainables.datasets.images.convert import (
    ImageShards,
    write_classes,
    write_image_samples,
    write_index,
    write_part,
)
from trainables.datasets.images.image_store import (
    ShardReport,
    count_images,
    image_column,
    image_files,
    read_images,
)
from trainables.datasets.images.source import read_source
from trainables.datasets.rows import Rows
from trainables.tasks import image_tasks

PART = 4


def convert(uri: str, world: Path, **settings: Any) -> dict[str, list[ShardReport]]:
    """Make a world in parts of four images; what was said of each part."""
    read_source.cache_clear()
    spec = {"kind": "folder", "uri": uri, "size": 64, "train": 5, "val": 2, "test": 3, **settings}
    data = DataSpec.model_validate(spec)
    source = read_source(data)
    write_index(source, world / "index")
    convert_part = ImageShards(data, world / "index")
    reports: dict[str, list[ShardReport]] = {}
    for split in ("train", "val", "test"):
        for number, start in enumerate(range(0, source.count(split), PART)):
            rows = start, min(start + PART, source.count(split))
            out = world / f"images_{split}" / f"part-{number:05d}.parquet"
            part = convert_part(split, rows)
            write_part(part, out)
            reports.setdefault(split, []).append(ShardReport.of(part.schema.metadata))
    write_classes(world, source.classes)
    write_image_samples(world, parts_of_test(world), list(source.classes.values()), image_tasks())
    read_source.cache_clear()
    return reports


def parts_of_test(world: Path) -> list[pa.Table]:
    files = image_files(world, "test")
    return [pq.read_table(file, columns=["image_id", "classes"]) for file in files]


def rows_of(world: Path, split: str) -> dict[str, dict[str, Any]]:
    columns = ["image_id", "png", "width", "height", "classes"]
    table = read_images(world, split, (0, count_images(world, split)), columns)
    return {row["image_id"]: row for row in table.to_pylist()}


def test_a_folder_becomes_resized_crops_with_their_classes(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", {"jay": 6, "red_fox": 6}, side=100)
    world = tmp_path / "world"
    convert(str(root), world)
    reference = transforms.Compose(
        [
            transforms.Resize(64, transforms.InterpolationMode.BICUBIC, antialias=True),
            transforms.CenterCrop(64),
        ]
    )
    seen = 0
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        found = rows_of(world, split)
        assert len(found) == count
        for image_id, row in found.items():
            expected = reference(Image.open(root / image_id).convert("RGB"))
            assert np.array_equal(decode_image(row["png"]), np.asarray(expected))
            assert row["classes"] == [["jay", "red_fox"].index(image_id.split("/")[0])]
            assert (row["width"], row["height"]) == (64, 64)
            seen += 1
    assert seen == 10
    classes = json.loads((world / "classes.json").read_text())
    assert classes["names"] == ["jay", "red fox"]
    samples = pq.read_table(world / "tasks_test.parquet").to_pylist()
    assert [s["image_ids"][0] for s in samples] == list(rows_of(world, "test"))
    for sample in samples:
        folder = sample["image_ids"][0].split("/")[0]
        expected_class = {"jay": "0 jay", "red_fox": "1 red fox"}[folder]
        assert json.loads(sample["reference"]) == {"class": expected_class}


def test_training_reads_the_parts_as_one(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", {"jay": 6, "fox": 6})
    convert(str(root), tmp_path / "world", train=9, val=1, test=2)
    assert image_column(tmp_path / "world", "train", "image_id").length() == 9
    rows = Rows("train", ("image", "classes"), tmp_path / "world", None, None, shard_size=5)
    assert rows.sizes == [5, 4]
    found = rows_of(tmp_path / "world", "train")
    ids = []
    for batch in in_order(rows, 4):
        for number, image_id in enumerate(batch.ids):
            pixels = decode_image(found[image_id]["png"]).transpose(2, 0, 1) / 255.0
            np.testing.assert_allclose(batch.image[number], pixels, atol=1e-6)
            assert batch.classes[number].argmax() == found[image_id]["classes"][0]
            ids.append(image_id)
    assert ids == list(found)
    for start, stop in ((0, 9), (3, 5), (4, 8), (2, 9)):
        table = read_images(tmp_path / "world", "train", (start, stop), ["image_id"])
        assert table.column("image_id").to_pylist() == ids[start:stop]


def test_awkward_images_are_counted_and_unreadable_ones_listed(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", {"a": 4}, side=80)
    grey = Image.fromarray(np.full((70, 90), 77, np.uint8))
    grey.save(root / "a" / "grey.png")
    Image.new("CMYK", (80, 80)).save(root / "a" / "cmyk.jpg")
    deep = np.full((70, 90), 0x4C7F, np.uint16)
    Image.fromarray(deep).save(root / "a" / "deep.png")
    Image.new("RGB", (1, 1), "red").save(root / "a" / "one.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 70)).save(root / "a" / "turned.jpg", exif=exif)
    (root / "a" / "empty.jpg").write_bytes(b"")
    whole = (root / "a" / "000.JPEG").read_bytes()
    (root / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "a" / "text.png").write_text("not an image")
    (root / "a" / "readme.txt").write_text("ignored by its name")
    reports = convert(str(root), tmp_path / "world", train=8, val=1, test=3)
    told = [report for found in reports.values() for report in found]
    assert sum(report.images for report in told) == 9
    unreadable = {i: why for report in told for i, why in report.unreadable}
    assert set(unreadable) == {"a/empty.jpg", "a/cut.jpg", "a/text.png"}
    assert unreadable["a/empty.jpg"] == "empty file"
    assert "truncated" in unreadable["a/cut.jpg"]
    assert unreadable["a/text.png"] == "no image that is known"
    counted: dict[str, int] = {}
    for report in told:
        for what, count in report.treated.items():
            counted[what] = counted.get(what, 0) + count
    assert counted == {"16 bits": 1, "grey": 2, "CMYK": 1, "enlarged": 1, "rotated": 1}
    kept = {n: row for s in reports for n, row in rows_of(tmp_path / "world", s).items()}
    assert len(kept) == 9
    for name, colour in (
        ("grey.png", [77] * 3),
        ("deep.png", [0x4C] * 3),
        ("one.png", [255, 0, 0]),
    ):
        assert (decode_image(kept[f"a/{name}"]["png"]) == colour).all(), name


@pytest.mark.parametrize("layout", ["saved", "hub"])
def test_directories_of_datasets_give_their_pixels_and_labels(layout: str, tmp_path: Path) -> None:
    settings = {"kind": "datasets", "train": 6, "val": 3, "test": 3}
    convert(str(HUGGINGFACE / layout), tmp_path, **settings)
    found = {**rows_of(tmp_path, "train"), **rows_of(tmp_path, "val")}
    colours = {}
    for row in found.values():
        # Image i was made with red 17 i % 256 and label i % 3.
        red = int(decode_image(row["png"])[32, 60, 0])
        colours[red] = row["classes"]
    assert colours == {17 * i % 256: [i % 3] for i in range(9)}
    for image_id, row in rows_of(tmp_path, "test").items():
        i = 20 + int(image_id.partition("#")[2])
        assert decode_image(row["png"])[32, 60].tolist() == [17 * i % 256, 60, 200 - 5 * i]
        assert row["classes"] == [(i - 20) % 3]


def test_rows_without_bytes_or_label(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "navy").save(file, "PNG")
    images = [file.getvalue(), None, file.getvalue(), file.getvalue()] * 4
    table = {"picture": pa.array(images, pa.large_binary()), "kind": ["a", "b", None, "b"] * 4}
    pq.write_table(pa.table(table), tmp_path / "all.parquet", row_group_size=5)
    settings = {"kind": "parquet", "image_column": "picture", "label_column": "kind"}
    world = tmp_path / "world"
    uri = str(tmp_path / "all.parquet")
    reports = convert(uri, world, train=8, val=4, test=4, **settings)
    unreadable = [entry for found in reports.values() for r in found for entry in r.unreadable]
    assert {int(i.partition("#")[2]) for i, _ in unreadable} == {1, 5, 9, 13}
    assert {why for _, why in unreadable} == {"no bytes in its row"}
    for split in ("train", "val", "test"):
        for image_id, row in rows_of(world, split).items():
            number = int(image_id.partition("#")[2]) % 4
            assert row["classes"] == {0: [0], 2: [], 3: [1]}[number]
    samples = pq.read_table(world / "tasks_test.parquet").to_pylist()
    labelled = [i for i, row in rows_of(world, "test").items() if row["classes"]]
    assert [sample["image_ids"] for sample in samples] == [[i] for i in labelled]


def test_object_storage_gives_the_same_world(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    root = write_folder(tmp_path / "set", {"jay": 5, "fox": 5})
    memory.put(f"{root}/", "memory://bucket/folder/", recursive=True)
    for layout in ("saved", "hub"):
        memory.put(f"{HUGGINGFACE / layout}/", f"memory://bucket/{layout}/", recursive=True)
    try:
        convert(str(root), tmp_path / "here")
        convert("memory://bucket/folder", tmp_path / "there")
        for layout in ("saved", "hub"):
            convert(str(HUGGINGFACE / layout), tmp_path / f"here-{layout}", kind="datasets")
            convert(f"memory://bucket/{layout}", tmp_path / f"there-{layout}", kind="datasets")
        for layout in ("", "-saved", "-hub"):
            for split in ("train", "val", "test"):
                here = rows_of(tmp_path / f"here{layout}", split)
                assert here == rows_of(tmp_path / f"there{layout}", split)
                assert here
    finally:
        memory.rm("/bucket", recursive=True)


def test_an_image_that_vanished_is_the_storages_fault(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", {"jay": 10})
    data = DataSpec.model_validate(
        {"kind": "folder", "uri": str(root), "size": 64, "train": 8, "val": 1, "test": 1}
    )
    write_index(read_source(data), tmp_path / "index")
    (root / "jay" / "003.JPEG").unlink()
    convert_part = ImageShards(data, tmp_path / "index")
    read = [(split, (0, count)) for split, count in (("train", 8), ("val", 1), ("test", 1))]
    with pytest.raises(FileNotFoundError):
        [convert_part(split, rows) for split, rows in read]
    read_source.cache_clear()


@pytest.mark.parametrize("names", [["a [1].png", "b.png", "c.png"], ["what?.png", "*.png", "{1}"]])
@pytest.mark.parametrize("place", ["disk", "memory", "zip", "filecache"])
def test_no_name_of_a_file_is_a_pattern(place: str, names: list[str], tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set [x]", {"train": 3, "val": 3, "test": 3})
    for split in ("train", "val", "test"):
        for number, name in enumerate(names):
            image = root / split / f"{number:03d}.JPEG"
            image.rename(image.with_name(f"{name}.JPEG"))
    uri, memory = str(root), fsspec.filesystem("memory")
    if place == "zip":
        uri = f"zip://::{shutil.make_archive(str(tmp_path / 'set'), 'zip', root)}"
    elif place != "disk":
        uri = "memory://bucket/set" if place == "memory" else "filecache::memory://bucket/set"
        for file in root.rglob("*.JPEG"):  # names are patterns for `put`, too
            memory.pipe_file(f"/bucket/set/{file.relative_to(root)}", file.read_bytes())
    try:
        convert(uri, tmp_path / "world", train=3, val=3, test=3)
    finally:
        memory.store.clear()
    for split in ("train", "val", "test"):
        assert {Path(name).name for name in rows_of(tmp_path / "world", split)} == {
            f"{name}.JPEG" for name in names
        }


def test_an_image_without_permission_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, read = write_folder(tmp_path / "set", {"jay": 10}), LocalFileSystem.cat_file

    def cat_file(disk: LocalFileSystem, path: str, *span: Any, **options: Any) -> Any:
        if path.endswith("003.JPEG"):
            raise PermissionError(path)
        return read(disk, path, *span, **options)

    monkeypatch.setattr(LocalFileSystem, "cat_file", cat_file)
    reports = convert(str(root), tmp_path / "world", train=5, val=2, test=3)
    unreadable = [entry for found in reports.values() for r in found for entry in r.unreadable]
    assert unreadable == [("jay/003.JPEG", "no permission to read it")]


def test_a_table_that_is_a_file_by_itself_becomes_a_world(tmp_path: Path) -> None:
    files = sorted(write_folder(tmp_path / "set", {"jay": 10}).rglob("*.JPEG"))
    images = pa.array([{"bytes": file.read_bytes(), "path": None} for file in files])
    pq.write_table(pa.table({"image": images}), tmp_path / "all.parquet", row_group_size=1)
    convert(str(tmp_path / "all.parquet"), tmp_path / "world", kind="parquet", label_column=None)
    assert len(rows_of(tmp_path / "world", "train")) == 5


def index_of(data: DataSpec, directory: Path) -> Path:
    read_source.cache_clear()
    write_index(read_source(data), directory)
    return directory


def test_only_what_is_below_the_root_of_the_settings_is_read(tmp_path: Path) -> None:
    """Others may write to the directory of the index."""
    counts = {"train": 3, "val": 1, "test": 1}
    mine = write_folder(tmp_path / "mine", counts)
    theirs = write_folder(tmp_path / "theirs", counts, side=100)
    data, private = (DataSpec(kind="folder", uri=str(root), size=64) for root in (theirs, mine))
    index = index_of(data, tmp_path / "index")
    expected = ImageShards(data, index)("train", (0, 3)).column("png")
    about = json.loads((index / "source.json").read_text())
    (index / "source.json").write_text(json.dumps({**about, "root": str(mine)}))
    assert ImageShards(data, index)("train", (0, 3)).column("png") == expected
    assert ImageShards(private, index)("train", (0, 3)).column("png") != expected
    names = pq.read_table(index / "train.parquet")
    files = pa.array([f"../mine/{name}" for name in names.column("file").to_pylist()])
    pq.write_table(names.set_column(1, "file", files), index / "train.parquet")
    with pytest.raises(ValueError, match=r"'\.\./mine/train/00\d\.JPEG' is not below .*theirs"):
        ImageShards(data, index)("train", (0, 3))
