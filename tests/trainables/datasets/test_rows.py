"""Batches: joined rows, a repeatable order, the same for any number of workers."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import trainables.datasets.rows
from tests.trainables.conftest import Small
from tests.trainables.shards import write_shards
from tests.trainables.small import (
    NAMES,
    SHARD,
    make_space,
    png,
    save_teacher,
    write_images,
    write_world,
)
from trainables.datasets.arrays import decode_image, read_tensor, tensor_column
from trainables.datasets.batches import Batches, in_order
from trainables.datasets.images.decode import UnreadableImageError
from trainables.datasets.images.image_store import count_images, image_column, read_rows
from trainables.datasets.rows import Rows, part_file
from trainables.training.precompute import TeacherFeatures

COLUMNS = ("image", "classes", "y_hat", "pooled", "tokens")


def rows_of(small: Small, columns: tuple[str, ...] = ("classes",)) -> Rows:
    return Rows("train", columns, small.world, small.latents, small.features, SHARD)


def test_tensor_columns_come_back_as_they_were(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float16)
    field, array = tensor_column("x", values)
    table = pa.Table.from_arrays([array], schema=pa.schema([field]))
    pq.write_table(table, tmp_path / "x.parquet")
    read = pq.read_table(tmp_path / "x.parquet")
    assert np.array_equal(read_tensor(read, "x"), values)
    assert np.array_equal(read_tensor(read.slice(2, 2), "x"), values[2:4])


def test_read_rows_crosses_row_groups(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": list(range(17))}), tmp_path / "x.parquet", row_group_size=4)
    for start, stop in ((0, 17), (3, 5), (4, 8), (11, 17), (16, 20)):
        table = read_rows(tmp_path / "x.parquet", (start, stop), ["x"])
        assert table.column("x").to_pylist() == list(range(start, min(stop, 17)))


def test_copies_beside_the_parts_of_a_split_are_not_read(
    small_stages: Small, tmp_path: Path
) -> None:
    """As a file manager leaves them; a stage is looked at by what its manifest lists."""
    world, features = tmp_path / "world", shutil.copytree(small_stages.features, tmp_path / "f")
    (world / "images_train").mkdir(parents=True)
    for number in (0, 99_999, 100_000):
        part = pa.table({"image_id": [f"{number}"]})
        pq.write_table(part, world / "images_train" / f"part-{number:05d}.parquet")
    for directory in (world / "images_train", features / "train"):
        for copy in ("part-00000 (copy)", "part-00000.1", "part-000000", "part-0", "copy"):
            shutil.copy(directory / "part-00000.parquet", directory / f"{copy}.parquet")
    assert count_images(world, "train") == 3
    assert image_column(world, "train", "image_id").to_pylist() == ["0", "99999", "100000"]
    rows = Rows("train", ("pooled",), small_stages.world, None, features, SHARD)
    assert len(rows) == len(rows_of(small_stages, ("pooled",)))


def test_rows_of_all_sources_belong_together(small_stages: Small) -> None:
    batch = Batches(rows_of(small_stages, COLUMNS), 7, seed=3).read(1)
    world = pq.read_table(small_stages.world / "images_train.parquet").to_pylist()
    records = {row["image_id"]: row for row in world}
    parts = {"y_hat": small_stages.latents, "pooled": small_stages.features}
    for number, image_id in enumerate(batch.ids):
        row = records[image_id]
        pixels = decode_image(row["png"]).transpose(2, 0, 1) / 255.0
        np.testing.assert_allclose(batch.image[number], pixels, atol=1e-6)
        target = np.zeros(len(NAMES))
        target[row["classes"]] = 1 / len(row["classes"])
        np.testing.assert_allclose(batch.classes[number], target)
        shard, place = divmod(int(image_id.split("-")[1]), SHARD)
        for name, directory in parts.items():
            table = pq.read_table(part_file(directory, "train", shard))
            stored = read_tensor(table, name)[place]
            assert np.array_equal(getattr(batch, name)[number].numpy(), stored.astype(np.float32))


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(small_stages: Small) -> None:
    batches = Batches(rows_of(small_stages), 5, seed=0)
    epochs = [[i for step in range(4) for i in batches.read(4 * e + step).ids] for e in range(3)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len(set(epochs[0])) == 20
    assert epochs[0] != epochs[1] != epochs[2]


def test_small_buffers_still_give_every_row(small_stages: Small) -> None:
    # Batches of 6 straddle groups of one shard (8, 8 and 4 rows) and epochs of 20 rows.
    batches = Batches(rows_of(small_stages), 6, seed=0, buffer_rows=SHARD)
    seen = Counter(i for step in range(10) for i in batches.read(step).ids)
    assert set(seen.values()) == {3}
    assert len(seen) == 20


@pytest.mark.parametrize("buffer_rows", [SHARD, 2 * SHARD, 4096])
def test_the_order_is_the_shuffled_shards_then_their_shuffled_rows(
    small_stages: Small, buffer_rows: int
) -> None:
    sizes, per_group, seed = [8, 8, 4], min(3, buffer_rows // SHARD), 5
    order: list[str] = []
    for epoch in range(3):
        shards = np.random.default_rng((seed, epoch)).permutation(3)
        for group, start in enumerate(range(0, 3, per_group), 1):
            ids = [
                f"train-{SHARD * shard + row:03d}"
                for shard in shards[start : start + per_group]
                for row in range(sizes[shard])
            ]
            rows = np.random.default_rng((seed, epoch, group)).permutation(len(ids))
            order += [ids[row] for row in rows]
    batches = Batches(rows_of(small_stages), 7, seed, buffer_rows=buffer_rows)
    read = [batches.read(step) for step in range(8)]
    assert [i for batch in read for i in batch.ids] == order[:56]
    assert all(batch.positions == tuple(range(7)) for batch in read)


@pytest.mark.parametrize("buffer_rows", [SHARD, 4096])
def test_the_order_is_a_function_of_seed_and_step(small_stages: Small, buffer_rows: int) -> None:
    def read(seed: int, steps: list[int]) -> list[tuple[str, ...]]:
        batches = Batches(rows_of(small_stages), 6, seed, buffer_rows=buffer_rows)
        return [batches.read(step).ids for step in steps]

    forwards = read(1, list(range(8)))
    assert read(1, [7, 2, 5]) == [forwards[7], forwards[2], forwards[5]]
    assert read(2, list(range(8))) != forwards


@pytest.mark.parametrize("workers", [2, 3, 4])
@pytest.mark.parametrize("buffer_rows", [SHARD, 4096])
def test_workers_share_the_global_batches(
    small_stages: Small, workers: int, buffer_rows: int
) -> None:
    whole = Batches(rows_of(small_stages, COLUMNS), 7, seed=0)
    slices = [
        Batches(rows_of(small_stages, COLUMNS), 7, 0, rank, workers) for rank in range(workers)
    ]
    for step in range(5):
        expected = whole.read(step)
        parts = [batches.read(step) for batches in slices]
        assert sorted(sum((part.positions for part in parts), ())) == list(range(7))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        for part in parts:
            assert part.ids == tuple(expected.ids[position] for position in part.positions)
            assert torch.equal(part.tokens, expected.tokens[list(part.positions)])


def test_a_worker_reads_the_shards_of_its_rows_only(tmp_path: Path) -> None:
    write_world(tmp_path, train=512)
    counts: dict[int, list[int]] = {}
    for workers in (1, 2, 4, 8):
        for rank in range(workers):
            # Eight shards of 64 rows in one group; an epoch has 16 batches of 32.
            rows = Rows("train", ("classes",), tmp_path, None, None, 64)
            batches = Batches(rows, 32, 0, rank, workers)

            def read(steps: range, batches: Batches = batches) -> set[int]:
                return {int(i[-3:]) // 64 for step in steps for i in batches.read(step).ids}

            first = read(range(16))
            begun = set(rows._cache._shards)
            # Those of the second epoch have been read ahead.
            assert begun == first | read(range(16, 32))
            counts.setdefault(workers, []).append(len(first))
    # Without regard to shards, each of the workers would read all eight.
    # Without regard to shards, each worker would read all eight: 8, 16, 32 and 64.
    assert {workers: sum(n) for workers, n in counts.items()} == {1: 8, 2: 11, 4: 16, 8: 27}


@pytest.mark.parametrize(("ahead", "counts"), [(True, [5, 6, 7, 8, 5, 6, 7, 8]), (False, [4] * 8)])
def test_a_group_is_read_while_the_one_before_is_used(
    tmp_path: Path, ahead: bool, counts: list[int]
) -> None:
    write_world(tmp_path, train=128)
    rows = Rows("train", ("classes",), tmp_path, None, None, SHARD, room=0)
    # Four groups of four shards of 8 rows: four steps of 8 each.
    batches = Batches(rows, 8, 0, buffer_rows=4 * SHARD, ahead=ahead)
    used: list[set[int]] = []
    in_memory: list[set[int]] = []
    for step in range(16):
        used.append({int(i[-3:]) // SHARD for i in batches.read(step).ids})
        in_memory.append(set(rows._cache._shards))
    groups = [set().union(*used[start : start + 4]) for start in (0, 4, 8, 12)]
    assert [len(group) for group in groups] == [4, 4, 4, 4]
    assert [len(shards) for shards in in_memory[:8]] == counts
    for step, shards in enumerate(in_memory[:12]):
        assert groups[step // 4] <= shards <= groups[step // 4] | groups[step // 4 + 1]


def test_more_workers_than_images_are_refused(small_stages: Small) -> None:
    with pytest.raises(ValueError, match=r"batch_size 2.* 3 "):
        Batches(rows_of(small_stages), 2, 0, 0, 3)


def test_validation_reads_every_row_once_in_order(small_stages: Small) -> None:
    rows = rows_of(small_stages)
    one = [i for batch in in_order(rows, 6) for i in batch.ids]
    assert one == [f"train-{i:03d}" for i in range(20)]
    two = [i for rank in (1, 0) for batch in in_order(rows, 6, rank, 2) for i in batch.ids]
    assert sorted(two) == one


def drop_row(file: Path, row: int) -> None:
    table = pq.read_table(file)
    keep = [i for i in range(len(table)) if i != row]
    pq.write_table(table.take(keep), file)


def test_rows_missing_from_a_part_are_left_out(small_stages: Small, tmp_path: Path) -> None:
    features = shutil.copytree(small_stages.features, tmp_path / "features")
    latents = shutil.copytree(small_stages.latents, tmp_path / "latents")
    drop_row(part_file(features, "train", 1), 2)
    drop_row(part_file(latents, "train", 1), 5)
    rows = Rows("train", COLUMNS, small_stages.world, latents, features, SHARD)
    assert len(rows) == 18
    whole = Rows(
        "train", COLUMNS, small_stages.world, small_stages.latents, small_stages.features, SHARD
    )
    expected = {i: t for b in in_order(whole, 4) for i, t in zip(b.ids, b.y_hat, strict=True)}
    for batch in in_order(rows, 4):
        for image_id, y_hat in zip(batch.ids, batch.y_hat, strict=True):
            assert image_id not in ("train-010", "train-013")
            assert torch.equal(y_hat, expected[image_id])


def test_parts_of_another_world_are_refused(small_stages: Small, tmp_path: Path) -> None:
    features = shutil.copytree(small_stages.features, tmp_path / "features")
    shutil.copy(part_file(features, "train", 0), part_file(features, "train", 1))
    rows = Rows("train", ("pooled",), small_stages.world, None, features, SHARD)
    rows.batch([(0, 0), (2, 3)])
    with pytest.raises(ValueError, match=r"part-00001\.parquet"):
        rows.batch([(1, 0)])


@pytest.mark.parametrize("other_rows", [[0, 1, 2], [1, 0, 2], [*range(8), 0]])
def test_parts_of_another_size_are_checked_at_once(
    small_stages: Small, tmp_path: Path, other_rows: list[int]
) -> None:
    features = shutil.copytree(small_stages.features, tmp_path / "features")
    file = part_file(features, "train", 1)
    pq.write_table(pq.read_table(part_file(features, "train", 0)).take(other_rows), file)
    with pytest.raises(ValueError, match=r"part-00001\.parquet"):
        Rows("train", ("pooled",), small_stages.world, None, features, SHARD)


def test_only_footers_are_read_before_the_first_batch(
    small_stages: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = shutil.copytree(small_stages.features, tmp_path / "features")
    drop_row(part_file(features, "train", 1), 2)
    read: list[Path] = []
    plain = pq.read_table

    def read_table(file: Path, **options: object) -> pa.Table:
        read.append(file)
        return plain(file, **options)

    monkeypatch.setattr(pq, "read_table", read_table)
    rows = Rows("train", COLUMNS, small_stages.world, small_stages.latents, features, SHARD)
    assert rows.sizes == [8, 7, 4]
    # The ids of the incomplete shard, from both its parts.
    parts = [part_file(directory, "train", 1) for directory in (small_stages.latents, features)]
    assert sorted(read) == sorted(parts)


def test_small_sets_are_decoded_once_and_large_ones_stay_within_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, "val", 20)
    decoded: list[bytes] = []

    def decode(data: bytes) -> np.ndarray:
        decoded.append(data)
        return decode_image(data)

    monkeypatch.setattr(trainables.datasets.rows, "decode_image", decode)
    pixels = 64 * 64 * 3
    for room, fewest, most in ((40 * pixels, 0, 0), (10 * pixels, 10, 20), (0, 20, 20)):
        rows = Rows("val", ("image",), tmp_path, None, None, 4, room=room)
        first = [batch.image for batch in in_order(rows, 6)]
        assert len(decoded) == 20
        decoded.clear()
        second = [batch.image for batch in in_order(rows, 6)]
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert fewest <= len(decoded) <= most
        assert rows._cache.n_bytes <= room
        decoded.clear()


def test_damaged_images_are_known_as_such() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    whole = png(noise)
    for data in (b"", b"no image", whole[:40], whole[: len(whole) // 2]):
        with pytest.raises(UnreadableImageError):
            decode_image(data)


def test_a_base_codec_trains_past_an_unreadable_image(tmp_path: Path) -> None:
    write_images(tmp_path, "train", 6)
    good = Rows("train", ("image",), tmp_path, None, None, SHARD)
    expected = next(in_order(good, 6)).image
    write_images(tmp_path, "train", 6, unreadable=(2, 5))
    (tmp_path / "classes.json").write_text(json.dumps({"names": [], "templates": []}))
    damaged = Rows("train", ("image",), tmp_path, None, None, SHARD)
    found = next(in_order(damaged, 6)).image
    assert torch.equal(found, expected[[0, 1, 3, 3, 4, 0]])


@pytest.mark.parametrize("size", [3, 5, 20])
def test_training_reads_the_same_whatever_the_files_hold(
    small_stages: Small, tmp_path: Path, size: int
) -> None:
    """Twenty rows in files of 3, 5 or 20, of which shards of 8 are read."""
    features = TeacherFeatures(make_space(small_stages.root / "teacher"))
    write_shards(features, small_stages.world, tmp_path, size=size)
    columns = ("image", "y_hat", "pooled", "tokens")
    sources = small_stages.world, small_stages.latents
    given = Batches(Rows("train", columns, *sources, tmp_path, SHARD), 6, seed=3)
    expected = Batches(rows_of(small_stages, columns), 6, seed=3)
    for step in range(7):
        batch, other = given.read(step), expected.read(step)
        assert batch.ids == other.ids
        for name, tensor in batch.tensors.items():
            assert torch.equal(tensor, other.tensors[name]), name


@pytest.mark.parametrize("size", [3, 20])
def test_rows_missing_from_files_of_another_size_are_left_out(tmp_path: Path, size: int) -> None:
    write_images(tmp_path, "train", 20, unreadable=(2, 8, 9))
    model = TeacherFeatures(make_space(save_teacher(tmp_path / "teacher")))
    write_shards(model, tmp_path, tmp_path / "features", ("train",), size)
    rows = Rows("train", ("pooled",), tmp_path, None, tmp_path / "features", SHARD)
    assert rows.sizes == [7, 6, 4]
    (whole,) = in_order(rows, 99)
    assert whole.ids == tuple(f"train-{i:03d}" for i in range(20) if i not in (2, 8, 9))
    files = sorted((tmp_path / "features" / "train").iterdir())
    stored = [read_tensor(pq.read_table(file), "pooled") for file in files]
    assert np.array_equal(whole.pooled.half().numpy(), np.concatenate(stored))


def test_files_of_fewer_rows_than_the_world_are_refused(
    small_stages: Small, tmp_path: Path
) -> None:
    features = shutil.copytree(small_stages.features, tmp_path / "features")
    part_file(features, "train", 2).unlink()
    with pytest.raises(ValueError, match=r"20 rows.* 16"):
        Rows("train", ("pooled",), small_stages.world, None, features, SHARD)
