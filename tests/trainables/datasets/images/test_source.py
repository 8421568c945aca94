"""Data sets as they are found: splits, counts, classes, keys and what is wrong with them."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search_spaces.specs.data import DataSpec
from tests.trainables.image_folders import write_folder
from trainables.datasets.images.files import SourceError
from trainables.datasets.images.source import Source, read_source

HUGGINGFACE = Path(__file__).parent / "data" / "huggingface"


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    yield
    read_source.cache_clear()


def source(uri: Path | str, **settings: Any) -> Source:
    read_source.cache_clear()
    data: dict[str, Any] = {"kind": "folder", "uri": str(uri), "size": 64, **settings}
    return read_source(DataSpec.model_validate(data))


def ids(found: Source, split: str) -> list[str]:
    names: list[str] = found.index[split].column("image_id").to_pylist()
    return names


def problems(uri: Path | str, **settings: Any) -> list[str]:
    with pytest.raises(SourceError) as caught:
        source(uri, **settings)
    return str(caught.value).splitlines()


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def test_split_folders_are_used_as_they_are(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"{s}/{c}/{i}.jpg" for s in ("train", "val", "test") for c in "ab" for i in "12"),
    )
    found = source(tmp_path)
    assert dict(found.origins) == {"train": "train", "val": "val", "test": "test"}
    for split in ("train", "val", "test"):
        assert sorted(ids(found, split)) == [f"{split}/{c}/{i}.jpg" for c in "ab" for i in "12"]
    assert dict(found.classes) == {"a": "a", "b": "b"}


def test_of_imagenet_val_is_the_test_and_train_gives_the_validation(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"train/a/{i}.JPEG" for i in range(40)), *(f"val/a/{i}.JPEG" for i in range(6))
    )
    found = source(tmp_path)
    assert dict(found.origins) == {"train": "train", "val": "train", "test": "val"}
    assert [found.count(s) for s in ("train", "val", "test")] == [38, 2, 6]
    assert not set(ids(found, "train")) & set(ids(found, "val"))
    assert set(ids(source(tmp_path, val=10), "val")) >= set(ids(found, "val"))


def test_one_folder_is_divided_by_its_seed(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{c}/{i:02d}.png" for c in ("train", "car", "bus") for i in range(20)))
    found = source(tmp_path, train=30, val=10, test=15)
    kept = [i for s in ("train", "val", "test") for i in ids(found, s)]
    assert len(kept) == len(set(kept)) == 55
    assert list(found.classes) == ["bus", "car", "train"], "a class may be called train"
    assert {i.split("/")[0] for i in ids(found, "val")} == {"bus", "car", "train"}
    again, other = (source(tmp_path, train=30, val=10, test=15, seed=s) for s in (0, 1))
    assert ids(again, "test") == ids(found, "test")
    assert ids(other, "test") != ids(found, "test")


def test_given_splits_may_share_an_origin(tmp_path: Path) -> None:
    touch(tmp_path, *(f"fold{n}/a/{i}.png" for n in (1, 2, 3) for i in range(5)))
    splits = {"train": "fold1", "val": "fold2", "test": "fold2"}
    found = source(tmp_path, splits=splits, val=2, test=3)
    assert [found.count(s) for s in ("train", "val", "test")] == [5, 2, 3]
    assert sorted(ids(found, "val") + ids(found, "test")) == [f"fold2/a/{i}.png" for i in range(5)]
    (told,) = problems(tmp_path, splits={**splits, "train": "fold9"})
    assert "data.splits.train = 'fold9': no such split; there are: fold1, fold2, fold3" in told


def test_what_is_no_image_is_ignored_and_said(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.JPG", "b/3.webp", "notes.txt", "a/Thumbs.db")
    touch(tmp_path, ".cache/9.jpg", "a/.DS_Store", "a/._1.jpg", "__MACOSX/a/1.jpg")
    found = source(tmp_path, train=1, val=1, test=1)
    assert found.ignored == ("a/Thumbs.db", "notes.txt")
    assert sum(found.count(s) for s in found.index) == 3


def test_hidden_folders_are_not_entered(tmp_path: Path) -> None:
    touch(tmp_path, *(f"a/{i}.jpg" for i in range(3)), ".trash/1.jpg")
    (tmp_path / ".trash" / "circle").symlink_to(tmp_path)
    found = source(tmp_path, train=1, val=1, test=1)
    assert sum(found.count(s) for s in found.index) == 3
    assert found.ignored == ()


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, *(f"elsewhere/{i}.jpg" for i in range(4)), "set/b/1.jpg")
    (tmp_path / "set" / "a").symlink_to(tmp_path / "elsewhere")
    assert list(source(tmp_path / "set", train=3, val=1, test=1).classes) == ["a", "b"]


def test_synsets_get_their_names_from_a_file(tmp_path: Path) -> None:
    root = touch(
        tmp_path / "set", *(f"{c}/{i}.jpg" for c in ("n01440764", "n01443537") for i in "123")
    )
    (told,) = problems(root)
    assert "data.names: the 2 classes are synsets" in told
    lines = tmp_path / "words.txt"
    lines.write_text("n01440764 tench, Tinca tinca\nn01443537\tgoldfish, Carassius auratus\nn0 x\n")
    expected = {"n01440764": "tench", "n01443537": "goldfish"}
    assert dict(source(root, names=str(lines)).classes) == expected
    mapping = tmp_path / "names.json"
    mapping.write_text(json.dumps({"n01440764": "tench, a fish", "n01443537": "gold_fish"}))
    found = source(root, names=str(mapping)).classes
    assert list(found.values()) == ["tench, a fish", "gold_fish"], "JSON is taken as it stands"
    lines.write_text("n01440764 tench\n")
    (told,) = problems(root, names=str(lines))
    assert "1 of 2 classes are not named: n01443537" in told
    (told,) = problems(root, names=str(tmp_path / "none.txt"))
    assert "none.txt': cannot be read (FileNotFoundError)" in told


def test_mistakes_in_a_folder_are_said(tmp_path: Path) -> None:
    (told,) = problems(tmp_path / "nowhere")
    assert told.endswith("nowhere': no such directory or file")
    touch(tmp_path / "empty", "a.txt", "b.pdf")
    (told,) = problems(tmp_path / "empty")
    assert "none of its 2 files is an image (.jpg," in told
    touch(tmp_path / "few", *(f"train/n00000001/{i}.jpg" for i in range(4)), "test/n00000001/1.jpg")
    told = "\n".join(problems(tmp_path / "few", val=9, test=3))
    assert "data.test = 3: its split 'test' has 1 images; 1 are left for test" in told
    assert "data.val = 9: its split 'train' has 4 images, shared with train" in told
    assert "the 1 classes are synsets" in told, "all at once"
    (told,) = problems("s9://bucket/images")
    assert "data.uri = 's9://bucket/images': cannot be opened" in told


def test_saved_and_hub_directories_of_datasets_hold_the_same() -> None:
    """Both were written by Hugging Face datasets 5.2.0 from the same nine and three images."""
    for layout, uri in (("saved", "saved"), ("hub", "hub")):
        found = source(HUGGINGFACE / uri, kind="datasets", val=2)
        assert dict(found.origins) == {"train": "train", "val": "train", "test": "test"}, layout
        assert [found.count(s) for s in ("train", "val", "test")] == [7, 2, 3]
        assert dict(found.classes) == {"0": "cat", "1": "tabby dog", "2": "jay"}
    one = source(HUGGINGFACE / "saved" / "train", kind="datasets", train=5, val=2, test=2)
    assert set(one.origins.values()) == {""}
    assert sum(one.count(s) for s in one.index) == 9


def write_table(path: Path, rows: int = 12, group: int = 3, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"image": pa.array([b"x"] * rows, pa.binary()), **columns}
    pq.write_table(pa.table(table), path, row_group_size=group)
    return path


def test_rows_of_parquet_are_each_in_one_split(tmp_path: Path) -> None:
    labels = pa.array(["red fox", "jay", None] * 4)
    write_table(tmp_path / "part-0.parquet", label=labels)
    write_table(tmp_path / "part-1.parquet", label=labels)
    found = source(tmp_path, kind="parquet", train=12, val=5, test=7)
    everything = {f"part-{n}.parquet#{i}" for n in (0, 1) for i in range(12)}
    assert {i for s in found.index for i in ids(found, s)} == everything
    for row in (r for table in found.index.values() for r in table.to_pylist()):
        number = int(row["image_id"].partition("#")[2])
        assert (row["chunk"], row["row"]) == divmod(number, 3)
    assert list(found.classes) == ["jay", "red fox"]
    single = source(tmp_path / "part-1.parquet", kind="parquet", train=3, val=1, test=1)
    assert all(i.startswith("part-1.parquet#") for i in ids(single, "train"))


def test_mistakes_in_tables_are_said(tmp_path: Path) -> None:
    write_table(tmp_path / "train-0.parquet", label=pa.array([1.5] * 12), text=["a"] * 12)
    told = "\n".join(problems(tmp_path, kind="parquet"))
    assert "data.label_column = 'label': holds double, neither whole numbers nor text" in told
    told = "\n".join(problems(tmp_path, kind="parquet", image_column="jpg", label_column="y"))
    assert "data.image_column = 'jpg': no such column; there are: image (binary), label" in told
    assert "data.label_column = 'y': no such column (null: no classes)" in told
    told = "\n".join(problems(tmp_path, kind="parquet", image_column="text", label_column=None))
    assert "data.image_column = 'text': holds string, not encoded images" in told
    write_table(tmp_path / "train-0.parquet", label=pa.array([0, 1, -1] * 4))
    (told,) = problems(tmp_path, kind="parquet")
    assert "the 2 classes are numbers (0, 1, ...)" in told
    names = tmp_path / "names.json"
    names.write_text('["cat", "dog"]')
    found = source(tmp_path, kind="parquet", names=str(names))
    assert dict(found.classes) == {"0": "cat", "1": "dog"}
    assert not source(tmp_path, kind="parquet", label_column=None).classes
    (told,) = problems(tmp_path, kind="folder")
    assert "is an image" in told
    (told,) = problems(touch(tmp_path / "x", "a.jpg"), kind="datasets")
    assert "no Parquet files, nor what `save_to_disk` writes" in told
    (tmp_path / "train-0.parquet").write_bytes(b"PAR1")
    (told,) = problems(tmp_path, kind="parquet")
    assert "train-0.parquet cannot be read" in told


def test_object_storage_is_listed_through_fsspec(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/red_fox": 3, "train/jay": 3, "val/jay": 2})
    memory = fsspec.filesystem("memory")
    memory.put(f"{tmp_path}/", "memory://bucket/set/", recursive=True)
    try:
        here, there = source(tmp_path, val=2), source("memory://bucket/set", val=2)
        for split in ("train", "val", "test"):
            assert ids(here, split) == ids(there, split)
        assert here.classes == there.classes
    finally:
        memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "folder"}, "uri must be given"),
        ({"kind": "folder", "uri": "x", "label_column": "y"}, "label_column is no setting of kind"),
        ({"kind": "folder", "uri": "x", "episodes": 3}, "episodes is no setting of kind 'folder'"),
        ({"uri": "x"}, "uri is no setting of kind 'scenes'"),
        ({"train": None}, "must be numbers where kind is 'scenes'"),
        ({"kind": "folder", "uri": "s3://me:hunter2@host/x"}, "must hold no password"),
    ],
)
def test_settings_that_do_not_apply_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        DataSpec.model_validate(settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "github://a",
        "zip://x::/etc/hostname",
        "zip://x",
        "reference://x",
        "dir://a",
        "http://[::1",
        "generic://",
        "x" * 300,
        "x/" * 3000,
        "/dev/zero",
        "gone://x",
    ],
)
def test_a_uri_that_leads_nowhere_is_a_mistake_in_one_line(uri: str) -> None:
    (problem,) = problems(uri)
    assert problem.startswith("data.uri = ")
    assert uri in problem
    folder = Path(__file__).parent / "data" / "huggingface" / "hub" / "data"
    (problem,) = problems(folder, kind="parquet", names=uri)
    assert problem.startswith("data.names = ")
    assert uri in problem


def test_a_pipe_or_a_device_among_the_files_is_refused_and_not_read(tmp_path: Path) -> None:
    touch(tmp_path, *(f"a/{i}.png" for i in range(8)))
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (problem,) = problems(tmp_path)
    assert problem.endswith("a/pipe.png is no regular file")
    (tmp_path / "a" / "pipe.png").unlink()
    (tmp_path / "a" / "endless.png").symlink_to("/dev/zero")
    (problem,) = problems(tmp_path)
    assert problem.endswith("a/endless.png is no regular file")
    (tmp_path / "a" / "endless.png").unlink()
    os.mkfifo(tmp_path / "names.txt.pipe")
    (tmp_path / "names.txt.pipe").rename(tmp_path.parent / f"{tmp_path.name}.pipe")
    (problem,) = problems(tmp_path, names=f"{tmp_path}.pipe")
    assert problem.startswith("data.names = ")
    assert problem.endswith("is no regular file")


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, *(f"a/{i}.png" for i in range(8)))
    name = os.fsencode(tmp_path) + b"/a/\xff.png"
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
    (problem,) = problems(tmp_path)
    assert "its name is not UTF-8" in problem
    assert "data.uri" in problem


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("state.json", b"\xff\xfe"),
        ("state.json", b"{"),
        ("state.json", b"[]"),
        ("state.json", b"{}"),
        ("state.json", b'{"_data_files": 3}'),
        ("state.json", b'{"_data_files": [3]}'),
        ("state.json", b'{"_data_files": [{"filename": null}]}'),
        ("state.json", b"[" * 100_000),
        ("dataset_info.json", b"\xff\xfe"),
        ("dataset_info.json", b"["),
        ("dataset_info.json", b"[]"),
        ("dataset_info.json", b'{"features": 3}'),
        ("dataset_info.json", b'{"features": {"label": 3}}'),
        ("dataset_info.json", b'{"features": {"label": {"names": [1, 2]}}}'),
        ("dataset_info.json", b"[" * 100_000),
    ],
)
def test_broken_records_of_datasets_are_said(file: str, content: bytes, tmp_path: Path) -> None:
    saved = shutil.copytree(HUGGINGFACE / "saved", tmp_path / "saved")
    if file == "dataset_info.json":  # the schema's own word goes first
        for table in saved.rglob("*.arrow"):
            without_metadata(table)
    for damaged in saved.rglob(file):
        damaged.write_bytes(content)
    (problem,) = problems(saved, kind="datasets")
    assert file in problem
    assert "is damaged" in problem


def without_metadata(file: Path) -> None:
    with pa.memory_map(str(file)) as stream:
        table = pa.ipc.open_stream(stream).read_all().replace_schema_metadata(None)
    with pa.OSFile(f"{file}.new", "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    Path(f"{file}.new").rename(file)
