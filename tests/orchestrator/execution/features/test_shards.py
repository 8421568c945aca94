"""Reports of shards lie in the storage, where others may write: none is trusted by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.execution.features.shards import FinishedShard, Shard, finished_shards
from orchestrator.storage.store import Store
from trainables.datasets.images.image_store import ShardReport

SHARD = Shard("key", "train", 0, 0, 10)
AT = "0123456789abcdef0123456789abcdef/train/part-00000.parquet"
FILE: dict[str, int | str] = {"bytes": 4, "sha256": "a" * 64, "at": AT}
FINISHED = FinishedShard(ShardReport(9, [("a.png", "cut")], {"grey": 2}), FILE, 1.5)


def changed(*path: str, to: object) -> bytes:
    content: dict[str, Any] = json.loads(FINISHED.dump())
    part = content
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = to
    return json.dumps(content).encode()


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    FINISHED.write(store, SHARD)
    assert finished_shards(store, "key") == {SHARD.name: FINISHED}


@pytest.mark.parametrize(
    "at", [AT.replace("train/", "images_test/"), f"{'0' * 32}/text.safetensors"]
)
def test_every_file_of_a_shard_has_its_place(at: str) -> None:
    assert FinishedShard.parse(changed("file", "at", to=at)).file["at"] == at


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"\xff",
        b"null",
        pytest.param(b"[" * 200_000, id="nested lists"),
        pytest.param(b'{"report":' * 200_000, id="nested objects"),
        changed("report", "images", to="many"),
        changed("report", "images", to=-1),
        changed("report", "unreadable", to=[["a.png"]]),
        changed("report", "unreadable", to={}),
        changed("report", "treated", to=["grey"]),
        changed("file", to={}),
        changed("file", "bytes", to="4"),
        changed("file", "sha256", to="short"),
        changed("file", "sha256", to=None),
        changed("file", "at", to="../../../../home/id_ed25519"),
        changed("file", "at", to=f"{'0' * 32}/../../../secret"),
        changed("file", "at", to=f"{'0' * 32}/train/../part-00000.parquet"),
        changed("file", "at", to="/etc/passwd"),
        changed("file", "at", to=f"{AT}\n"),
        changed("file", "name", to="x"),
        changed("seconds", to="x"),
        changed("seconds", to=float("nan")),
    ],
)
def test_a_shard_whose_report_is_damaged_is_made_again(report: bytes, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    FINISHED.write(store, SHARD)
    store.write("work/key/reports/val-0-10.json", report)
    assert finished_shards(store, "key") == {SHARD.name: FINISHED}
